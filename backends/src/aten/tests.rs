//! ATen's kernels against burn's own operations on the same tensors: outputs and gradients.

#![allow(clippy::expect_used, reason = "a failed expectation is a failed test")]

use burn::backend::LibTorch;
use burn::tensor::{DType, Device, FloatDType, Tensor, TensorData};
use selfcls_core::config::{OptimConfig, OptimKind, Precision};
use selfcls_core::kernels::{Kernels, PlainKernels, RunningStatistics};
use selfcls_core::optim::rule::ParamUpdate;

use super::AtenKernels;

const EPS: f64 = 1e-5;
const MOMENTUM: f64 = 0.1;

fn device() -> Device {
    Device::libtorch()
}

fn aten() -> AtenKernels {
    AtenKernels::new(Precision::F32, false)
}

/// Values in [-1, 1) without a pattern that a kernel might share.
fn tensor<const D: usize>(seed: u64, shape: [usize; D], device: &Device) -> Tensor<D> {
    let count = shape.iter().product::<usize>();
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d;
    let values: Vec<f32> = (0..count)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor
        .into_data()
        .convert::<f32>()
        .try_into_vec()
        .expect("f32 data")
}

#[track_caller]
fn assert_close<const D: usize>(
    what: &str,
    actual: Tensor<D>,
    expected: Tensor<D>,
    tolerance: f32,
) {
    assert_eq!(actual.dims(), expected.dims(), "{what}");
    let (actual, expected) = (values(actual), values(expected));
    let scale = expected
        .iter()
        .fold(1e-3_f32, |scale, x| scale.max(x.abs()));
    for (a, e) in actual.iter().zip(&expected) {
        // Not `>`: a NaN must fail.
        assert!(
            (a - e).abs() <= tolerance * scale,
            "{what}: {a} instead of {e}, of scale {scale}"
        );
    }
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

/// The sum of `output` weighted without pattern, so that every gradient is different.
fn weighted(output: Tensor<4>) -> Tensor<1> {
    let weights = tensor(99, output.dims(), &output.device());
    (output.cast(FloatDType::F32) * weights).sum()
}

/// Kernels, strides, paddings and groups, square images and not, without autodiff and with.
#[test]
fn convolutions_equal_burns() {
    let device = device();
    let autodiff = device.clone().autodiff();
    for kernel in [1, 2, 3, 7] {
        for stride in [1, 2, 4] {
            for padding in [0, kernel / 2, kernel - 1] {
                for (input, output, groups) in [(3, 8, 1), (8, 6, 1), (8, 12, 2), (6, 6, 6)] {
                    let case = format!(
                        "{input} to {output} channels in {groups} groups, kernel {kernel}, stride {stride}, padding {padding}"
                    );
                    let convolve = |kernels: &dyn Kernels, x: &Tensor<4>, w: &Tensor<4>| {
                        kernels.conv2d(x.clone(), w.clone(), stride, padding, groups)
                    };
                    let x = |device| tensor(1, [3, input, 9, 8], device);
                    let w = |device| tensor(2, [output, input / groups, kernel, kernel], device);
                    assert_close(
                        &format!("{case}: output without autodiff"),
                        convolve(&aten(), &x(&device), &w(&device)),
                        convolve(&PlainKernels, &x(&device), &w(&device)),
                        1e-5,
                    );

                    let (x, w) = (x(&autodiff).require_grad(), w(&autodiff).require_grad());
                    let ours = convolve(&aten(), &x, &w);
                    let theirs = convolve(&PlainKernels, &x, &w);
                    assert_close(
                        &format!("{case}: output"),
                        ours.clone(),
                        theirs.clone(),
                        1e-5,
                    );
                    let (ours, theirs) = (weighted(ours).backward(), weighted(theirs).backward());
                    for (name, tensor) in [("input", &x), ("weight", &w)] {
                        assert_close(
                            &format!("{case}: gradient of the {name}"),
                            tensor.grad(&ours).expect("a gradient"),
                            tensor.grad(&theirs).expect("a gradient"),
                            1e-5,
                        );
                    }
                }
            }
        }
    }
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

/// A gradient that nobody wants is not computed, and the other one is right all the same.
#[test]
fn convolutions_of_constants_have_half_a_gradient() {
    let device = device().autodiff();
    let convolve = |x: &Tensor<4>, w: &Tensor<4>| aten().conv2d(x.clone(), w.clone(), 1, 1, 1);
    let (x, w) = (
        tensor(1, [2, 4, 6, 6], &device),
        tensor(2, [8, 4, 3, 3], &device),
    );
    let both = [x.clone().require_grad(), w.clone().require_grad()];
    let expected = weighted(convolve(&both[0], &both[1])).backward();
    let image = x.clone().require_grad();
    let grads = weighted(convolve(&image, &w)).backward();
    assert!(w.grad(&grads).is_none());
    assert_close(
        "of the input",
        image.grad(&grads).expect("a gradient"),
        both[0].grad(&expected).expect("a gradient"),
        1e-6,
    );
    let weight = w.require_grad();
    let grads = weighted(convolve(&x, &weight)).backward();
    assert!(x.grad(&grads).is_none());
    assert_close(
        "of the weight",
        weight.grad(&grads).expect("a gradient"),
        both[1].grad(&expected).expect("a gradient"),
        1e-6,
    );
}

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
