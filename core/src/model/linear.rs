//! Fully connected layer.

use super::Init;
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
    /// Weights `N(0, 0.02^2)`, bias 0, as the authors' head and transformers. (Theirs is truncated at +-2, a hundred
    /// standard deviations out: the same distribution.)
    pub fn new(init: &mut Init<'_>, input: usize, output: usize) -> Self {
        Self {
            weight: init.normal([output, input], 0.02),
            bias: init.constant([output], 0.0),
        }
    }

    /// `[batch, in]` to `[batch, out]`.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        x.matmul(self.weight.val().transpose()) + self.bias.val().unsqueeze()
    }

    /// `[batch, tokens, in]` to `[batch, tokens, out]`.
    pub fn forward_tokens(&self, x: Tensor<3>) -> Tensor<3> {
        let [batch, tokens, input] = x.dims();
        // One large product instead of one per image.
        let y = self.forward(x.reshape([batch * tokens, input]));
        let output = y.dims()[1];
        y.reshape([batch, tokens, output])
    }
}
