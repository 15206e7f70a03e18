//! One rank by itself: its groups do all that those of many are asked for, and change nothing. On a GPU through NCCL, which
//! takes no second rank there.

use std::io::Write;
use std::sync::{Arc, Once};

use burn::tensor::{Device, Int, Tensor};
use selfcls_core::collective::{Collective, Reduction};
use selfcls_core::config::Precision;
use selfcls_core::kernels::Kernels;
use selfcls_core::model::{Context, Noise, SelfClassifier, ViewBatch};
use selfcls_core::optim::{Exchange, ParamGradients};

use super::gradients::{Apart, values};
use super::{TIMEOUT, floats, place, port, small_network};
use crate::against_burn::{assert_close, tensor};
use crate::distributed::{ffi, join_or_end};
use crate::on_devices::{is_cuda, on_devices, shared_kernels, tch_device};
use crate::{Selection, TchDevice, open};

on_devices!(
    a_rank_alone_gets_back_what_it_gives,
    training_among_itself_is_training_alone,
    a_rank_that_leaves_ends_its_groups,
);

/// The only rank, if this build can have one on the device.
pub(crate) fn alone(device: &Device) -> Option<Arc<dyn Collective>> {
    static SAID: Once = Once::new();
    let tch = tch_device(device);
    let choice = match tch {
        tch::Device::Cuda(index) => TchDevice::Cuda(index),
        _ => TchDevice::Cpu,
    };
    if tch.is_cuda() && !ffi::has_nccl() {
        // As in `on_devices`.
        SAID.call_once(|| {
            let _ = writeln!(
                std::io::stderr(),
                "NOT RUN: backends through NCCL (every case): this build has no NCCL"
            );
        });
        return None;
    }
    let opened = open(&Selection::Tch(choice)).expect("a device that there is");
    let end = Arc::new(|reason: &str| eprintln!("the rank would be ended: {reason}"));
    let peers = join_or_end(&place(0, 1, port()), &opened, tch, TIMEOUT, end);
    Some(peers.expect("joins"))
}

fn a_rank_alone_gets_back_what_it_gives(device: &Device) {
    let Some(peers) = alone(device) else {
        return;
    };
    let given = [1.5, -2.0, 3.0];
    let values = || Tensor::<1>::from_floats(given, device);
    for reduction in [Reduction::Sum, Reduction::Max] {
        let kept = values();
        let reduced = peers.all_reduce(kept.clone(), reduction).expect("reduces");
        assert_eq!(
            (floats(reduced), floats(kept)),
            (given.into(), given.into())
        );
    }
    // Two under way at a time, taken in the other order.
    let (first, second) = (peers.begin_sum(values()), peers.begin_sum(values() * 2.0));
    let pieces = second
        .expect("begins")
        .wait_in_pieces(&[1, 2])
        .expect("a sum");
    let pieces: Vec<Vec<f32>> = pieces.into_iter().map(floats).collect();
    assert_eq!(pieces, [vec![3.0], vec![-4.0, 6.0]]);
    let sum = first.expect("begins").wait().expect("a sum");
    assert_eq!(floats(sum), given);

    let rows = values().reshape([3, 1]);
    assert_eq!(
        floats(peers.all_gather(rows, &[3]).expect("gathers")),
        given
    );
    let ints = Tensor::<1, Int>::from_ints([7_i64, 8], device);
    let ints = peers
        .all_gather_int(ints, &[2])
        .expect("gathers")
        .into_data();
    assert_eq!(ints.try_into_vec::<i64>().expect("integers"), [7, 8]);
    for bytes in [b"something".to_vec(), Vec::new()] {
        assert_eq!(peers.broadcast(bytes.clone(), 0).expect("sends"), bytes);
    }
    peers.barrier().expect("all are there");
    let group = peers.in_groups_of(1).expect("a group");
    let sum = group.all_reduce(values(), Reduction::Sum).expect("reduces");
    assert_eq!(floats(sum), given);
    peers.check().expect("no failure");
}

