//! Making room: SIGUSR1 ends all ranks after a checkpoint, and the next start goes on at that step. (Slurm's jobs: `jobs`.)

use crate::binary_for;
use crate::launchers::{assert_same_to_the_bit, assert_stopped};
use crate::program::{Ran, command, send_signal, train_in};
use crate::start::{Place, config};
use selfcls_core::Config;
use std::time::Duration;

/// Long enough to be interrupted, short enough to be waited for.
pub(crate) fn long() -> Config {
    let mut config = config();
    config.train.epochs = 20;
    config.checkpoint.milestone_epochs = 0;
    config
}

/// Twice, and the end is that of undisturbed ranks. (With other numbers of ranks: `equality`.)
#[test]
fn launch_passes_the_request_on() {
    let Some(binary) = binary_for("launch_passes_the_request_on") else {
        return;
    };
    let place = Place::new(binary.clone());
    place.train("undisturbed", &long(), 2);
    let run = place.path("run");
    let launch = || {
        let mut launch = command(&binary);
        launch
            .args(["launch", "--nproc", "2", "--"])
            .args(train_in(&place, &long()));
        launch
    };
    let mut stopped_at = 0;
    for lines in [3, 30] {
        let mut launch = launch();
        let ran = Ran::while_running_with(&mut launch, |launcher| {
            place.reached("run", lines);
            send_signal(launcher, "USR1");
        });
        assert_eq!(ran.code, Some(75), "{ran:#?}");
        let step = assert_stopped(&ran, &run);
        assert!(step > stopped_at && step < 20 * 4, "{step}: {ran:#?}");
        stopped_at = step;
    }
    Ran::of(&mut launch()).succeeded();
    assert_same_to_the_bit(&run, &place.path("undisturbed"));
}

/// Ranks that cannot listen yet, for they are still loading libtorch, hear it later: no failure, and not the end of one alone.
#[test]
fn a_request_in_the_first_moment_is_heard() {
    let Some(binary) = binary_for("a_request_in_the_first_moment_is_heard") else {
        return;
    };
    let place = Place::new(binary.clone());
    for (signal, code) in [("USR1", 75), ("TERM", 130)] {
        let mut launch = command(&binary);
        launch
            .args(["launch", "--nproc", "2", "--max-restarts", "1", "--"])
            .args(train_in(&place, &config()));
        let ran = Ran::while_running_with(&mut launch, |launcher| {
            let children = format!("/proc/{launcher}/task/{launcher}/children");
            let count = || {
                let children = std::fs::read_to_string(&children).unwrap_or_default();
                children.split_whitespace().count()
            };
            while count() < 2 {
                std::thread::sleep(Duration::from_millis(1));
            }
            send_signal(launcher, signal);
        });
        assert_eq!(ran.code, Some(code), "{ran:#?}");
        assert!(ran.stderr.contains("all ranks stopped"), "{ran:#?}");
        assert!(!ran.stderr.contains("died of signal"), "{ran:#?}");
        assert!(ran.stderr.contains("before the training began"), "{ran:#?}");
    }
}
