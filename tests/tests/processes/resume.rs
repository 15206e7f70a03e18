//! Stopped, and gone on with by another number of ranks.

use crate::binary_for;
use crate::equality::{Limits, assert_equal, assert_within, newest};
use crate::start::{Place, config};
use crate::waiting::journal_lines;
use selfcls_core::Config;
use selfcls_core::config::{OptimKind, Precision};
use selfcls_tests::not_run;

/// Lets `world` ranks go on in the run `run` until the journal has `steps` lines; then rank `rank` is asked to stop. Returns
/// the step, or none where the training was over before it was asked.
fn part(
    place: &Place,
    run: &str,
    config: &Config,
    (world, rank, steps): (usize, usize, usize),
) -> Option<u64> {
    // At least one step of their own: who is signalled before may not yet listen.
    let steps = steps.max(journal_lines(&place.path(run)) + 2);
    let mut ranks = place.start(run, config, world, |_| Some(Vec::new()));
    ranks.reached(&place.path(run), steps);
    ranks.signal(rank, "TERM");
    let ended = ranks.wait();
    if ended.iter().all(|ended| ended.status.success()) {
        return None;
    }
    for (number, ended) in ended.into_iter().enumerate() {
        // Those that were not asked themselves leave the larger code to the one that was.
        let code = if number == rank { 130 } else { 75 };
        assert_eq!(ended.status.code(), Some(code), "{}", ended.stderr);
    }
    Some(newest(&place.path(run)).manifest.position.step as u64)
}

/// The steps at which two parts ended.
fn two_parts(place: &Place, config: &Config, steps: [usize; 2]) -> Option<[u64; 2]> {
    let first = part(place, "moved", config, (2, 1, steps[0]))?;
    let second = part(place, "moved", config, (4, 2, steps[1]))?;
    Some([first, second])
}

/// Says that the test `name` came too late to stop a training.
fn too_late(name: &str) {
    not_run(
        &format!("processes::{name}"),
        "a training was over before it was stopped",
    );
}

/// A rank asks to stop, all do after the same step; another number of ranks goes on, and then one process,
/// and the end is that of an undisturbed process.
#[test]
fn other_numbers_of_processes_go_on() {
    let name = "other_numbers_of_processes_go_on";
    let Some(binary) = binary_for(name) else {
        return;
    };
    let place = Place::new(binary);
    let mut config = config();
    config.train.epochs = 6;
    place.train("undisturbed", &config, 1);
    let Some([first, second]) = two_parts(&place, &config, [2, 10]) else {
        return too_late(name);
    };
    assert!(0 < first && first < second, "{first}, {second}");
    place.train("moved", &config, 1);
    assert_equal("moved", &place.path("moved"), &place.path("undisturbed"));
}

/// Two ranks, four and one take turns in a training in parts; its end is within `limits` of an undisturbed one's.
fn go_on_in_parts(name: &str, mut config: Config, limits: Limits) {
    let Some(binary) = binary_for(name) else {
        return;
    };
    let place = Place::new(binary);
    config.queue.length = 24;
    config.queue.replace = false;
    config.train.batch_size = 12;
    config.train.accumulate = 2;
    config.train.epochs = 5;
    place.train("undisturbed", &config, 1);
    let Some([first, second]) = two_parts(&place, &config, [3, 8]) else {
        return too_late(name);
    };
    assert!(0 < first && first < second, "{first}, {second}");
    place.train("moved", &config, 1);
    let (moved, undisturbed) = (place.path("moved"), place.path("undisturbed"));
    assert_within(limits, name, &moved, &undisturbed);
}

/// Its two histories go along. Without batch normalisation in the head, of whose biases it would make steps from rounding.
/// Measured: weights 1.4e-5, queue 4e-6.
#[test]
fn parts_with_adamw_go_on() {
    let mut config = config();
    config.model.head_bn = false;
    config.optim.kind = OptimKind::AdamW;
    let limits = Limits {
        values: 5e-5,
        weights: 5e-4,
    };
    go_on_in_parts("resume::parts_with_adamw_go_on", config, limits);
}

/// The loss scale goes along: the end has the same, after as many steps without an overflow. Measured: losses 2e-3, weights and
/// momenta 7e-2, queue 5e-2. (With AdamW, which takes full steps from rounding, two undisturbed runs are as far apart as
/// a lost history would put them.)
#[test]
fn parts_in_half_precision_go_on() {
    let mut config = config();
    config.train.precision = Precision::Fp16;
    let limits = Limits {
        values: 0.15,
        weights: 0.15,
    };
    go_on_in_parts("resume::parts_in_half_precision_go_on", config, limits);
}

/// Groups that share batch statistics follow the number of ranks, and a size that does not divide it is refused.
#[test]
fn groups_change_with_the_ranks() {
    let name = "resume::groups_change_with_the_ranks";
    let Some(binary) = binary_for(name) else {
        return;
    };
    let place = Place::new(binary);
    let mut config = config();
    config.train.epochs = 3;
    config.train.batch_size = 12;
    config.queue.length = 24;
    // Two groups of two ranks have the statistics of two ranks that keep theirs.
    config.train.syncbn_group_size = 1;
    place.train("apart", &config, 2);
    config.train.syncbn_group_size = 2;
    let Some(stopped) = part(&place, "moved", &config, (4, 2, 3)) else {
        return too_late(name);
    };
    config.train.syncbn_group_size = 3;
    for ended in place
        .start("moved", &config, 4, |_| Some(Vec::new()))
        .wait()
    {
        let said = &ended.stderr;
        assert_eq!(ended.status.code(), Some(2), "{said}");
        assert!(
            said.contains("train.syncbn_group_size = 3 does not divide the 4 ranks"),
            "{said}"
        );
    }
    assert_eq!(
        newest(&place.path("moved")).manifest.position.step as u64,
        stopped
    );
    config.train.syncbn_group_size = 1;
    place.train("moved", &config, 2);
    assert_equal(
        "groups that follow",
        &place.path("moved"),
        &place.path("apart"),
    );
}
