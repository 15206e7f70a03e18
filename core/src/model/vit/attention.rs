//! Multi-head self-attention (Vaswani et al. 2017, section 3.2).

use crate::config::{HeadInit, Transformer};
use crate::model::{Context, Init, Linear};
use burn::module::Module;
use burn::tensor::activation::softmax;
use burn::tensor::{FloatDType, Tensor};

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

    /// `softmax(Q K^T / sqrt(dim / heads)) V` per head, then the projection: `[batch, tokens, dim]` to the
    /// same shape. Products in the precision of the context's kernels, the softmax in f32.
    pub fn forward(&self, x: Tensor<3>, context: &Context<'_>) -> Tensor<3> {
        let [batch, tokens, dim] = x.dims();
        let width = dim / self.heads;
        let qkv = self
            .qkv
            .forward_tokens(x, context)
            .reshape([batch, tokens, 3, self.heads, width])
            .permute([2, 0, 3, 1, 4]);
        let [q, k, v] = [0, 1, 2].map(|part| {
            let part = qkv.clone().slice(part..part + 1);
            part.reshape([batch, self.heads, tokens, width])
        });
        // The smaller factor is scaled; with heads of 64 features the scale is a power of two, so nothing is rounded.
        let scores = q
            .mul_scalar((width as f64).powf(-0.5))
            .matmul(k.transpose());
        let weights = softmax(scores.cast(FloatDType::F32), 3);
        let mixed = context.autocast(weights).matmul(v);
        let mixed = mixed.swap_dims(1, 2).reshape([batch, tokens, dim]);
        self.proj.forward_tokens(mixed, context)
    }
}
