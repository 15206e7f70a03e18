//! Each operation in half precision against the same in f32 on the same, rounded, operands: what is left is the
//! rounding of the operation itself.

use burn::tensor::{DType, Device, FloatDType, Tensor};
use selfcls_core::kernels::{Kernels, RunningStatistics};

use super::aten;
use crate::against_burn::{EPS, MOMENTUM, assert_close, tensor, values, weighted};
use crate::on_devices::{is_cuda, on_devices};

on_devices!(
    convolutions_follow_f32,
    wide_convolutions_follow_f32,
    gradients_of_a_weight_add_up_in_f32,
    batch_normalisation_follows_f32,
    gelus_follow_f32,
    rectifiers_follow_f32,
);

/// Types, with a few units in the last place of each.
const TYPES: [(FloatDType, f32); 2] = [(FloatDType::BF16, 2e-2), (FloatDType::F16, 3e-3)];

/// `values` as they are after rounding to `dtype`, in `dtype` and in f32; both ask for gradients.
fn both<const D: usize>(values: Tensor<D>, dtype: FloatDType) -> [Tensor<D>; 2] {
    let low = values.cast(dtype);
    let full = low.clone().cast(FloatDType::F32);
    [low, full].map(|tensor| tensor.detach().require_grad())
}

/// `run` on the operands in half precision and in f32: outputs and gradients of the first operand and of `others`.
fn assert_follows<const D: usize, const E: usize>(
    case: &str,
    [low, full]: [Tensor<D>; 2],
    others: &[[Tensor<E>; 2]],
    tolerance: f32,
    run: impl Fn(Tensor<D>, usize) -> Tensor<4>,
) {
    let dtype = low.dtype();
    let (ours, expected) = (run(low.clone(), 0), run(full.clone(), 1));
    assert_eq!(
        ours.dtype(),
        dtype,
        "{case}: the output keeps the precision"
    );
    let (our_grads, expected_grads) = (weighted(ours.clone()), weighted(expected.clone()));
    let (our_grads, expected_grads) = (our_grads.backward(), expected_grads.backward());
    let plain = |tensor: Tensor<4>| tensor.cast(FloatDType::F32).without_autodiff();
    assert_close(
        &format!("{case}: output"),
        plain(ours),
        plain(expected),
        tolerance,
    );
    let gradient = low.grad(&our_grads).expect("a gradient");
    assert_eq!(
        gradient.dtype(),
        dtype,
        "{case}: so does the input's gradient"
    );
    assert_close(
        &format!("{case}: gradient of the input"),
        gradient.cast(FloatDType::F32),
        full.grad(&expected_grads).expect("a gradient"),
        tolerance,
    );
    for [low, full] in others {
        assert_close(
            &format!("{case}: gradient of a parameter"),
            low.grad(&our_grads)
                .expect("a gradient")
                .cast(FloatDType::F32),
            full.grad(&expected_grads).expect("a gradient"),
            tolerance,
        );
    }
}

fn convolutions_follow_f32(device: &Device) {
    let device = device.clone().autodiff();
    for (dtype, tolerance) in TYPES {
        for (kernel, stride, groups, size) in [
            (1, 1, 1, 9),
            (1, 2, 1, 8),
            (3, 1, 1, 9),
            (3, 2, 1, 8),
            (3, 1, 4, 6),
            (3, 2, 16, 6),
            (7, 2, 1, 12),
            (3, 1, 1, 2),
            (3, 2, 1, 1),
        ] {
            let x = both(tensor(1, [4, 16, size, size], &device), dtype);
            let w = both(tensor(2, [32, 16 / groups, kernel, kernel], &device), dtype);
            let case = format!(
                "{dtype:?}, kernel {kernel}, stride {stride}, {groups} groups, {size} pixels"
            );
            assert_follows(&case, x, std::slice::from_ref(&w), tolerance, |x, which| {
                aten(&device).conv2d(x, w[which].clone(), stride, kernel / 2, groups)
            });
        }
    }
}

/// Layers some of whose products are made one by one: see `windows`.
fn wide_convolutions_follow_f32(device: &Device) {
    let kernels = aten(device);
    let device = device.clone().autodiff();
    for (kernel, stride, padding, channels, size) in [
        (1, 1, 0, [128, 144], [5, 4]),
        (1, 2, 0, [64, 96], [8, 5]),
        (1, 3, 0, [80, 64], [7, 9]),
        (1, 2, 0, [64, 64], [1, 1]),
        (3, 1, 1, [64, 80], [6, 7]),
        (3, 1, 1, [64, 64], [5, 3]),
        (3, 1, 0, [64, 64], [7, 5]),
        (3, 2, 1, [64, 64], [9, 14]),
        (3, 2, 1, [64, 80], [7, 6]),
        (3, 2, 1, [64, 64], [4, 1]),
        (5, 3, 2, [64, 64], [8, 9]),
    ] {
        let [input, output] = channels;
        let [height, width] = size;
        let values = tensor(1, [3, input, height, width], &device);
        let x = both(values, FloatDType::BF16);
        let values = tensor(2, [output, input, kernel, kernel], &device);
        let w = both(values, FloatDType::BF16);
        let case = format!(
            "kernel {kernel}, stride {stride}, padding {padding}, {channels:?} channels, {size:?} pixels"
        );
        assert_follows(&case, x, std::slice::from_ref(&w), 1e-2, |x, which| {
            kernels.conv2d(x, w[which].clone(), stride, padding, 1)
        });
    }
}