/// Views of four samples.
fn views(device: &Device, step: u64) -> ViewBatch {
    ViewBatch {
        global: tensor(10 * step, [8, 3, 16, 16], device),
        local: Some(tensor(10 * step + 1, [8, 3, 8, 8], device)),
    }
}

/// Embeddings of a step, and the gradients of what made them, through the exchange if there is one.
fn step(
    model: &SelfClassifier,
    kernels: &dyn Kernels,
    views: ViewBatch,
    exchange: Option<&Arc<Exchange>>,
) -> (Tensor<2>, ParamGradients) {
    if let Some(exchange) = exchange {
        exchange.begin(model, None);
        exchange.begin_pass(true);
    }
    let context = Context::training(kernels, Noise::new(0, 0, 0)).with_exchange(exchange);
    let embeddings = model.embed(views, &context);
    let pull = tensor(5, embeddings.dims(), &embeddings.device());
    let mut grads = (embeddings.clone() * pull).sum().backward();
    let grads = ParamGradients::take(model, &mut grads);
    let grads = match exchange {
        Some(exchange) => exchange.finish(grads).expect("sums"),
        None => grads,
    };
    (embeddings.without_autodiff(), grads)
}

/// How far gradients may be apart: all of them, and each parameter's; a lost one is 1 apart. Measured: 2e-6 and 4e-6.
const WHOLE: f64 = 1e-5;
const EACH: f64 = 1e-4;
/// In bf16. Measured: 8e-3 and 6e-2.
const WHOLE_BF16: f64 = 0.05;
const EACH_BF16: f64 = 0.3;

/// Statistics of batches go through one communicator in the middle of both passes, gradients through another beside the
/// backward pass.
fn training_among_itself_is_training_alone(device: &Device) {
    let Some(peers) = alone(device) else {
        return;
    };
    for precision in [Precision::F32, Precision::Bf16] {
        let model = small_network().model.init(&device.clone().autodiff(), 0);
        let kernels = shared_kernels(device, precision);
        let among = Arc::clone(&kernels).synchronised(Arc::clone(&peers));
        let among = among.expect("libtorch's");
        // So small that nearly every gradient travels alone.
        let exchange = Arc::new(Exchange::new(Arc::clone(&peers), 200));
        // There cuDNN normalises where there is nobody else, and rounds otherwise.
        let more = if is_cuda(device) { 100.0 } else { 1.0 };
        let (tolerance, whole, each) = match precision {
            Precision::F32 => (1e-5, more * WHOLE, more * EACH),
            _ => (0.1, WHOLE_BF16, EACH_BF16),
        };
        for number in 0..4 {
            let views = || views(device, number);
            let (expected, expected_grads) = step(&model, &*kernels, views(), None);
            let (actual, grads) = step(&model, &*among, views(), Some(&exchange));
            let case = format!("{precision:?}, step {number}");
            assert_close(&format!("{case}: embeddings"), actual, expected, tolerance);
            let apart = Apart::of(&values(&grads), &values(&expected_grads));
            eprintln!("{case}: {:.1e}, each {:.1e}", apart.whole, apart.each);
            assert!(
                apart.whole <= whole && apart.each <= each,
                "{case}: {apart:?}"
            );
        }
    }
    peers.check().expect("no failure on the way");
}

/// As after a failure: communicators are aborted, and nothing waits for them.
fn a_rank_that_leaves_ends_its_groups(device: &Device) {
    let Some(peers) = alone(device) else {
        return;
    };
    let values = || Tensor::<1>::from_floats([1.0; 1000], device);
    let under_way = peers.begin_sum(values()).expect("begins");
    peers.leave("enough");
    drop(under_way);
    let failure = peers.all_reduce(values(), Reduction::Sum);
    let message = failure.expect_err("has left").to_string();
    assert!(message.contains("enough"), "{message}");
}
