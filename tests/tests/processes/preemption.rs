//! Making room: SIGUSR1 ends all ranks after a checkpoint, and the next start goes on at that step. (Slurm's jobs: `jobs`.)

use crate::binary_for;
use crate::launchers::{assert_same_to_the_bit, assert_stopped};
use crate::program::{command, send_signal, train_in};
use crate::ran::Ran;
use crate::start::{Place, config};
use crate::waiting::wait_until;
use selfcls_core::Config;

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
        let ran = Ran::while_running(&mut launch, |launcher| {
            launcher.reached(&run, lines);
            send_signal(launcher.id(), "USR1");
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
        let ran = Ran::while_running(&mut launch, |launcher| {
            let children = format!("/proc/{0}/task/{0}/children", launcher.id());
            let count = || {
                let children = std::fs::read_to_string(&children).unwrap_or_default();
                children.split_whitespace().count()
            };
            wait_until("second rank", || count() >= 2, || launcher.look());
            send_signal(launcher.id(), signal);
        });
        assert_eq!(ran.code, Some(code), "{ran:#?}");
        assert!(ran.stderr.contains("all ranks stopped"), "{ran:#?}");
        assert!(!ran.stderr.contains("died of signal"), "{ran:#?}");
        assert!(ran.stderr.contains("before the training began"), "{ran:#?}");
    }
}