/// The sum over the uses of a weight is as exact as its parts: half precision would lose the smaller one.
fn gradients_of_a_weight_add_up_in_f32(device: &Device) {
    let kernels = aten(device);
    let device = device.clone().autodiff();
    for dtype in [FloatDType::BF16, FloatDType::F16] {
        let x = tensor::<4>(1, [2, 16, 6, 6], &device).cast(dtype);
        let w = tensor::<4>(2, [16, 16, 3, 3], &device);
        let gradient = |scales: &[f32]| {
            let w = w.clone().detach().require_grad();
            let low = w.clone().cast(dtype);
            let parts = scales.iter().map(|&scale| {
                let output = kernels.conv2d(x.clone(), low.clone(), 1, 1, 1);
                weighted(output.mul_scalar(scale))
            });
            let sum = parts.reduce(|sum, part| sum + part).expect("a part");
            w.grad(&sum.backward()).expect("a gradient")
        };
        let smaller = gradient(&[1.0 / 1024.0]);
        let expected = gradient(&[1.0]) + smaller.clone();
        let actual = gradient(&[1.0, 1.0 / 1024.0]);
        if is_cuda(&device) {
            // cuDNN may add up in another order each time, which now and then rounds a part the other way.
            let norm = |x: Tensor<4>| values((x.clone() * x).sum())[0].sqrt();
            let off = norm(actual - expected) / norm(smaller);
            assert!(off <= 0.2, "{dtype:?}: {off} of the smaller part");
            continue;
        }
        assert_close(&format!("{dtype:?}"), actual, expected, 1e-6);
    }
}

fn batch_normalisation_follows_f32(device: &Device) {
    let device = device.clone().autodiff();
    let parameters =
        [1.5, 0.5].map(|shift| (tensor::<1>(3, [8], &device) * 0.5 + shift).require_grad());
    let running = || {
        let plain = device.clone().without_autodiff();
        RunningStatistics {
            mean: Tensor::zeros([8], &plain),
            variance: Tensor::ones([8], &plain),
        }
    };
    for (dtype, tolerance) in TYPES {
        let x = both(tensor(1, [6, 8, 5, 4], &device) * 2.0 + 0.7, dtype);
        let [weight, bias] = parameters.clone();
        assert_follows::<4, 1>(
            &format!("{dtype:?}, training"),
            x.clone(),
            &[],
            tolerance,
            |x, _| {
                let (weight, bias) = (weight.clone(), bias.clone());
                let normalised =
                    aten(&device).batch_norm_train(x, weight, bias, running(), MOMENTUM, EPS);
                assert_eq!(normalised.running.mean.dtype(), DType::F32);
                normalised.output
            },
        );
        assert_follows::<4, 1>(
            &format!("{dtype:?}, evaluation"),
            x,
            &[],
            tolerance,
            |x, _| aten(&device).batch_norm_eval(x, weight.clone(), bias.clone(), running(), EPS),
        );
    }
}

fn gelus_follow_f32(device: &Device) {
    let device = device.clone().autodiff();
    for (dtype, tolerance) in TYPES {
        let x = both(tensor(1, [3, 7, 20], &device) * 3.0, dtype);
        assert_follows::<3, 1>(
            &format!("{dtype:?}, gelu"),
            x.clone(),
            &[],
            tolerance,
            |x, _| aten(&device).gelu(x).unsqueeze(),
        );
    }
}

fn rectifiers_follow_f32(device: &Device) {
    let device = device.clone().autodiff();
    for (dtype, tolerance) in TYPES {
        let x = both(tensor(1, [3, 4, 5, 6], &device), dtype);
        let y = both(tensor(2, [3, 4, 5, 6], &device), dtype);
        assert_follows::<4, 4>(
            &format!("{dtype:?}, relu"),
            x.clone(),
            &[],
            tolerance,
            |x, _| aten(&device).relu(x),
        );
        assert_follows(
            &format!("{dtype:?}, add_relu"),
            x,
            std::slice::from_ref(&y),
            tolerance,
            |x, which| aten(&device).add_relu(x, y[which].clone()),
        );
    }
}
