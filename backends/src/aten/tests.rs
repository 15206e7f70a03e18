//! ATen's kernels against burn's own operations on the same tensors: outputs and gradients.

#![allow(clippy::expect_used, reason = "a failed expectation is a failed test")]

use burn::backend::LibTorch;
use burn::tensor::{DType, Device, FloatDType, Tensor};
use selfcls_core::config::{OptimConfig, OptimKind, Precision};
use selfcls_core::kernels::{Kernels, PlainKernels};
use selfcls_core::optim::rule::ParamUpdate;

use super::AtenKernels;
use crate::against_burn::{self, assert_close, residual_gradients, tensor, values, weighted};

fn device() -> Device {
    Device::libtorch()
}

fn aten() -> AtenKernels {
    AtenKernels::new(Precision::F32, false)
}

/// Whether the values lie as `[batch, height, width, channels]` in memory.
fn is_channels_last(tensor: &Tensor<4>) -> bool {
    let [_, channels, height, width] = tensor.dims().map(|n| n as i64);
    let plain = tensor.clone().without_autodiff();
    let strides = plain
        .try_into_primitive::<LibTorch>()
        .expect("a libtorch tensor")
        .tensor
        .stride();
    strides == [height * width * channels, 1, width * channels, channels]
}

#[test]
fn convolutions_equal_burns() {
    against_burn::convolutions_equal_burns(&aten(), &device());
    against_burn::convolutions_of_constants_have_half_a_gradient(&aten(), &device());
}

#[test]
fn batch_normalisation_equals_burns() {
    against_burn::batch_normalisation_equals_burns(&aten(), &device());
}

#[test]
fn rectifiers_equal_burns_and_spare_what_is_still_needed() {
    against_burn::rectifiers_equal_burns_and_spare_what_is_still_needed(&aten(), &device());
}

/// What libtorch 2.9 gets wrong channels last, and corrupts memory over: see `extension::laid_out`.
#[test]
fn narrow_shortcuts_have_right_gradients() {
    let device = device().autodiff();
    for channels in [1, 2, 3, 4, 5, 8, 12, 16] {
        for size in [4, 8, 16] {
            let x = aten().weight_layout(tensor(
                1,
                [8, channels, size, size],
                &device.clone().without_autodiff(),
            ));
            let x = x.autodiff().require_grad();
            let w = tensor(2, [8, channels, 1, 1], &device).require_grad();
            let run = |kernels: &dyn Kernels| {
                weighted(kernels.conv2d(x.clone(), w.clone(), 2, 0, 1)).backward()
            };
            let (ours, theirs) = (run(&aten()), run(&PlainKernels));
            for (name, tensor) in [("input", &x), ("weight", &w)] {
                assert_close(
                    &format!("{channels} channels, {size} pixels: gradient of the {name}"),
                    tensor.grad(&ours).expect("a gradient"),
                    tensor.grad(&theirs).expect("a gradient"),
                    1e-5,
                );
            }
        }
    }
}

/// What libtorch 2.9 gets wrong in bf16: see `extension::conv2d_backward`.
#[test]
fn images_of_one_pixel_have_right_gradients_in_half_precision() {
    let device = device().autodiff();
    for (dtype, tolerance) in [(FloatDType::BF16, 2e-2), (FloatDType::F16, 4e-3)] {
        for (input, output) in [(3, 8), (16, 32), (32, 64), (64, 64)] {
            for (kernel, [height, width]) in [(3, [1, 1]), (3, [4, 1]), (3, [1, 4]), (7, [1, 1])] {
                let low = |seed, shape| tensor(seed, shape, &device).cast(dtype).detach();
                let x = low(1, [16, input, height, width]).require_grad();
                let w = low(2, [output, input, kernel, kernel]).require_grad();
                let grads = weighted(aten().conv2d(x.clone(), w.clone(), 2, kernel / 2, 1));
                let grads = grads.backward();
                let full = |tensor: &Tensor<4>| {
                    tensor.clone().cast(FloatDType::F32).detach().require_grad()
                };
                let (full_x, full_w) = (full(&x), full(&w));
                let convolved =
                    PlainKernels.conv2d(full_x.clone(), full_w.clone(), 2, kernel / 2, 1);
                let expected = weighted(convolved).backward();
                for (name, low, full) in [("input", &x, &full_x), ("weight", &w, &full_w)] {
                    assert_close(
                        &format!(
                            "{input} to {output} channels, kernel {kernel}, {height} by {width} pixels, {dtype:?}: gradient of the {name}"
                        ),
                        low.grad(&grads).expect("a gradient").cast(FloatDType::F32),
                        full.grad(&expected).expect("a gradient"),
                        tolerance,
                    );
                }
            }
        }
    }
}

