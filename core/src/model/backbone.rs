//! The backbone: one of the networks that a name can mean.

use super::{Context, Flow, Init, ResNet, VisionTransformer};
use crate::config::{Layout, ModelConfig};
use burn::module::Module;
use burn::tensor::Tensor;

/// Images to features.
#[derive(Module, Debug)]
pub enum Backbone {
    /// A residual network.
    ResNet(ResNet),
    /// A vision transformer.
    Transformer(VisionTransformer),
}

impl Backbone {
    /// The backbone that `config` describes.
    pub fn new(init: &mut Init<'_>, config: &ModelConfig) -> Self {
        match config.layout() {
            Layout::Residual(layout) => Self::ResNet(ResNet::new(init, &layout, config.zero_init)),
            Layout::Transformer(layout) => {
                Self::Transformer(VisionTransformer::new(init, layout, config.drop_path))
            }
        }
    }

    /// Images `[batch, 3, h, w]` to features `[batch, backbone_dim]`.
    pub fn forward(&self, images: Tensor<4>, context: &Context<'_>) -> Tensor<2> {
        (0..self.stages())
            .fold(Flow::Maps(images), |x, stage| self.stage(stage, x, context))
            .features()
    }

    /// Number of stages that a pass goes through: the stem, each block, and the end.
    pub fn stages(&self) -> usize {
        match self {
            Self::ResNet(net) => net.stages(),
            Self::Transformer(net) => net.stages(),
        }
    }

    /// Stage `index` alone, given what the one before gave; the first takes the images.
    pub fn stage(&self, index: usize, x: Flow, context: &Context<'_>) -> Flow {
        match self {
            Self::ResNet(net) => net.stage(index, x, context),
            Self::Transformer(net) => net.stage(index, x, context),
        }
    }
}
