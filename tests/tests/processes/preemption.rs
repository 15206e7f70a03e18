//! Making room: SIGUSR1 ends all ranks after a checkpoint, and the next start goes on at that step. (Slurm's jobs: `jobs`.)

use crate::binary_for;
use crate::faults::endless;
use crate::launchers::{RANK_1_WAS_ASKED, assert_same_to_the_bit, assert_stopped, signal_rank};
use crate::program::{command, send_signal, train_in};
use crate::ran::Ran;
use crate::seen::{children, is_pending, rank_process, state};
use crate::start::{Place, config};
use crate::waiting::{journal_lines, wait_until};
use selfcls_core::Config;
use selfcls_core::checkpoint::RunLock;
use selfcls_tests::preloaded;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// Long enough to be interrupted, short enough to be waited for.
pub(crate) fn long() -> Config {
    let mut config = config();
    config.train.epochs = 20;
    config.checkpoint.milestone_epochs = 0;
    config
}

/// Asks all ranks of the training in `run` to make room by `ask`, while its rank 1, which `variable` tells from others, is stopped
/// and rank 0 cannot go on: else it could be over before they hear it.
pub(crate) fn ask_in_time(
    run: &Path,
    variable: &str,
    ask: impl FnOnce(),
    look: impl FnMut() -> (bool, String),
) {
    let heard = || {
        let log = std::fs::read_to_string(run.join("log.txt")).unwrap_or_default();
        log.matches("asked to make room").count()
    };
    let before = heard();
    let stopped = rank_process(run, variable);
    send_signal(&stopped, "STOP");
    ask();
    wait_until("answer of rank 0", || heard() > before, look);
    send_signal(&stopped, "CONT");
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
        let lines = lines.max(journal_lines(&run) + 2);
        let mut launch = launch();
        let ran = Ran::while_running(&mut launch, |launcher| {
            launcher.reached(&run, lines);
            let number = launcher.id();
            let ask = || send_signal(number, "USR1");
            ask_in_time(&run, "RANK=1", ask, || launcher.look());
        });
        assert_eq!(ran.code, Some(75), "{ran:#?}");
        let step = assert_stopped(&ran, &run);
        assert!(step > stopped_at && step < 20 * 4, "{step}: {ran:#?}");
        stopped_at = step;
    }
    Ran::of(&mut launch()).succeeded();
    assert_same_to_the_bit(&run, &place.path("undisturbed"));
}

/// One rank is enough, and rank 0, which speaks for all, says which one it was.
#[test]
fn a_request_to_one_rank_stops_all() {
    let Some(binary) = binary_for("a_request_to_one_rank_stops_all") else {
        return;
    };
    for (signal, code) in [("TERM", 130), ("USR1", 75)] {
        let place = Place::new(binary.clone());
        let run = place.path("run");
        let mut launch = command(&binary);
        launch
            .args(["launch", "--nproc", "2", "--"])
            .args(train_in(&place, &endless()));
        let ran = Ran::while_running(&mut launch, |launcher| {
            launcher.reached(&run, 3);
            signal_rank(&run, "RANK=1", signal);
        });
        assert_eq!(ran.code, Some(code), "{ran:#?}");
        assert!(ran.stderr.contains(RANK_1_WAS_ASKED), "{ran:#?}");
        assert_stopped(&ran, &run);
        let log = std::fs::read_to_string(run.join("log.rank1.txt")).expect("a log");
        assert!(log.contains("finishing the step"), "{log}");
    }
}

/// While rank 0 waits for a folder that another process has, the others wait for it: all end alike.
#[test]
fn a_request_while_the_folder_is_waited_for_is_no_failure() {
    let name = "a_request_while_the_folder_is_waited_for_is_no_failure";
    let Some(binary) = binary_for(name) else {
        return;
    };
    let place = Place::new(binary);
    let mut patient = config();
    patient.train.timeout_seconds = 300;
    let never = AtomicBool::new(false);
    let _held = RunLock::acquire(&place.path("run"), Duration::ZERO, &never, &mut |_| ())
        .expect("a new folder");
    // Of ranks that were not asked themselves the code is the smaller one.
    for (signal, asked, codes) in [
        ("TERM", &[1, 0][..], [130, 130]),
        ("TERM", &[0], [130, 75]),
        ("USR1", &[0], [75, 75]),
    ] {
        let mut ranks = place.start("run", &patient, 2, |_| Some(Vec::new()));
        ranks.says(0, "waiting for it");
        for &rank in asked {
            ranks.signal(rank, signal);
            // Rank 0, when it ends, ends the others.
            ranks.says(rank, "ending as soon as nothing is lost");
        }
        for (ended, code) in ranks.wait().iter().zip(codes) {
            assert_eq!(ended.status.code(), Some(code), "{ended:#?}");
        }
    }
}

