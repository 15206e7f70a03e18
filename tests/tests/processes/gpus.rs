//! The same with a GPU for each rank, through NCCL, where operations return before they are done and no closed connection
//! interrupts what waits for them.

use crate::binary_for;
use crate::equality::{Limits, assert_within};
use crate::faults::{assert_blames, endless};
use crate::start::{Place, config};
use selfcls_backends::{Selection, open};
use selfcls_tests::not_run;

/// GPUs that there are, up to the number of ranks that the tests can use; none, with a line that says so, where there are
/// fewer than two.
fn gpus(name: &str) -> Option<usize> {
    let opens = |index: &usize| {
        let selection: Result<Selection, _> = format!("tch:cuda:{index}").parse();
        selection.is_ok_and(|selection| open(&selection).is_ok())
    };
    let found = (0..4).take_while(opens).count();
    if found < 2 {
        let reason = format!("needs two GPUs, and libtorch sees {found}");
        not_run(&format!("processes::gpus::{name}"), reason);
        return None;
    }
    Some(found)
}

/// cuDNN may add in another order in every run.
const LIMITS: Limits = Limits {
    values: 1e-4,
    weights: 1e-3,
};

#[test]
fn gpus_train_as_one() {
    let name = "gpus_train_as_one";
    let (Some(binary), Some(world)) = (binary_for(name), gpus(name)) else {
        return;
    };
    let place = Place::on_gpus(binary);
    place.train("alone", &config(), 1);
    place.train("together", &config(), world);
    let what = format!("{world} GPUs");
    assert_within(LIMITS, &what, &place.path("together"), &place.path("alone"));
}

/// Within the timeout, for nothing else tells.
#[test]
fn a_lost_rank_is_named() {
    let name = "a_lost_rank_is_named";
    let (Some(binary), Some(world)) = (binary_for(name), gpus(name)) else {
        return;
    };
    for (lost, signal) in [(1, "KILL"), (1, "STOP"), (0, "KILL"), (0, "STOP")] {
        let place = Place::on_gpus(binary.clone());
        let config = endless();
        let mut ranks = place.start("run", &config, world, |_| Some(Vec::new()));
        ranks.reached(&place.path("run"), 3);
        ranks.signal(lost, signal);
        let others: Vec<usize> = (0..world).filter(|&rank| rank != lost).collect();
        let text = match (lost, signal) {
            (0, "KILL") => "is gone",
            _ => "no sign of life",
        };
        for ended in ranks.wait_for(&others) {
            assert_blames(&ended, lost, text, config.train.timeout_seconds);
        }
    }
}

/// Its reason reaches ranks that wait for their GPUs.
#[test]
fn a_rank_that_fails_gives_its_reason_to_all() {
    let name = "a_rank_that_fails_gives_its_reason_to_all";
    let (Some(binary), Some(world)) = (binary_for(name), gpus(name)) else {
        return;
    };
    let place = Place::on_gpus(binary);
    let config = config();
    let ranks = place.start("run", &config, world, |rank| {
        let more: &[&str] = if rank == 1 {
            &["--optim.lr", "0.2"]
        } else {
            &[]
        };
        Some(more.iter().map(|&word| word.to_owned()).collect())
    });
    let ended = ranks.wait();
    assert_blames(&ended[0], 1, "optim.lr", config.train.timeout_seconds);
}
