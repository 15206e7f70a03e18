//! Fully connected layer.

use super::{Context, Init};
use crate::config::HeadInit;
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
    /// `normal`: weights `N(0, 0.02^2)`, bias 0, as the authors' head and transformers (theirs is truncated
    /// at +-2, a hundred standard deviations out: the same distribution). `uniform`: both
    /// `U(-1/sqrt(in), 1/sqrt(in))`, PyTorch's default.
    pub fn new(init: &mut Init<'_>, kind: HeadInit, input: usize, output: usize) -> Self {
        match kind {
            HeadInit::Normal => Self {
                weight: init.normal([output, input], 0.02),
                bias: init.constant([output], 0.0),
            },
            HeadInit::Uniform => {
                let bound = 1.0 / (input as f64).sqrt();
                Self {
                    weight: init.uniform([output, input], bound),
                    bias: init.uniform([output], bound),
                }
            }
        }
    }

    /// `[batch, in]` to `[batch, out]`, in the precision of the context's kernels.
    pub fn forward(&self, x: Tensor<2>, context: &Context<'_>) -> Tensor<2> {
        let weight = context.autocast(context.matrix(&self.weight, &x));
        let bias = context.autocast(self.bias.val());
        context.autocast(x).matmul(weight.transpose()) + bias.unsqueeze()
    }

    /// `[batch, tokens, in]` to `[batch, tokens, out]`, in the precision of the context's kernels.
    pub fn forward_tokens(&self, x: Tensor<3>, context: &Context<'_>) -> Tensor<3> {
        let [batch, tokens, input] = x.dims();
        // One large product instead of one per image.
        let y = self.forward(x.reshape([batch * tokens, input]), context);
        let output = y.dims()[1];
        y.reshape([batch, tokens, output])
    }
}