#[test]
fn chains_equal_burns_and_stay_channels_last() {
    let (ours, our_gradients) = residual_gradients(&aten(), &device());
    let (theirs, their_gradients) = residual_gradients(&PlainKernels, &device());
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
    let (expected, expected_gradients) = residual_gradients(&aten(), &device());
    for (precision, dtype, tolerance) in [
        (Precision::Bf16, DType::BF16, 3e-2),
        (Precision::Fp16, DType::F16, 5e-3),
    ] {
        let (output, gradients) =
            residual_gradients(&AtenKernels::new(precision, false), &device());
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

/// Updates of the optimiser are elementwise: they keep the layout that was chosen once.
#[test]
fn a_weights_layout_survives_an_update() {
    let device = device();
    let weight: Tensor<4> = tensor(30, [8, 4, 3, 3], &device);
    let laid_out = aten().weight_layout(weight.clone());
    assert!(is_channels_last(&laid_out) && !is_channels_last(&weight));
    assert_eq!(values(laid_out.clone()), values(weight));
    let gradient = aten().weight_layout(tensor(31, [8, 4, 3, 3], &device));
    let updated = laid_out.clone() - (laid_out * 0.1 + gradient) * 0.5;
    assert!(is_channels_last(&updated));
}

/// Parameters of all shapes with random gradients, one of them zero, updated three times.
fn three_updates(kernels: &dyn Kernels, config: &OptimConfig) -> Vec<Tensor<4>> {
    let device = device();
    let shapes = [[8, 4, 3, 3], [8, 1, 1, 1], [6, 8, 1, 1], [1, 1, 1, 1]];
    let mut params: Vec<(Tensor<4>, Vec<Tensor<4>>)> = (50..)
        .zip(shapes)
        .map(|(seed, shape)| {
            (
                kernels.weight_layout(tensor(seed, shape, &device)),
                Vec::new(),
            )
        })
        .collect();
    for step in 1..=3 {
        let updates = (0..).zip(params).map(|(index, (param, moments))| {
            let gradient = tensor(60 + 10 * step + index, param.dims(), &device);
            ParamUpdate {
                grad: if index == 1 { gradient * 0.0 } else { gradient },
                param,
                moments,
                // Some biases have a group of their own.
                weight_decay: if index == 2 { 0.0 } else { config.weight_decay },
                step: step as usize,
            }
        });
        params = kernels
            .update(config, 0.3, updates.collect())
            .into_iter()
            .map(|updated| (updated.param, updated.moments))
            .collect();
    }
    params
        .into_iter()
        .flat_map(|(param, moments)| std::iter::once(param).chain(moments))
        .collect()
}

/// In place and one by one, in place and together: as the formulas say.
#[test]
fn updates_equal_the_plain_rule() {
    for kind in [
        OptimKind::Sgd,
        OptimKind::Larc,
        OptimKind::AdamW,
        OptimKind::LarcAdamW,
    ] {
        for (momentum, larc_clip, clip_grad) in
            [(0.9, false, 0.0), (0.0, false, 0.5), (0.9, true, 2.0)]
        {
            let config = OptimConfig {
                kind,
                momentum,
                larc_clip,
                clip_grad,
                weight_decay: 0.1,
                ..Default::default()
            };
            let expected = three_updates(&PlainKernels, &config);
            for batched in [false, true] {
                let kernels = AtenKernels::new(Precision::F32, batched);
                let actual = three_updates(&kernels, &config);
                assert_eq!(actual.len(), expected.len());
                for (index, (actual, expected)) in actual.into_iter().zip(&expected).enumerate() {
                    let case = format!("{kind:?}, batched: {batched}, {momentum}, tensor {index}");
                    if index == 0 {
                        assert!(is_channels_last(&actual), "{case}");
                    }
                    assert_close(&case, actual, expected.clone(), 2e-6);
                }
            }
        }
    }
}

/// What somebody else still holds is copied, not overwritten.
#[test]
fn updates_spare_what_is_shared() {
    let device = device();
    let config = OptimConfig::default();
    let tensors = [70, 71, 72].map(|seed| tensor::<4>(seed, [4, 2, 1, 1], &device));
    let before = tensors.clone().map(values);
    let [param, grad, moment] = tensors.clone();
    let updated = aten().update(
        &config,
        0.5,
        vec![ParamUpdate {
            param,
            grad,
            moments: vec![moment],
            weight_decay: 0.1,
            step: 2,
        }],
    );
    assert_ne!(values(updated[0].param.clone()), before[0]);
    assert_eq!(tensors.map(values), before);
}
