//! What befalls ranks in the middle of their training: a failure of one, another run, and a pause of all.

use crate::binary_for;
use crate::equality::newest;
use crate::faults::{assert_blames, endless};
use crate::ports::free_port;
use crate::program::command;
use crate::start::{Place, Site};
use crate::waiting::journal_lines;
use selfcls_core::data::{Shapes, Source};
use selfcls_tests::not_run;
use std::path::Path;
use std::time::Duration;

/// The same pictures in a folder.
fn write_pictures(folder: &Path) {
    std::fs::create_dir(folder).expect("creates");
    let shapes = Shapes::new(40, 0, 16);
    for index in 0..40 {
        let image = shapes.image(index).expect("drawn");
        let path = folder.join(format!("{index:02}.png"));
        selfcls_core::picture::write_png(&path, &image).expect("written");
    }
}

/// Each rank reads a copy of its own, as on machines with disks of their own. One of these breaks.
#[test]
fn a_picture_that_breaks_ends_all() {
    let Some(binary) = binary_for("midway::a_picture_that_breaks_ends_all") else {
        return;
    };
    let place = Place::new(binary);
    let copies = [0, 1, 2].map(|rank| place.path(&format!("copy-{rank}")));
    for copy in &copies {
        write_pictures(copy);
    }
    let mut config = endless();
    config.data.cache_mib = 0;
    let mut ranks = place.start("run", &config, 3, |rank| {
        Some(vec!["--data".into(), copies[rank].display().to_string()])
    });
    ranks.reached(&place.path("run"), 3);
    ranks.mark();
    for index in 0..40 {
        let path = copies[1].join(format!("{index:02}.png"));
        let bytes = std::fs::read(&path).expect("reads");
        std::fs::write(&path, &bytes[..bytes.len() / 2]).expect("written");
    }
    let ended = ranks.wait();
    assert_eq!(ended[1].status.code(), Some(1), "{}", ended[1].stderr);
    assert!(ended[1].stderr.contains(".png"), "{}", ended[1].stderr);
    for other in [0, 2] {
        assert_blames(&ended[other], 1, "rank 1 has ended: ", 0);
        assert!(
            ended[other].stderr.contains("copy-1/"),
            "{}",
            ended[other].stderr
        );
    }
}

/// A disk that has no room for the second checkpoint: the first stays as it was, and the others hear the reason.
#[test]
fn a_full_disk_of_the_first_rank_ends_all() {
    let name = "midway::a_full_disk_of_the_first_rank_ends_all";
    let Some(binary) = binary_for(name) else {
        return;
    };
    let mount = |run: &Path, size: usize| {
        let mut command = command("unshare");
        let script = r#"mount -t tmpfs -o size="$1" none "$2" && shift 2 && exec "$@""#;
        command.args(["--mount", "sh", "-c", script, "sh"]);
        command.arg(size.to_string()).arg(run);
        command
    };
    let place = Place::new(binary.clone());
    let run = place.path("run");
    std::fs::create_dir(&run).expect("creates");
    let tried = mount(&run, 4096).arg("true").output();
    match tried {
        Ok(tried) if tried.status.success() => {}
        Ok(tried) => {
            let said = String::from_utf8_lossy(&tried.stderr).into_owned();
            return not_run(&format!("processes::{name}"), said.trim());
        }
        Err(error) => return not_run(&format!("processes::{name}"), error),
    }
    // What one checkpoint takes, and a half of the second.
    let mut config = endless();
    config.checkpoint.every_steps = 2;
    config.train.epochs = 1;
    place.train("measure", &config, 1);
    let checkpoints = selfcls_core::checkpoint::list(&place.path("measure")).expect("a folder");
    let newest = checkpoints.last().expect("a checkpoint");
    let files = std::fs::read_dir(newest).expect("a folder").flatten();
    let size: u64 = files
        .map(|file| file.metadata().expect("a file").len())
        .sum();
    config.train.epochs = 100_000;
    let room = 3 * size as usize / 2 + 64 * 1024;
    let site = Site {
        address: "127.0.0.1",
        port: free_port(),
        ranks_of_a_machine: 2,
        command: &|rank| match rank {
            0 => {
                let mut command = mount(&run, room);
                command.arg(&binary);
                command
            }
            _ => command(&binary),
        },
    };
    let ended = place
        .start_at(&site, "run", &config, 2, |_| Some(Vec::new()))
        .wait();
    assert_eq!(ended[0].status.code(), Some(1), "{}", ended[0].stderr);
    assert!(
        ended[0].stderr.contains("No space left"),
        "{}",
        ended[0].stderr
    );
    // The images were read before.
    assert_blames(&ended[1], 0, "rank 0 has ended: ", 60);
    assert!(
        ended[1].stderr.contains("No space left"),
        "{}",
        ended[1].stderr
    );
}

/// As batch systems suspend jobs: all stand still for longer than they may wait for each other, and go on.
#[test]
fn a_pause_of_all_is_none_of_one() {
    let Some(binary) = binary_for("midway::a_pause_of_all_is_none_of_one") else {
        return;
    };
    let place = Place::new(binary);
    let mut config = endless();
    config.train.timeout_seconds = 10;
    let mut ranks = place.start("run", &config, 2, |_| Some(Vec::new()));
    let run = place.path("run");
    ranks.reached(&run, 3);
    for rank in [0, 1] {
        ranks.signal(rank, "STOP");
    }
    // Longer than the timeout, and than libtorch waits where it has a limit.
    std::thread::sleep(Duration::from_secs(30));
    let before = journal_lines(&run);
    for rank in [0, 1] {
        ranks.signal(rank, "CONT");
    }
    // And then for longer than it takes to judge.
    std::thread::sleep(Duration::from_secs(15));
    ranks.reached(&run, before + 3);
    ranks.signal(1, "TERM");
    let ended = ranks.wait();
    assert_eq!(ended[0].status.code(), Some(75), "{}", ended[0].stderr);
    assert_eq!(ended[1].status.code(), Some(130), "{}", ended[1].stderr);
    assert!(newest(&run).manifest.position.step >= 6);
}

/// Both were told the same place. The second ends at once, and the first does not notice.
#[test]
fn another_run_at_the_same_place_disturbs_nobody() {
    let Some(binary) = binary_for("midway::another_run_at_the_same_place_disturbs_nobody") else {
        return;
    };
    let place = Place::new(binary.clone());
    let config = endless();
    let site = Site {
        address: "127.0.0.1",
        port: free_port(),
        ranks_of_a_machine: 2,
        command: &|_| command(&binary),
    };
    let start = |run: &str| place.start_at(&site, run, &config, 2, |_| Some(Vec::new()));
    let mut first = start("first");
    let run = place.path("first");
    first.reached(&run, 3);
    let second = start("second").wait();
    for (ended, said) in second
        .iter()
        .zip(["cannot open the meeting point", "another run meets"])
    {
        assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
        assert!(ended.stderr.contains(said), "{}", ended.stderr);
        assert!(
            ended.stderr.contains("choose another MASTER_PORT"),
            "{}",
            ended.stderr
        );
    }
    // Longer than it takes to hear of a failure, or to miss a rank.
    std::thread::sleep(Duration::from_secs(2 * config.train.timeout_seconds));
    let before = journal_lines(&run);
    first.reached(&run, before + 3);
    first.signal(1, "TERM");
    let ended = first.wait();
    assert_eq!(ended[0].status.code(), Some(75), "{}", ended[0].stderr);
    assert_eq!(ended[1].status.code(), Some(130), "{}", ended[1].stderr);
}
