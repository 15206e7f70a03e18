//! Batch normalisation, rectifiers, and chains of layers, in all precisions.

use burn::tensor::{DType, Device, FloatDType, Tensor};
use selfcls_core::config::Precision;
use selfcls_core::kernels::{Kernels, PlainKernels, RunningStatistics};

use super::{assert_close, aten, device, is_channels_last, tensor, values, weighted};
use crate::AtenKernels;

const EPS: f64 = 1e-5;
const MOMENTUM: f64 = 0.1;

fn running(channels: usize, device: &Device) -> RunningStatistics {
    RunningStatistics {
        mean: tensor(11, [channels], device),
        variance: tensor(12, [channels], device) + 1.5,
    }
}

/// Images, and the rows of a head seen as images of one pixel.
#[test]
fn batch_normalisation_equals_burns() {
    let device = device();
    let autodiff = device.clone().autodiff();
    for (shape, channels_last) in [
        ([4, 6, 5, 7], false),
        ([4, 6, 5, 7], true),
        ([16, 8, 1, 1], false),
        ([2, 3, 32, 32], true),
    ] {
        let channels = shape[1];
        let input = tensor(3, shape, &autodiff) * 3.0 + 0.5;
        let input = if channels_last {
            aten().weight_layout(input.without_autodiff()).autodiff()
        } else {
            input
        };
        let x = input.detach().require_grad();
        let weight = (tensor(4, [channels], &autodiff) + 1.0)
            .detach()
            .require_grad();
        let bias = tensor(5, [channels], &autodiff).require_grad();
        let train = |kernels: &dyn Kernels| {
            let result = kernels.batch_norm_train(
                x.clone(),
                weight.clone(),
                bias.clone(),
                running(channels, &device),
                MOMENTUM,
                EPS,
            );
            assert!(!result.running.mean.is_autodiff());
            assert!(!result.running.variance.is_autodiff());
            let grads = weighted(result.output.clone()).backward();
            (result.output, result.running, grads)
        };
        let eval = |kernels: &dyn Kernels| {
            let output = kernels.batch_norm_eval(
                x.clone(),
                weight.clone(),
                bias.clone(),
                running(channels, &device),
                EPS,
            );
            let grads = weighted(output.clone()).backward();
            (output, running(channels, &device), grads)
        };
        for (mode, ours, theirs) in [
            ("training", train(&aten()), train(&PlainKernels)),
            ("evaluation", eval(&aten()), eval(&PlainKernels)),
        ] {
            let case = format!("{shape:?} in {mode}");
            assert_close(&format!("{case}: output"), ours.0, theirs.0, 1e-5);
            assert_close(&format!("{case}: mean"), ours.1.mean, theirs.1.mean, 1e-6);
            assert_close(
                &format!("{case}: variance"),
                ours.1.variance,
                theirs.1.variance,
                1e-6,
            );
            assert_close(
                &format!("{case}: gradient of the input"),
                x.grad(&ours.2).expect("a gradient"),
                x.grad(&theirs.2).expect("a gradient"),
                2e-5,
            );
            for (name, tensor) in [("weight", &weight), ("bias", &bias)] {
                assert_close(
                    &format!("{case}: gradient of the {name}"),
                    tensor.grad(&ours.2).expect("a gradient"),
                    tensor.grad(&theirs.2).expect("a gradient"),
                    2e-5,
                );
            }
        }
    }
}

/// In place only where nobody else holds the tensor.
#[test]
fn rectifiers_equal_burns_and_spare_what_is_still_needed() {
    let device = device().autodiff();
    let (a, b) = (
        tensor(6, [2, 5, 3, 4], &device).require_grad(),
        tensor(7, [2, 5, 3, 4], &device).require_grad(),
    );
    let run = |kernels: &dyn Kernels| {
        let sum = a.clone() * 2.0;
        let kept = kernels.relu(sum.clone());
        let in_place = kernels.relu(b.clone() * 3.0);
        let both = kernels.add_relu(in_place.clone(), sum.clone());
        // Everything is used again: a value overwritten too early would show.
        let output = kernels.add_relu(both, kept.clone()) + kept * in_place + sum;
        let grads = weighted(output.clone()).backward();
        (output, grads)
    };
    let (ours, theirs) = (run(&aten()), run(&PlainKernels));
    assert_close("output", ours.0, theirs.0, 1e-6);
    for (name, tensor) in [("a", &a), ("b", &b)] {
        assert_close(
            name,
            tensor.grad(&ours.1).expect("a gradient"),
            tensor.grad(&theirs.1).expect("a gradient"),
            1e-6,
        );
    }
    let leaf = tensor(8, [1, 2, 3, 3], &device);
    let before = values(leaf.clone());
    let _ = aten().relu(leaf.clone());
    assert_eq!(values(leaf), before, "a shared tensor is left alone");
}

