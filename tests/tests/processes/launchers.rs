//! Launchers start, watch and end ranks; what they train is what ranks started by hand train.

use crate::binary_for;
use crate::cluster::Cluster;
use crate::equality::newest;
use crate::faults::endless;
use crate::or_not_run;
use crate::program::{command, send_signal, torchrun, train_in};
use crate::ran::Ran;
use crate::seen::rank_process;
use crate::start::{Place, config};
use std::path::Path;

/// Epochs of four steps, each with a checkpoint: long enough for a rank to die in them.
const EPOCHS: usize = 20;

/// A training by two ranks started by hand, to compare with.
fn by_hand(place: &Place) {
    place.train("hand", &config(), 2);
}

fn assert_trained_alike(place: &Place, ran: Ran) {
    ran.succeeded();
    assert_same_to_the_bit(&place.path("run"), &place.path("hand"));
}

/// Of runs by two ranks, which add the same two numbers.
pub(crate) fn assert_same_to_the_bit(ours: &Path, theirs: &Path) {
    let (ours, theirs) = (newest(ours), newest(theirs));
    assert_eq!(ours.manifest.position.step, theirs.manifest.position.step);
    for (name, array) in &theirs.model {
        assert!(array == &ours.model[name], "{name} differs");
    }
    assert!(ours.optimizer == theirs.optimizer && ours.queue == theirs.queue);
}

#[test]
fn launch_trains_as_ranks_by_hand() {
    let Some(binary) = binary_for("launch_trains_as_ranks_by_hand") else {
        return;
    };
    let place = Place::new(binary.clone());
    by_hand(&place);
    let mut launch = command(binary);
    launch
        .args(["launch", "--nproc", "2", "--"])
        .args(train_in(&place, &config()));
    let ran = Ran::of(&mut launch);
    // Standard output has the checkpoint, once.
    let checkpoint = selfcls_core::checkpoint::find(&place.path("run")).expect("a checkpoint");
    assert_eq!(
        ran.stdout,
        format!("{}\n", checkpoint.display()),
        "{ran:#?}"
    );
    assert!(ran.stderr.contains("processes: rank 0 of 2"), "{ran:#?}");
    assert_trained_alike(&place, ran);
}

#[test]
fn torchrun_trains_as_ranks_by_hand() {
    let Some(binary) = binary_for("torchrun_trains_as_ranks_by_hand") else {
        return;
    };
    let mut torchrun = or_not_run!("torchrun_trains_as_ranks_by_hand", torchrun());
    let place = Place::new(binary.clone());
    by_hand(&place);
    torchrun
        .arg("--nproc-per-node=2")
        .arg(binary)
        .args(train_in(&place, &config()));
    assert_trained_alike(&place, Ran::of(&mut torchrun));
}

/// Two nodes, started by `srun`; a rank that dies there ends the step.
#[test]
fn slurm_trains_as_ranks_by_hand() {
    let Some(binary) = binary_for("slurm_trains_as_ranks_by_hand") else {
        return;
    };
    let cluster = or_not_run!("slurm_trains_as_ranks_by_hand", Cluster::start());
    let place = Place::new(binary.clone());
    by_hand(&place);
    let mut srun = cluster.command("srun");
    srun.args(["--nodes=2", "--ntasks=2"])
        .arg(&binary)
        .args(train_in(&place, &config()));
    assert_trained_alike(&place, Ran::of(&mut srun));

    let place = Place::new(binary.clone());
    let mut srun = cluster.command("srun");
    srun.args(["--nodes=2", "--ntasks=2", "--kill-on-bad-exit=1"])
        .arg(binary)
        .args(train_in(&place, &endless()));
    let ran = Ran::while_running(&mut srun, |srun| {
        srun.reached(&place.path("run"), 3);
        kill_rank(&place.path("run"), "SLURM_PROCID=1");
    });
    assert_ne!(ran.code, Some(0), "{ran:#?}");
    assert!(ran.stderr.contains("task 1: Killed"), "{ran:#?}");
}

/// The launcher names the rank that was killed and ends the one that hangs; a restart goes on at the last checkpoint.
#[test]
fn launch_names_the_dead_and_starts_again() {
    let Some(binary) = binary_for("launch_names_the_dead_and_starts_again") else {
        return;
    };
    let place = Place::new(binary.clone());
    let mut long = config();
    long.train.epochs = EPOCHS;
    long.train.timeout_seconds = 30;
    long.checkpoint.every_steps = 1;
    let mut launch = command(&binary);
    launch
        .args([
            "launch",
            "--nproc",
            "3",
            "--max-restarts",
            "1",
            "--grace",
            "3",
            "--",
        ])
        .args(train_in(&place, &long));
    let run = place.path("run");
    let ran = Ran::while_running(&mut launch, |launcher| {
        launcher.reached(&run, 3);
        // Rank 2 cannot even notice.
        signal_rank(&run, "RANK=2", "STOP");
        kill_rank(&run, "RANK=1");
    });
    let said = [
        "rank 1 of 3 died of signal 9 (SIGKILL)",
        "rank 2 did not end by itself and was killed",
        "starting all ranks again (1 of 1 restarts)",
    ];
    assert_went_on(ran, &run, &said);
}

