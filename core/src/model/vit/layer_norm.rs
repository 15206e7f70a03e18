//! Layer normalisation.

use crate::model::{Context, Init};
use burn::module::{Module, Param};
use burn::tensor::Tensor;

/// Added to the variance (authors' code, as timm; PyTorch's default is 1e-5).
const EPS: f64 = 1e-6;

/// `(x - mean) / sqrt(var + 1e-6) * weight + bias` over the last axis, with the biased variance.
#[derive(Module, Debug)]
pub struct LayerNorm {
    /// `[dim]`.
    pub weight: Param<Tensor<1>>,
    /// `[dim]`.
    pub bias: Param<Tensor<1>>,
}

impl LayerNorm {
    /// Scale 1, shift 0.
    pub fn new(init: &mut Init<'_>, dim: usize) -> Self {
        Self {
            weight: init.constant([dim], 1.0),
            bias: init.constant([dim], 0.0),
        }
    }

    /// `[batch, tokens, dim]` to the same shape.
    pub fn forward(&self, x: Tensor<3>, context: &Context<'_>) -> Tensor<3> {
        let (weight, bias) = (self.weight.val(), self.bias.val());
        context.kernels.layer_norm(x, weight, bias, EPS)
    }
}