/// Two residual blocks' worth of operations, each on the result of the one before.
fn residual(kernels: &dyn Kernels, x: Tensor<4>, parameters: &[Tensor<4>]) -> Tensor<4> {
    let low = |x: Tensor<4>| match kernels.precision() {
        Precision::F32 => x,
        Precision::Bf16 => x.cast(FloatDType::BF16),
        Precision::Fp16 => x.cast(FloatDType::F16),
    };
    let device = x.device();
    let mut x = low(x);
    for (index, weight) in parameters.iter().enumerate() {
        let channels = weight.dims()[0];
        let one: Tensor<1> = Tensor::ones([channels], &device);
        let stride = if index == 0 { 2 } else { 1 };
        let y = kernels.conv2d(x.clone(), low(weight.clone()), stride, 1, 1);
        let y = kernels
            .batch_norm_train(
                y,
                one.clone(),
                one,
                running(channels, &device.clone().without_autodiff()),
                MOMENTUM,
                EPS,
            )
            .output;
        x = if x.dims() == y.dims() {
            kernels.add_relu(y, x)
        } else {
            kernels.relu(y)
        };
    }
    x
}

fn residual_gradients(kernels: &dyn Kernels) -> (Tensor<4>, Vec<Tensor<4>>) {
    let device = device().autodiff();
    let weight = |seed, input| {
        let weight: Tensor<4> = tensor(seed, [8, input, 3, 3], &device) * 0.2;
        kernels
            .weight_layout(weight.without_autodiff())
            .autodiff()
            .require_grad()
    };
    let parameters = [weight(21, 3), weight(22, 8), weight(23, 8)];
    let output = residual(kernels, tensor(20, [4, 3, 12, 12], &device), &parameters);
    let grads = weighted(output.clone()).backward();
    let gradients = parameters
        .iter()
        .map(|parameter| parameter.grad(&grads).expect("a gradient"))
        .collect();
    (output, gradients)
}

#[test]
fn chains_equal_burns_and_stay_channels_last() {
    let (ours, our_gradients) = residual_gradients(&aten());
    let (theirs, their_gradients) = residual_gradients(&PlainKernels);
    assert!(is_channels_last(&ours));
    assert!(!is_channels_last(&theirs));
    assert_close("output", ours, theirs, 1e-5);
    for (ours, theirs) in our_gradients.into_iter().zip(their_gradients) {
        assert!(is_channels_last(&ours), "as the weight it belongs to");
        assert_close("gradient", ours, theirs, 5e-5);
    }
}

/// Half precision rounds, but keeps f32 where weights and statistics are concerned.
#[test]
fn lower_precisions_follow_f32() {
    let (expected, expected_gradients) = residual_gradients(&aten());
    for (precision, dtype, tolerance) in [
        (Precision::Bf16, DType::BF16, 3e-2),
        (Precision::Fp16, DType::F16, 5e-3),
    ] {
        let (output, gradients) = residual_gradients(&AtenKernels::new(precision, false));
        assert_eq!(output.dtype(), dtype);
        assert!(is_channels_last(&output));
        assert_close("output", output, expected.clone(), tolerance);
        for (gradient, expected) in gradients.into_iter().zip(&expected_gradients) {
            assert_eq!(gradient.dtype(), DType::F32);
            let norm = |x: Tensor<4>| values((x.clone() * x).sum())[0].sqrt();
            let relative = norm(gradient - expected.clone()) / norm(expected.clone());
            assert!(relative <= 4.0 * tolerance, "{dtype:?}: {relative}");
        }
    }
}
