//! ATen's kernels against burn's own operations on the same tensors: outputs and gradients.

#![allow(clippy::expect_used, reason = "a failed expectation is a failed test")]

mod convolution;
mod layers;
mod update;

use burn::backend::LibTorch;
use burn::tensor::{Device, FloatDType, Tensor, TensorData};
use selfcls_core::config::Precision;

use super::AtenKernels;

fn device() -> Device {
    Device::libtorch()
}

fn aten() -> AtenKernels {
    AtenKernels::new(Precision::F32, false)
}

/// Values in [-1, 1) without a pattern that a kernel might share.
pub(super) fn tensor<const D: usize>(seed: u64, shape: [usize; D], device: &Device) -> Tensor<D> {
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

pub(super) fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
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
