//! Batch normalisation over ranks against batch normalisation of everything in one process.

#![allow(deprecated, reason = "burn 0.22 is the last line with burn-tch")]

use burn::tensor::Device;
use selfcls_core::config::Precision;
use selfcls_core::kernels::{Kernels, RunningStatistics};

use crate::against_burn::{tensor, values};
use crate::distributed::tests::on_ranks;
use crate::on_devices::{is_cuda, on_devices, shared_kernels};

on_devices!(
    ranks_normalise_as_one_process,
    a_failure_in_a_pass_is_found_after_it,
);

const MOMENTUM: f64 = 0.1;
const EPS: f64 = 1e-5;

/// Output, running mean, running variance, and gradients of input, weight and bias.
type Results = [Vec<f32>; 6];

/// A convolution before, so that the normalisation is in the middle of a graph, and a weighted sum behind.
fn pass(
    device: &Device,
    kernels: &dyn Kernels,
    samples: std::ops::Range<usize>,
    all: [usize; 4],
) -> Results {
    let autodiff = device.clone().autodiff();
    let [_, channels, height, width] = all;
    let rows = |seed, scale: f64, shift: f64| {
        let all = tensor(seed, all, &autodiff) * scale + shift;
        all.slice([samples.clone(), 0..channels, 0..height, 0..width])
    };
    let x = rows(1, 3.0, 20.0).detach().require_grad();
    let weight = (tensor(2, [channels], &autodiff) + 1.5)
        .detach()
        .require_grad();
    let bias = tensor(3, [channels], &autodiff).require_grad();
    let running = RunningStatistics {
        mean: tensor(4, [channels], device),
        variance: tensor(5, [channels], device) + 1.5,
    };
    let result = kernels.batch_norm_train(
        x.clone() * 1.5,
        weight.clone(),
        bias.clone(),
        running,
        MOMENTUM,
        EPS,
    );
    let output = result.output.clone();
    let grads = (result.output * rows(6, 1.0, 0.1)).sum().backward();
    let gradient = |tensor: Option<Vec<f32>>| tensor.expect("a gradient");
    [
        values(output),
        values(result.running.mean),
        values(result.running.variance),
        gradient(x.grad(&grads).map(values)),
        gradient(weight.grad(&grads).map(values)),
        gradient(bias.grad(&grads).map(values)),
    ]
}

fn assert_close(what: &str, actual: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(actual.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(0.0_f32, |a, b| a.max(b.abs()));
    for (a, e) in actual.iter().zip(expected) {
        assert!(
            (a - e).abs() <= tolerance * scale,
            "{what}: {a} for {e}, scale {scale}"
        );
    }
}

/// Unequal batches, images and single rows; the mean far from zero, where sums of squares would cancel.
fn ranks_normalise_as_one_process(device: &Device) {
    for (all, shares) in [
        ([7, 5, 4, 3], vec![0..3, 3..5, 5..7]),
        ([5, 8, 1, 1], vec![0..4, 4..5]),
    ] {
        let kernels = shared_kernels(device, Precision::F32);
        let alone = pass(device, &*kernels, 0..all[0], all);
        let ranks = on_ranks(shares.len(), |peers| {
            let share = shares[peers.rank()].clone();
            let kernels = shared_kernels(device, Precision::F32).synchronised(peers.clone());
            let results = pass(device, &*kernels.expect("libtorch's"), share, all);
            peers.check().expect("no failure on the way");
            results
        });
        // The expected values are cuDNN's there, which sums up squares where the mean is far from zero.
        let more = if is_cuda(device) { 50.0 } else { 1.0 };
        let joined = |number: usize| -> Vec<f32> {
            ranks
                .iter()
                .flat_map(|results| results[number].clone())
                .collect()
        };
        assert_close("output", &joined(0), &alone[0], more * 1e-6);
        assert_close("gradient of the input", &joined(3), &alone[3], more * 2e-6);
        for results in &ranks {
            assert_close("running mean", &results[1], &alone[1], more * 1e-6);
            assert_close("running variance", &results[2], &alone[2], more * 1e-6);
        }
        for (number, name) in [(4, "weight"), (5, "bias")] {
            let mut sum = vec![0.0; all[1]];
            for results in &ranks {
                for (sum, part) in sum.iter_mut().zip(&results[number]) {
                    *sum += part;
                }
            }
            assert_close(name, &sum, &alone[number], more * 2e-6);
        }
    }
}

/// A peer that is gone gives no panic in the middle of a pass, but an error behind it.
fn a_failure_in_a_pass_is_found_after_it(device: &Device) {
    let messages = on_ranks(2, |peers| {
        if peers.rank() == 1 {
            peers.leave("enough");
            return None;
        }
        let kernels = shared_kernels(device, Precision::F32).synchronised(peers.clone());
        let results = pass(device, &*kernels.expect("libtorch's"), 0..2, [4, 3, 2, 2]);
        assert!(results[0].iter().all(|value| value.is_finite()));
        peers.check().err().map(|error| error.to_string())
    });
    let message = messages[0].as_deref().expect("a failure");
    assert!(message.contains("rank 1 has ended: enough"), "{message}");
}
