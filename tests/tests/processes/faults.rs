//! A rank that dies, hangs, never comes or is given something else: all others end, and say which.

use crate::binary_for;
use crate::program::command;
use crate::start::{Ended, Place, config};
use selfcls_core::Config;
use std::time::Duration;

/// A training that would last for long, whose ranks give each other up after seconds.
pub(crate) fn endless() -> Config {
    let mut config = config();
    config.train.epochs = 100_000;
    config.checkpoint.milestone_epochs = 0;
    config.train.timeout_seconds = 12;
    config
}

/// How much longer than the timeout ranks may take to end: those that are ended from beside have a moment to do so by
/// themselves, and the one that keeps the store lets the others read there who is to blame. Test machines are busy.
const MORE: Duration = Duration::from_secs(24);

/// What ranks do together in a training that is under way.
const OPERATIONS: [&str; 5] = [
    "adding up values",
    "adding up gradients",
    "finding maxima",
    "gathering rows",
    "sending rank 0's state to all",
];

/// Failed within the timeout and [`MORE`], and said of rank `rank` in some operation what is expected.
pub(crate) fn assert_blames(ended: &Ended, rank: usize, text: &str, timeout: u64) {
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    let said = &ended.stderr;
    let operation = |name: &&str| said.contains(&format!("{name} failed: "));
    assert!(
        OPERATIONS.iter().any(operation),
        "names the operation: {said}"
    );
    assert!(
        said.contains(&format!("rank {rank} ")) && said.contains(text),
        "{said}"
    );
    assert!(!said.contains("panicked"), "{said}");
    let limit = Duration::from_secs(timeout) + MORE;
    assert!(ended.after < limit, "{:?}: {said}", ended.after);
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
            // Connections that are closed are noticed at once.
            assert_blames(&ended, killed, text, 0);
        }
    }
}

/// One that stops answering is given up after the timeout, also the one that keeps the store.
#[test]
fn a_hanging_rank_is_named() {
    let Some(binary) = binary_for("a_hanging_rank_is_named") else {
        return;
    };
    for stopped in [1, 0] {
        let place = Place::new(binary.clone());
        let config = endless();
        let mut ranks = place.start("run", &config, 3, |_| Some(Vec::new()));
        ranks.reached(&place.path("run"), 3);
        ranks.signal(stopped, "STOP");
        let others: Vec<usize> = (0..3).filter(|&rank| rank != stopped).collect();
        let timeout = config.train.timeout_seconds;
        for ended in ranks.wait_for(&others) {
            // Who keeps the store may be missed there first.
            let gone = "rank 0 is gone, and with it the meeting point";
            let text = match stopped == 0 && ended.stderr.contains(gone) {
                true => gone,
                false => "no sign of life",
            };
            assert_blames(&ended, stopped, text, timeout);
            assert!(
                ended.after > Duration::from_secs(timeout / 2),
                "given up too early: {:?}",
                ended.after
            );
        }
    }
}

#[test]
fn a_rank_that_never_comes_is_named() {
    let Some(binary) = binary_for("a_rank_that_never_comes_is_named") else {
        return;
    };
    let place = Place::new(binary);
    let mut config = config();
    config.train.timeout_seconds = 10;
    let ranks = place.start("run", &config, 3, |rank| (rank != 1).then(Vec::new));
    let ended = ranks.wait();
    for ended in &ended {
        assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
        // From the start of the processes, which load libtorch first.
        let limit = Duration::from_secs(config.train.timeout_seconds) + 2 * MORE;
        assert!(ended.after < limit, "{:?}", ended.after);
    }
    for ended in &ended {
        let said = &ended.stderr;
        assert!(said.contains("rank 1 of 3 did not come"), "{said}");
    }
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
        // As many images, and others.
        ("--data shapes:40:1", "the 40 images of shapes:40:1"),
    ] {
        let place = Place::new(binary.clone());
        let other = argument(more);
        let ranks = place.start("run", &config(), 2, |rank| {
            Some(if rank == 1 { other.clone() } else { Vec::new() })
        });
        let ended = ranks.wait();
        assert_eq!(ended[1].status.code(), Some(1), "{}", ended[1].stderr);
        assert!(ended[1].stderr.contains(reason), "{}", ended[1].stderr);
        assert_blames(&ended[0], 1, reason, config().train.timeout_seconds);
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
    let output = command(binary)
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
