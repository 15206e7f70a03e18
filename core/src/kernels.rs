//! The hot operations, behind a trait, so that a backend may bring faster ones.
//!
//! [`PlainKernels`] writes them in burn's own operations and serves every backend. `selfcls-backends`
//! can supply others (ATen's on libtorch); their gradients must equal these.

use burn::tensor::Tensor;
use burn::tensor::module::{batch_norm, batch_norm_train, conv2d};
use burn::tensor::ops::ConvOptions;
use std::fmt::Debug;

/// Batch normalisation over a batch, with the statistics it used.
#[derive(Debug)]
pub struct BatchNormOutput {
    /// The normalised, scaled and shifted input, `[batch, channels, height, width]`.
    pub output: Tensor<4>,
    /// Mean of each channel, `[channels]`, detached.
    pub mean: Tensor<1>,
    /// Biased variance of each channel (divided by the count), `[channels]`, detached.
    pub variance: Tensor<1>,
}

/// Implementations of the operations that training spends its time in.
pub trait Kernels: Send + Sync + Debug {
    /// Convolution without bias: `[batch, in, h, w]` with `[out, in / groups, kh, kw]`. Input and output
    /// channels fall into `groups` equal parts that do not see each other.
    fn conv2d(
        &self,
        input: Tensor<4>,
        weight: Tensor<4>,
        stride: usize,
        padding: usize,
        groups: usize,
    ) -> Tensor<4>;

    /// Batch normalisation with the batch's own statistics, `[batch, channels, h, w]`.
    fn batch_norm_train(
        &self,
        input: Tensor<4>,
        weight: Tensor<1>,
        bias: Tensor<1>,
        eps: f64,
    ) -> BatchNormOutput;

    /// Batch normalisation with given statistics, `[batch, channels, h, w]`.
    fn batch_norm_eval(
        &self,
        input: Tensor<4>,
        weight: Tensor<1>,
        bias: Tensor<1>,
        mean: Tensor<1>,
        variance: Tensor<1>,
        eps: f64,
    ) -> Tensor<4>;
}

/// The operations as burn has them.
#[derive(Debug, Clone, Copy, Default)]
pub struct PlainKernels;

impl Kernels for PlainKernels {
    fn conv2d(
        &self,
        input: Tensor<4>,
        weight: Tensor<4>,
        stride: usize,
        padding: usize,
        groups: usize,
    ) -> Tensor<4> {
        let options = ConvOptions::new([stride; 2], [padding; 2], [1; 2], groups);
        conv2d(input, weight, None, options)
    }

    fn batch_norm_train(
        &self,
        input: Tensor<4>,
        weight: Tensor<1>,
        bias: Tensor<1>,
        eps: f64,
    ) -> BatchNormOutput {
        let result = batch_norm_train(input, weight, bias, eps);
        BatchNormOutput {
            output: result.output,
            mean: result.mean.detach(),
            variance: result.variance.detach(),
        }
    }

    fn batch_norm_eval(
        &self,
        input: Tensor<4>,
        weight: Tensor<1>,
        bias: Tensor<1>,
        mean: Tensor<1>,
        variance: Tensor<1>,
        eps: f64,
    ) -> Tensor<4> {
        batch_norm(input, weight, bias, mean, variance, eps)
    }
}