/// A library for `LD_PRELOAD` that lets no rank of a launch into `main` before the file `gate` is there.
fn waiting_for(gate: &Path, place: &Place) -> PathBuf {
    let text = format!(
        "#include <stdlib.h>
#include <unistd.h>
__attribute__((constructor)) static void begin(void) {{
    while (getenv(\"SELFCLS_LAUNCH\") && access(\"{}\", F_OK)) usleep(1000);
}}
",
        gate.display()
    );
    preloaded(&place.path(""), "gate", &text)
}

/// Ranks that cannot listen yet, for they are still loading libtorch, hear it later: no failure, and not the end of one alone.
#[test]
fn a_request_in_the_first_moment_is_heard() {
    let Some(binary) = binary_for("a_request_in_the_first_moment_is_heard") else {
        return;
    };
    let place = Place::new(binary.clone());
    for (signal, code) in [("USR1", 75), ("TERM", 130)] {
        let gate = place.path("gate");
        let mut launch = command(&binary);
        launch
            .args(["launch", "--nproc", "2", "--max-restarts", "1", "--"])
            .args(train_in(&place, &endless()))
            .env("LD_PRELOAD", waiting_for(&gate, &place));
        let ran = Ran::while_running(&mut launch, |launcher| {
            let number = launcher.id();
            let both = || children(number).len() == 2;
            wait_until("second rank", both, || launcher.look());
            send_signal(number, signal);
            let ranks = children(number);
            let passed_on = || ranks.iter().all(|rank| is_pending(rank, signal));
            wait_until("signal to both", passed_on, || launcher.look());
            File::create(&gate).expect("creates");
        });
        assert_eq!(ran.code, Some(code), "{ran:#?}");
        assert!(ran.stderr.contains("all ranks stopped"), "{ran:#?}");
        assert!(!ran.stderr.contains("died of signal"), "{ran:#?}");
        // Before the training begins, as a rule.
        assert!(ran.stderr.contains("asked to"), "{ran:#?}");
    }
}

/// A rank has died, and all would be started again: while the launcher waits for the end of another one, and when that has
/// just come.
#[test]
fn a_request_between_two_attempts_is_heard() {
    let name = "preemption::a_request_between_two_attempts_is_heard";
    let Some(binary) = binary_for(name) else {
        return;
    };
    // The grace is longer than anything here takes.
    for (signal, code, at_the_end) in [
        ("TERM", 130, false),
        ("USR1", 75, false),
        ("TERM", 130, true),
        ("USR1", 75, true),
    ] {
        let place = Place::new(binary.clone());
        let run = place.path("run");
        let mut launch = command(&binary);
        launch
            .args(["launch", "--nproc", "2", "--max-restarts", "1"])
            .args(["--grace", "600", "--"])
            .args(train_in(&place, &endless()));
        let ran = Ran::while_running(&mut launch, |running| {
            running.reached(&run, 3);
            let launcher = running.id().to_string();
            let [hangs, dies] = ["RANK=0", "RANK=1"].map(|rank| rank_process(&run, rank));
            send_signal(&hangs, "STOP");
            send_signal(&dies, "KILL");
            let seen = || state(&dies).is_none();
            wait_until("look of the launcher", seen, || running.look());
            if !at_the_end {
                send_signal(launcher, signal);
                let passed_on = || is_pending(&hangs, signal);
                wait_until("signal", passed_on, || running.look());
                return send_signal(&hangs, "KILL");
            }
            // Between its last look at the ranks and what follows.
            send_signal(&launcher, "STOP");
            let stopped = || state(&launcher) == Some('T');
            wait_until("stop", stopped, || running.look());
            send_signal(&hangs, "KILL");
            let dead = || state(&hangs) == Some('Z');
            wait_until("end of the last rank", dead, || running.look());
            send_signal(&launcher, signal);
            send_signal(&launcher, "CONT");
        });
        assert_eq!(ran.code, Some(code), "{ran:#?}");
        for said in [
            "rank 1 of 2 died of signal 9",
            "the ranks are not started again",
        ] {
            assert!(ran.stderr.contains(said), "no {said:?}: {ran:#?}");
        }
        assert!(!ran.stderr.contains("starting all"), "{ran:#?}");
    }
}
