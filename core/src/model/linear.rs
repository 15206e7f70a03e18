//! Fully connected layer.

use super::{Context, Init};
use burn::module::{Module, Param};
use burn::tensor::Tensor;

/// `y = x W^T + b`, with PyTorch's weight layout.
#[derive(Module, Debug)]
pub struct Linear {
    /// `[out, in]`.
    pub weight: Param<Tensor<2>>,
    /// `[out]`.
    pub bias: Param<Tensor<1>>,
}

impl Linear {
    /// Weights `N(0, 0.02^2)`, bias 0, as the authors' head. (Theirs is truncated at +-2, a hundred
    /// standard deviations out: the same distribution.)
    pub fn new(init: &mut Init<'_>, input: usize, output: usize) -> Self {
        Self {
            weight: init.normal([output, input], 0.02),
            bias: init.constant([output], 0.0),
        }
    }

    /// `[batch, in]` to `[batch, out]`, in the precision of the context's kernels.
    pub fn forward(&self, x: Tensor<2>, context: &Context<'_>) -> Tensor<2> {
        let weight = context.autocast(self.weight.val());
        let bias = context.autocast(self.bias.val());
        context.autocast(x).matmul(weight.transpose()) + bias.unsqueeze()
    }
}
