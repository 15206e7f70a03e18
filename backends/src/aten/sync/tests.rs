//! Batch normalisation over ranks against batch normalisation of everything in one process.

#![allow(deprecated, reason = "burn 0.22 is the last line with burn-tch")]

use std::ops::Range;

use burn::tensor::{Device, FloatDType, Tensor};
use selfcls_core::config::Precision;
use selfcls_core::kernels::{Kernels, RunningStatistics};

use crate::against_burn::{running, tensor, values};
use crate::distributed::tests::on_ranks;
use crate::on_devices::{is_cuda, on_devices, shared_kernels};

on_devices!(
    ranks_normalise_as_one_process,
    ranks_normalise_in_half_precision_as_one_process,
    running_statistics_of_others_are_left_alone,
    a_failure_in_a_pass_is_found_after_it,
);

const MOMENTUM: f64 = 0.1;
const EPS: f64 = 1e-5;

/// Output, running mean, running variance, and gradients of input, weight and bias.
type Results = [Vec<f32>; 6];

/// What is normalised.
#[derive(Debug, Clone)]
struct Case {
    /// Of the images of all ranks.
    shape: [usize; 4],
    /// Each rank's images.
    shares: Vec<Range<usize>>,
    channels_last: bool,
    dtype: FloatDType,
}

/// Operations before, so that the normalisation is in the middle of a graph, and a weighted sum behind. The mean is far from zero,
/// where sums of squares would cancel.
fn pass(device: &Device, kernels: &dyn Kernels, case: &Case, samples: Range<usize>) -> Results {
    let autodiff = device.clone().autodiff();
    let [_, channels, height, width] = case.shape;
    let rows = |seed, scale: f64, shift: f64| {
        let all = tensor(seed, case.shape, &autodiff) * scale + shift;
        all.slice([samples.clone(), 0..channels, 0..height, 0..width])
    };
    let x = rows(1, 3.0, 20.0);
    let x = match case.channels_last {
        true => kernels.weight_layout(x.without_autodiff()).autodiff(),
        false => x,
    };
    let x = x.detach().require_grad();
    let weight = (tensor(2, [channels], &autodiff) + 1.5)
        .detach()
        .require_grad();
    let bias = tensor(3, [channels], &autodiff).require_grad();
    let running = RunningStatistics {
        mean: tensor(4, [channels], device),
        variance: tensor(5, [channels], device) + 1.5,
    };
    let result = kernels.batch_norm_train(
        (x.clone() * 1.5).cast(case.dtype),
        weight.clone(),
        bias.clone(),
        running,
        MOMENTUM,
        EPS,
    );
    let output = result.output.cast(FloatDType::F32);
    let grads = (output.clone() * rows(6, 1.0, 0.1)).sum().backward();
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

/// Each rank's results against those of all images at once. `rounding` is allowed where the precision of the images is that of the
/// results.
fn assert_as_one_process(device: &Device, case: &Case, rounding: f32) {
    let kernels = shared_kernels(device, Precision::F32);
    let alone = pass(device, &*kernels, case, 0..case.shape[0]);
    let ranks = on_ranks(case.shares.len(), |peers| {
        let share = case.shares[peers.rank()].clone();
        let kernels = shared_kernels(device, Precision::F32).synchronised(peers.clone());
        let results = pass(device, &*kernels.expect("libtorch's"), case, share);
        peers.check().expect("no failure on the way");
        results
    });
    let close = |what: &str, actual: &[f32], number: usize, tolerance: f32| {
        assert_close(
            &format!("{case:?}: {what}"),
            actual,
            &alone[number],
            tolerance,
        );
    };
    // The expected values are cuDNN's there, which sums up squares where the mean is far from zero.
    let more = if is_cuda(device) { 50.0 } else { 1.0 };
    let joined = |number: usize| -> Vec<f32> {
        ranks
            .iter()
            .flat_map(|results| results[number].clone())
            .collect()
    };
    close("output", &joined(0), 0, rounding + more * 1e-6);
    close(
        "gradient of the input",
        &joined(3),
        3,
        rounding + more * 2e-6,
    );
    for results in &ranks {
        close("running mean", &results[1], 1, more * 1e-6);
        close("running variance", &results[2], 2, more * 1e-6);
    }
    for (number, name) in [(4, "weight"), (5, "bias")] {
        let mut sum = vec![0.0; case.shape[1]];
        for results in &ranks {
            for (sum, part) in sum.iter_mut().zip(&results[number]) {
                *sum += part;
            }
        }
        // A mean that is rounded otherwise moves all x^ of a channel.
        close(name, &sum, number, rounding + more * 5e-6);
    }
}

/// Unequal batches, images and single rows.
fn cases(dtype: FloatDType) -> [Case; 3] {
    let case = |shape, shares: &[Range<usize>], channels_last| Case {
        shape,
        shares: shares.to_vec(),
        channels_last,
        dtype,
    };
    [
        case([7, 5, 4, 3], &[0..3, 3..5, 5..7], false),
        case([7, 5, 4, 3], &[0..3, 3..5, 5..7], true),
        case([5, 8, 1, 1], &[0..4, 4..5], false),
    ]
}

fn ranks_normalise_as_one_process(device: &Device) {
    for case in cases(FloatDType::F32) {
        assert_as_one_process(device, &case, 0.0);
    }
}

/// Statistics are those of the rounded images, in f32; outputs and gradients are rounded.
fn ranks_normalise_in_half_precision_as_one_process(device: &Device) {
    for (dtype, rounding) in [(FloatDType::BF16, 2e-2), (FloatDType::F16, 3e-3)] {
        for case in cases(dtype) {
            assert_as_one_process(device, &case, rounding);
        }
    }
}

/// Kernels may write to what they are given, where nobody else has it: a model keeps its statistics until it gets new ones.
fn running_statistics_of_others_are_left_alone(device: &Device) {
    on_ranks(2, |peers| {
        let kernels = shared_kernels(device, Precision::F32).synchronised(peers);
        let kept = running(8, device);
        let before = [kept.mean.clone(), kept.variance.clone()].map(values);
        let result = kernels.expect("libtorch's").batch_norm_train(
            tensor(1, [4, 8, 3, 3], device),
            Tensor::ones([8], device),
            Tensor::zeros([8], device),
            kept.clone(),
            MOMENTUM,
            EPS,
        );
        let new = [result.running.mean, result.running.variance].map(values);
        assert_eq!([kept.mean, kept.variance].map(values), before);
        assert!(new[0] != before[0] && new[1] != before[1]);
    });
}

/// A peer that is gone gives no panic in the middle of a pass, but an error behind it.
fn a_failure_in_a_pass_is_found_after_it(device: &Device) {
    let messages = on_ranks(2, |peers| {
        if peers.rank() == 1 {
            peers.leave("enough");
            return None;
        }
        let kernels = shared_kernels(device, Precision::F32).synchronised(peers.clone());
        let [case, ..] = cases(FloatDType::F32);
        let results = pass(device, &*kernels.expect("libtorch's"), &case, 0..3);
        assert!(results[0].iter().all(|value| value.is_finite()));
        peers.check().err().map(|error| error.to_string())
    });
    let message = messages[0].as_deref().expect("a failure");
    assert!(message.contains("rank 1 has ended: enough"), "{message}");
}