/// The training was restarted once, went on, and came to its end.
fn assert_went_on(ran: Ran, run: &Path, said: &[&str]) {
    for part in said
        .iter()
        .chain(&["continuing after step", "restarted once"])
    {
        assert!(ran.stderr.contains(part), "no {part:?}: {ran:#?}");
    }
    let ran = ran.succeeded();
    assert_eq!(newest(run).manifest.position.step, EPOCHS * 4, "{ran:#?}");
}

/// torchrun, too, starts all again when one has died.
#[test]
fn torchrun_starts_again() {
    let Some(binary) = binary_for("torchrun_starts_again") else {
        return;
    };
    let mut torchrun = or_not_run!("torchrun_starts_again", torchrun());
    let place = Place::new(binary.clone());
    let mut long = config();
    long.train.epochs = EPOCHS;
    long.checkpoint.every_steps = 1;
    torchrun
        .args(["--nproc-per-node=2", "--max-restarts=1"])
        .arg(binary)
        .args(train_in(&place, &long));
    let run = place.path("run");
    let ran = Ran::while_running(&mut torchrun, |agent| {
        agent.reached(&run, 3);
        kill_rank(&run, "RANK=1");
    });
    assert_went_on(ran, &run, &[]);
}

/// SIGUSR1, which torchrun does not know, ends it and no rank.
#[test]
fn ranks_outlive_no_torchrun() {
    let Some(binary) = binary_for("ranks_outlive_no_torchrun") else {
        return;
    };
    let mut torchrun = or_not_run!("ranks_outlive_no_torchrun", torchrun());
    let place = Place::new(binary.clone());
    let mut long = config();
    long.train.epochs = 500;
    long.checkpoint.milestone_epochs = 0;
    torchrun
        .arg("--nproc-per-node=2")
        .arg(binary)
        .args(train_in(&place, &long));
    let ran = Ran::while_running(&mut torchrun, |agent| {
        agent.reached(&place.path("run"), 3);
        send_signal(agent.id(), "USR1");
    });
    assert!(ran.stderr.contains("the launcher is gone"), "{ran:#?}");
    assert_stopped(&ran, &place.path("run"));
}

/// Nobody would end the ranks of a launcher that was killed: they notice, and keep what they have.
#[test]
fn ranks_outlive_no_launcher() {
    let Some(binary) = binary_for("ranks_outlive_no_launcher") else {
        return;
    };
    let place = Place::new(binary.clone());
    let mut launch = command(binary);
    launch
        .args(["launch", "--nproc", "2", "--"])
        .args(train_in(&place, &endless()));
    let run = place.path("run");
    // It returns when rank 0, too, has closed the standard error that it shares with the launcher.
    let ran = Ran::while_running(&mut launch, |launcher| {
        launcher.reached(&run, 3);
        send_signal(launcher.id(), "KILL");
    });
    // Rank 1 may notice it first, and all stop before rank 0 has.
    let of_rank_1 = ran.stderr.contains(RANK_1_WAS_ASKED);
    let log = std::fs::read_to_string(run.join("log.rank1.txt")).unwrap_or_default();
    let said = if of_rank_1 { &log } else { &ran.stderr };
    assert!(said.contains("the launcher is gone"), "{ran:#?}\n{log}");
    assert_stopped(&ran, &run);
}

/// What rank 0 says of a stop that it was not asked for itself.
pub(crate) const RANK_1_WAS_ASKED: &str = "rank 1 was asked to stop, and says why in log.rank1.txt";

/// It said after which step it stopped, and that is its newest checkpoint's, which this gives.
pub(crate) fn assert_stopped(ran: &Ran, run: &Path) -> usize {
    let step = newest(run).manifest.position.step;
    let said = format!("stopped after step {step};");
    assert!(ran.stderr.contains(&said), "{ran:#?}");
    step
}

fn kill_rank(run: &Path, variable: &str) {
    signal_rank(run, variable, "KILL");
}

pub(crate) fn signal_rank(run: &Path, variable: &str, signal: &str) {
    send_signal(rank_process(run, variable), signal);
}
