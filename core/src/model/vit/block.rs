//! A transformer block, normalising before each branch.

use super::drop_path::drop_path;
use super::{Attention, LayerNorm};
use crate::config::{HeadInit, Transformer};
use crate::model::context::Noise;
use crate::model::{Context, Init, Linear};
use burn::module::Module;
use burn::tensor::{FloatDType, Tensor};

/// Attention, then a small network for each token, each beside a shortcut.
#[derive(Module, Debug)]
pub struct TransformerBlock {
    /// Before the attention.
    pub norm1: LayerNorm,
    /// Between tokens.
    pub attn: Attention,
    /// Before the small network.
    pub norm2: LayerNorm,
    /// Within tokens.
    pub mlp: Mlp,
}

/// What a block draws from when branches may be skipped.
pub(super) struct BlockNoise {
    pub(super) noise: Noise,
    /// The block's position.
    pub(super) index: usize,
    /// The probability that a sample skips a branch.
    pub(super) rate: f64,
}

impl TransformerBlock {
    /// A block of `layout`.
    pub fn new(init: &mut Init<'_>, layout: &Transformer) -> Self {
        Self {
            norm1: LayerNorm::new(init, layout.dim),
            attn: Attention::new(init, layout),
            norm2: LayerNorm::new(init, layout.dim),
            mlp: Mlp::new(init, layout.dim, layout.mlp_dim()),
        }
    }

    /// `x + attn(norm1(x))`, then `x + mlp(norm2(x))`: `[batch, tokens, dim]` to the same shape. The sums
    /// and the normalisations are f32 in any precision.
    pub(super) fn forward(
        &self,
        x: Tensor<3>,
        noise: Option<&BlockNoise>,
        context: &Context<'_>,
    ) -> Tensor<3> {
        let keep = |branch: Tensor<3>, number: usize| {
            let branch = branch.cast(FloatDType::F32);
            match noise {
                Some(BlockNoise { noise, index, rate }) => {
                    drop_path(branch, *rate, *noise, 2 * index + number, context.kernels)
                }
                None => branch,
            }
        };
        let seen = self.norm1.forward(x.clone(), context);
        let x = x + keep(self.attn.forward(seen, context), 0);
        let seen = self.norm2.forward(x.clone(), context);
        x + keep(self.mlp.forward(seen, context), 1)
    }
}

/// Two linear layers around a GELU.
#[derive(Module, Debug)]
pub struct Mlp {
    /// `[hidden, dim]`.
    pub fc1: Linear,
    /// `[dim, hidden]`.
    pub fc2: Linear,
}

impl Mlp {
    /// `dim` to `hidden` and back.
    pub fn new(init: &mut Init<'_>, dim: usize, hidden: usize) -> Self {
        Self {
            fc1: Linear::new(init, HeadInit::Normal, dim, hidden),
            fc2: Linear::new(init, HeadInit::Normal, hidden, dim),
        }
    }

    /// `[batch, tokens, dim]` to the same shape.
    pub fn forward(&self, x: Tensor<3>, context: &Context<'_>) -> Tensor<3> {
        let hidden = self.fc1.forward_tokens(x, context);
        let hidden = context.kernels.gelu(hidden);
        self.fc2.forward_tokens(hidden, context)
    }
}
