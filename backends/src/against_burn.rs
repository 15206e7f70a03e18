//! Kernels of a backend against burn's own operations on the same tensors: outputs and gradients.

#![allow(clippy::expect_used, reason = "a failed expectation is a failed test")]

use burn::tensor::{Device, FloatDType, Tensor, TensorData};
use selfcls_core::config::Precision;
use selfcls_core::kernels::{Kernels, PlainKernels, RunningStatistics};

pub(crate) const EPS: f64 = 1e-5;
pub(crate) const MOMENTUM: f64 = 0.1;

/// Values in [-1, 1) without a pattern that a kernel might share.
pub(crate) fn tensor<const D: usize>(seed: u64, shape: [usize; D], device: &Device) -> Tensor<D> {
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

pub(crate) fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor
        .into_data()
        .convert::<f32>()
        .try_into_vec()
        .expect("f32 data")
}

/// By how much `tolerance` is too narrow on `device`: for f32 on GPUs, where cuDNN also takes Winograd's algorithm and
/// Fourier transforms, which round more.
fn more_rounding(tolerance: f32, device: &Device) -> f32 {
    #[cfg(feature = "tch")]
    if tolerance < 1e-4 && crate::on_devices::is_cuda(device) {
        return 10.0;
    }
    let _ = (tolerance, device);
    1.0
}

#[track_caller]
pub(crate) fn assert_close<const D: usize>(
    what: &str,
    actual: Tensor<D>,
    expected: Tensor<D>,
    tolerance: f32,
) {
    assert_eq!(actual.dims(), expected.dims(), "{what}");
    let tolerance = tolerance * more_rounding(tolerance, &actual.device());
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

/// The sum of `output` weighted without pattern, so that every gradient is different.
pub(crate) fn weighted(output: Tensor<4>) -> Tensor<1> {
    let weights = tensor(99, output.dims(), &output.device());
    (output.cast(FloatDType::F32) * weights).sum()
}

/// Kernels, strides, paddings and groups, square images and not, without autodiff and with.
pub(crate) fn convolutions_equal_burns(kernels: &dyn Kernels, device: &Device) {
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
                        convolve(kernels, &x(device), &w(device)),
                        convolve(&PlainKernels, &x(device), &w(device)),
                        1e-5,
                    );

                    let (x, w) = (x(&autodiff).require_grad(), w(&autodiff).require_grad());
                    let ours = convolve(kernels, &x, &w);
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

/// Images so small that every place of the kernel sees all of them: see `whole_image`.
pub(crate) fn convolutions_of_few_pixels_equal_burns(kernels: &dyn Kernels, device: &Device) {
    let device = device.clone().autodiff();
    let cases = [
        (3, 1, 1, [1, 1]),
        (3, 2, 1, [1, 1]),
        (3, 1, 1, [2, 2]),
        (3, 2, 1, [2, 2]),
        (3, 2, 1, [2, 1]),
        (3, 1, 1, [1, 2]),
        (3, 1, 2, [1, 1]),
        (5, 1, 2, [3, 2]),
        (7, 2, 3, [4, 4]),
        (2, 1, 1, [1, 1]),
        // Not all of these images is seen from everywhere.
        (3, 1, 0, [3, 3]),
        (3, 1, 1, [2, 3]),
        (3, 2, 1, [3, 3]),
    ];
    for (kernel, stride, padding, [height, width]) in cases {
        for (batch, input, output, groups) in [
            (1, 1, 1, 1),
            (1, 4, 3, 1),
            (6, 5, 8, 1),
            (8, 16, 32, 1),
            (3, 4, 6, 2),
        ] {
            let x = tensor(1, [batch, input, height, width], &device).require_grad();
            let w = tensor(2, [output, input / groups, kernel, kernel], &device).require_grad();
            let run = |kernels: &dyn Kernels| {
                let output = kernels.conv2d(x.clone(), w.clone(), stride, padding, groups);
                let grads = weighted(output.clone()).backward();
                (output.without_autodiff(), grads)
            };
            let ((ours, our_grads), (theirs, their_grads)) = (run(kernels), run(&PlainKernels));
            let case = format!(
                "{batch} images of {height} by {width}, {input} to {output} channels in {groups} groups, kernel {kernel}, stride {stride}, padding {padding}"
            );
            assert_close(&format!("{case}: output"), ours, theirs, 1e-5);
            for (name, tensor) in [("input", &x), ("weight", &w)] {
                assert_close(
                    &format!("{case}: gradient of the {name}"),
                    tensor.grad(&our_grads).expect("a gradient"),
                    tensor.grad(&their_grads).expect("a gradient"),
                    1e-5,
                );
            }
        }
    }
}

/// A gradient that nobody wants is not computed, and the other one is right all the same.
pub(crate) fn convolutions_of_constants_have_half_a_gradient(
    kernels: &dyn Kernels,
    device: &Device,
) {
    let device = device.clone().autodiff();
    let convolve = |x: &Tensor<4>, w: &Tensor<4>| kernels.conv2d(x.clone(), w.clone(), 1, 1, 1);
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

pub(crate) fn running(channels: usize, device: &Device) -> RunningStatistics {
    RunningStatistics {
        mean: tensor(11, [channels], device),
        variance: tensor(12, [channels], device) + 1.5,
    }
}

/// Images, and the rows of a head seen as images of one pixel.
pub(crate) fn batch_normalisation_equals_burns(kernels: &dyn Kernels, device: &Device) {
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
            kernels.weight_layout(input.without_autodiff()).autodiff()
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
                running(channels, device),
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
                running(channels, device),
                EPS,
            );
            let grads = weighted(output.clone()).backward();
            (output, running(channels, device), grads)
        };
        for (mode, ours, theirs) in [
            ("training", train(kernels), train(&PlainKernels)),
            ("evaluation", eval(kernels), eval(&PlainKernels)),
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
pub(crate) fn rectifiers_equal_burns_and_spare_what_is_still_needed(
    kernels: &dyn Kernels,
    device: &Device,
) {
    let device = device.clone().autodiff();
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
    let (ours, theirs) = (run(kernels), run(&PlainKernels));
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
    let _ = kernels.relu(leaf.clone());
    assert_eq!(values(leaf), before, "a shared tensor is left alone");
}

/// Two residual blocks' worth of operations, each on the result of the one before.
pub(crate) fn residual(kernels: &dyn Kernels, x: Tensor<4>, parameters: &[Tensor<4>]) -> Tensor<4> {
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

pub(crate) fn residual_gradients(
    kernels: &dyn Kernels,
    device: &Device,
) -> (Tensor<4>, Vec<Tensor<4>>) {
    let device = device.clone().autodiff();
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
