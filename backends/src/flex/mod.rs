//! core's kernels for flex, through burn's mechanism for backend extensions.
//!
//! flex has no backward pass of convolutions: burn composes it of forward ones, whose kernels are then as large as
//! images, and each converts its operands between layouts on one thread. Here images lie channels last,
//! convolutions and their gradients are products of matrices of suitable shapes, taps of a kernel that lie
//! outside the image at every place cost nothing, and batch normalisation is two passes each way.

mod convolution;
mod extension;
mod filters;
mod layer;
mod maps;
mod normalisation;
mod product;
mod rectifier;
#[cfg(test)]
mod tests;
mod window;

use burn::backend::Dispatch;
use burn::tensor::{DType, Tensor};
use selfcls_core::kernels::{BatchNormOutput, Kernels, PlainKernels, RunningStatistics};

use extension::FlexOps;

use crate::options::{Convolution, Normalisation};

/// Operations for tensors on the flex device; others panic. In f32; other types go to burn's own operations.
#[derive(Debug, Clone, Copy, Default)]
pub struct FlexKernels;

fn is_f32(tensor: &Tensor<4>) -> bool {
    tensor.dtype() == DType::F32
}

fn batch_norm(
    input: Tensor<4>,
    [weight, bias]: [Tensor<1>; 2],
    running: RunningStatistics,
    options: Normalisation,
) -> BatchNormOutput {
    let (output, mean, variance) = <Dispatch as FlexOps>::flex_batch_norm(
        input.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
        running.mean.into_dispatch(),
        running.variance.into_dispatch(),
        options,
    );
    BatchNormOutput {
        output: Tensor::from_dispatch(output),
        running: RunningStatistics {
            mean: Tensor::<1>::from_dispatch(mean).without_autodiff(),
            variance: Tensor::<1>::from_dispatch(variance).without_autodiff(),
        },
    }
}

impl Kernels for FlexKernels {
    fn conv2d(
        &self,
        input: Tensor<4>,
        weight: Tensor<4>,
        stride: usize,
        padding: usize,
        groups: usize,
    ) -> Tensor<4> {
        if !is_f32(&input) {
            return PlainKernels.conv2d(input, weight, stride, padding, groups);
        }
        let shape = Convolution {
            stride,
            padding,
            groups,
        };
        Tensor::from_dispatch(<Dispatch as FlexOps>::flex_conv2d(
            input.into_dispatch(),
            weight.into_dispatch(),
            shape,
        ))
    }

    fn batch_norm_train(
        &self,
        input: Tensor<4>,
        weight: Tensor<1>,
        bias: Tensor<1>,
        running: RunningStatistics,
        momentum: f64,
        eps: f64,
    ) -> BatchNormOutput {
        if !is_f32(&input) {
            return PlainKernels.batch_norm_train(input, weight, bias, running, momentum, eps);
        }
        let options = Normalisation {
            training: true,
            momentum,
            eps,
        };
        batch_norm(input, [weight, bias], running, options)
    }

    fn batch_norm_eval(
        &self,
        input: Tensor<4>,
        weight: Tensor<1>,
        bias: Tensor<1>,
        running: RunningStatistics,
        eps: f64,
    ) -> Tensor<4> {
        if !is_f32(&input) {
            return PlainKernels.batch_norm_eval(input, weight, bias, running, eps);
        }
        let options = Normalisation {
            training: false,
            momentum: 0.0,
            eps,
        };
        batch_norm(input, [weight, bias], running, options).output
    }

    fn relu(&self, input: Tensor<4>) -> Tensor<4> {
        if !is_f32(&input) {
            return PlainKernels.relu(input);
        }
        Tensor::from_dispatch(<Dispatch as FlexOps>::flex_relu(input.into_dispatch()))
    }

    fn add_relu(&self, lhs: Tensor<4>, rhs: Tensor<4>) -> Tensor<4> {
        if !is_f32(&lhs) {
            return PlainKernels.add_relu(lhs, rhs);
        }
        Tensor::from_dispatch(<Dispatch as FlexOps>::flex_add_relu(
            lhs.into_dispatch(),
            rhs.into_dispatch(),
        ))
    }
}
