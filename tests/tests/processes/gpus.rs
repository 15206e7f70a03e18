//! The same with a GPU for each rank, through NCCL, where operations return before they are done and no closed connection
//! interrupts what waits for them; and with a single GPU what it can show alone.

use crate::binary_for;
use crate::equality::{Limits, assert_within, newest};
use crate::faults::{assert_blames, endless};
use crate::preemption::long;
use crate::start::{Place, config};
use selfcls_backends::{Selection, open};
use selfcls_tests::not_run;

/// GPUs that there are, up to the number of ranks that the tests can use.
fn found() -> usize {
    let opens = |index: &usize| {
        let selection: Result<Selection, _> = format!("tch:cuda:{index}").parse();
        selection.is_ok_and(|selection| open(&selection).is_ok())
    };
    (0..4).take_while(opens).count()
}

/// Several GPUs; none, with a line that says so, where there are fewer than two.
fn gpus(name: &str) -> Option<usize> {
    let found = found();
    if found < 2 {
        let reason = format!("needs two GPUs, and libtorch sees {found}");
        not_run(&format!("processes::gpus::{name}"), reason);
        return None;
    }
    Some(found)
}

/// Which GPUs a process sees.
const VISIBLE: &str = "CUDA_VISIBLE_DEVICES";

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

/// One GPU; none, with a line that says so, where there is none.
fn gpu(name: &str) -> Option<()> {
    if found() > 0 {
        return Some(());
    }
    let reason = "needs a GPU, and libtorch sees none";
    not_run(&format!("processes::gpus::{name}"), reason);
    None
}

#[test]
fn a_gpu_trains_as_a_cpu() {
    let name = "a_gpu_trains_as_a_cpu";
    let (Some(binary), Some(())) = (binary_for(name), gpu(name)) else {
        return;
    };
    let (cpu, gpu) = (Place::new(binary.clone()), Place::on_gpus(binary));
    cpu.train("run", &config(), 1);
    gpu.train("run", &config(), 1);
    assert_within(LIMITS, "a GPU", &gpu.path("run"), &cpu.path("run"));
}

/// What is under way on the GPU when a signal comes is in the checkpoint.
#[test]
fn a_run_on_a_gpu_goes_on_where_it_stopped() {
    let name = "a_run_on_a_gpu_goes_on_where_it_stopped";
    let (Some(binary), Some(())) = (binary_for(name), gpu(name)) else {
        return;
    };
    let place = Place::on_gpus(binary);
    let config = long();
    place.train("whole", &config, 1);
    let mut run = place.start("parts", &config, 1, |_| Some(Vec::new()));
    run.reached(&place.path("parts"), 3);
    run.signal(0, "TERM");
    let ended = run.wait();
    assert_eq!(ended[0].status.code(), Some(130), "{}", ended[0].stderr);
    let step = newest(&place.path("parts")).manifest.position.step;
    assert!(step > 2 && step < 20 * 4, "{step}");
    place.train("parts", &config, 1);
    let (parts, whole) = (place.path("parts"), place.path("whole"));
    // Ten times the steps of the others.
    let limits = Limits {
        values: 10.0 * LIMITS.values,
        weights: 10.0 * LIMITS.weights,
    };
    assert_within(limits, "in two parts", &parts, &whole);
}

/// Where both see it, they are told before they meet; where each takes it for its own, NCCL's words reach the user.
#[test]
fn two_ranks_on_one_gpu_are_refused() {
    let name = "two_ranks_on_one_gpu_are_refused";
    let Some(binary) = binary_for(name) else {
        return;
    };
    let found = found();
    if found != 1 {
        let reason = format!("needs a single GPU, and libtorch sees {found}");
        return not_run(&format!("processes::gpus::{name}"), reason);
    }
    let place = Place::on_gpus(binary);
    let refused = |place: &Place, reason: &str| {
        let ranks = place.start("run", &config(), 2, |_| Some(Vec::new()));
        for ended in ranks.wait() {
            // Typed on another machine it could work.
            assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
            assert!(ended.stderr.contains(reason), "{}", ended.stderr);
        }
    };
    if std::env::var_os(VISIBLE).is_none() {
        refused(&place, "2 processes and libtorch sees 1 GPU;");
    }
    refused(&place.with(VISIBLE, "0"), "Duplicate GPU");
}
