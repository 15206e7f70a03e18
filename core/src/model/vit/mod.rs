//! Vision transformers (Dosovitskiy et al. 2021) in the layout of timm, DINO and the authors' code.

mod attention;
mod block;
mod drop_path;
mod layer_norm;
mod patch;
mod positions;

pub use attention::Attention;
pub use block::{Mlp, TransformerBlock};
pub use layer_norm::LayerNorm;
pub use patch::{PatchEmbed, PatchProjection};
pub use positions::interpolate_positions;

use super::{Context, Flow, Init};
use crate::config::Transformer;
use crate::kernels::Kernels;
use block::BlockNoise;
use burn::module::{Module, Param};
use burn::tensor::Tensor;

/// Standard deviation of the initial class token and position embedding (authors' code: truncated at +-2,
/// which is a hundred standard deviations out, so plain normal).
const INIT_STD: f64 = 0.02;

/// A vision transformer without its classifier: images to the normalised class token.
#[derive(Module, Debug)]
pub struct VisionTransformer {
    /// The token whose output is the feature, `[1, 1, dim]`.
    pub cls_token: Param<Tensor<3>>,
    /// What is added to the class token and to each patch, row by row, `[1, 1 + grid * grid, dim]`.
    pub pos_embed: Param<Tensor<3>>,
    /// Patches to tokens.
    pub patch_embed: PatchEmbed,
    /// The blocks.
    pub blocks: Vec<TransformerBlock>,
    /// The normalisation before the output.
    pub norm: LayerNorm,
    #[module(skip)]
    grid: usize,
    #[module(skip)]
    drop_path: f64,
}

impl VisionTransformer {
    /// A network of this shape. Token and positions `N(0, 0.02^2)`, linear layers as
    /// [`Linear`](super::Linear) has them, patches as [`PatchEmbed`] has them. `drop_path` is the
    /// probability with which a sample skips a branch of the last block in training; it rises linearly from
    /// 0 at the first.
    pub fn new(init: &mut Init<'_>, layout: Transformer, drop_path: f64) -> Self {
        let Transformer { dim, grid, .. } = layout;
        Self {
            cls_token: init.normal([1, 1, dim], INIT_STD),
            pos_embed: init.normal([1, 1 + grid * grid, dim], INIT_STD),
            patch_embed: PatchEmbed::new(init, layout.patch, dim),
            blocks: (0..layout.depth)
                .map(|_| TransformerBlock::new(init, &layout))
                .collect(),
            norm: LayerNorm::new(init, dim),
            grid,
            drop_path,
        }
    }

    /// The tokens, the blocks and the normalised class token.
    pub(super) fn stages(&self) -> usize {
        self.blocks.len() + 2
    }

    /// Images `[batch, 3, h, w]` through all stages become the class token after the last block, normalised,
    /// `[batch, dim]`. Pixels beyond the last whole patch are ignored.
    pub(super) fn stage(&self, index: usize, x: Flow, context: &Context<'_>) -> Flow {
        if index == 0 {
            return Flow::Tokens(self.tokens(x.maps(), context));
        }
        let (index, x) = (index - 1, x.tokens());
        let Some(block) = self.blocks.get(index) else {
            let [batch, _, dim] = x.dims();
            // Each token is normalised on its own, so the others need not be.
            let class = self.norm.forward(x.slice([0..batch, 0..1]), context);
            return Flow::Features(class.reshape([batch, dim]));
        };
        let noise = (context.training && self.drop_path > 0.0).then(|| BlockNoise {
            noise: context.noise,
            index,
            rate: drop_path::rate(self.drop_path, index, self.blocks.len()),
        });
        Flow::Tokens(block.forward(x, noise.as_ref(), context))
    }

    /// Images to class token and patches, positions added: `[batch, 1 + patches, dim]`.
    pub fn tokens(&self, images: Tensor<4>, context: &Context<'_>) -> Tensor<3> {
        let [batch, ..] = images.dims();
        let (patches, sides) = self.patch_embed.forward(images, context);
        let class = self.cls_token.val();
        let [_, _, dim] = class.dims();
        let tokens = Tensor::cat(vec![class.expand([batch, 1, dim]), patches], 1);
        tokens + self.positions(sides, context.kernels)
    }

    /// The position embedding for `[rows, columns]` patches, `[1, 1 + rows * columns, dim]`.
    pub fn positions(&self, sides: [usize; 2], kernels: &dyn Kernels) -> Tensor<3> {
        interpolate_positions(self.pos_embed.val(), self.grid, sides, kernels)
    }
}
