//! Multi-head self-attention (Vaswani et al. 2017, section 3.2).

use crate::config::{HeadInit, Transformer};
use crate::model::{Context, Init, Linear};
use burn::module::Module;
use burn::tensor::Tensor;

/// Every token looks at every token.
#[derive(Module, Debug)]
pub struct Attention {
    /// Queries, keys and values of all heads, one after the other: `[3 * dim, dim]`.
    pub qkv: Linear,
    /// Mixes the heads' results.
    pub proj: Linear,
    #[module(skip)]
    heads: usize,
}

impl Attention {
    /// Attention between the tokens of `layout`.
    pub fn new(init: &mut Init<'_>, layout: &Transformer) -> Self {
        Self {
            qkv: Linear::new(init, HeadInit::Normal, layout.dim, 3 * layout.dim),
            proj: Linear::new(init, HeadInit::Normal, layout.dim, layout.dim),
            heads: layout.heads,
        }
    }

    /// [`attention`](crate::kernels::Kernels::attention) of the heads, then the projection: `[batch, tokens, dim]` to
    /// the same shape, in the precision of the context's kernels.
    pub fn forward(&self, x: Tensor<3>, context: &Context<'_>) -> Tensor<3> {
        let qkv = self.qkv.forward_tokens(x, context);
        let mixed = context.kernels.attention(qkv, self.heads);
        self.proj.forward_tokens(mixed, context)
    }
}
