//! ATen's kernels against burn's own operations on the same tensors: outputs and gradients.

#![allow(clippy::expect_used, reason = "a failed expectation is a failed test")]

mod attention;
mod convolution;
mod half;
mod layers;
mod memory;
mod tokens;
mod update;
#[cfg(waits)]
mod waits;

use burn::backend::LibTorch;
use burn::tensor::{Device, Tensor};
use selfcls_core::config::Precision;

use super::AtenKernels;
use crate::on_devices::kernels;

fn aten(device: &Device) -> AtenKernels {
    kernels(device, Precision::F32)
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
