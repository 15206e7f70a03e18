//! A rank that dies, hangs, never comes or is given something else: all others end, and say which.

use crate::binary_for;
use crate::start::{Ended, Place, config};
use selfcls_core::Config;
use std::process::Command;
use std::time::Duration;

/// A training that would last for long, whose ranks give each other up after seconds.
pub(crate) fn endless() -> Config {
    let mut config = config();
    config.train.epochs = 100_000;
    config.checkpoint.milestone_epochs = 0;
    config.train.timeout_seconds = 6;
    config
}

/// Failed, and said of rank `rank` in some operation what is expected.
fn assert_blames(ended: &Ended, rank: usize, text: &str) {
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    let said = &ended.stderr;
    assert!(said.contains(" failed: "), "names the operation: {said}");
    assert!(
        said.contains(&format!("rank {rank} ")) && said.contains(text),
        "{said}"
    );
    assert!(!said.contains("panicked"), "{said}");
}

/// The store dies with rank 0, and stays with any other.
#[test]
fn a_killed_rank_is_named() {
    let Some(binary) = binary_for("a_killed_rank_is_named") else {
        return;
    };
    for (killed, text) in [(2, "no sign of life"), (0, "is gone")] {
        let place = Place::new(binary.clone());
        let mut ranks = place.start("run", &endless(), 3, |_| Some(Vec::new()));
        ranks.reached(&place.path("run"), 3);
        ranks.signal(killed, "KILL");
        let others: Vec<usize> = (0..3).filter(|&rank| rank != killed).collect();
        for ended in ranks.wait_for(&others) {
            assert_blames(&ended, killed, text);
        }
    }
}

/// One that stops answering is given up after the timeout.
#[test]
fn a_hanging_rank_is_named() {
    let Some(binary) = binary_for("a_hanging_rank_is_named") else {
        return;
    };
    let place = Place::new(binary);
    let mut ranks = place.start("run", &endless(), 3, |_| Some(Vec::new()));
    ranks.reached(&place.path("run"), 3);
    ranks.signal(1, "STOP");
    let ended = ranks.wait_for(&[0, 2]);
    for ended in &ended {
        assert_blames(ended, 1, "no sign of life");
    }
}

#[test]
fn a_rank_that_never_comes_is_named() {
    let Some(binary) = binary_for("a_rank_that_never_comes_is_named") else {
        return;
    };
    let place = Place::new(binary);
    let mut config = config();
    config.train.timeout_seconds = 4;
    let ranks = place.start("run", &config, 3, |rank| (rank != 1).then(Vec::new));
    let ended = ranks.wait();
    for ended in &ended {
        assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
        assert!(ended.after < Duration::from_secs(60), "{:?}", ended.after);
    }
    let said = &ended[0].stderr;
    assert!(said.contains("rank 1 of 3 did not come"), "{said}");
    assert!(!place.path("run").join("config.toml").exists());
}

/// Its own reason reaches the others.
#[test]
fn a_rank_that_fails_gives_its_reason_to_all() {
    let Some(binary) = binary_for("a_rank_that_fails_gives_its_reason_to_all") else {
        return;
    };
    let argument = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    for (more, reason) in [
        // Another rate: nobody would notice before the result.
        ("--optim.lr 0.2", "optim.lr"),
        ("--train.precision fp16", "train.precision"),
        // All take part in the monitor.
        ("--monitor.samples 7", "[monitor]"),
    ] {
        let place = Place::new(binary.clone());
        let other = argument(more);
        let ranks = place.start("run", &config(), 2, |rank| {
            Some(if rank == 1 { other.clone() } else { Vec::new() })
        });
        let ended = ranks.wait();
        assert_eq!(ended[1].status.code(), Some(1), "{}", ended[1].stderr);
        assert!(ended[1].stderr.contains(reason), "{}", ended[1].stderr);
        assert_blames(&ended[0], 1, reason);
        assert!(
            ended[0].stderr.contains("rank 1 has ended"),
            "{}",
            ended[0].stderr
        );
    }
}

/// What cannot work in several processes is said before they meet.
#[test]
fn other_backends_are_refused() {
    let Some(binary) = binary_for("other_backends_are_refused") else {
        return;
    };
    let output = Command::new(binary)
        .args(["train", "--data", "shapes:40", "--out", "nowhere"])
        .env("RANK", "1")
        .env("WORLD_SIZE", "2")
        .env("LOCAL_RANK", "1")
        .env("LOCAL_WORLD_SIZE", "2")
        .env("MASTER_ADDR", "127.0.0.1")
        .env("MASTER_PORT", "1")
        .output()
        .expect("starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("flex") && said.contains("--backend tch"),
        "{said}"
    );
}
