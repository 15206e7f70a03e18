//! The MLP head between backbone and classifiers.

use super::{BatchNorm, Context, Init, Linear, normalize_rows};
use crate::config::ModelConfig;
use burn::module::Module;
use burn::tensor::activation::{leaky_relu, relu};
use burn::tensor::{FloatDType, Tensor};

/// Slope of LeakyReLU below zero (PyTorch's default).
const LEAKY_SLOPE: f64 = 0.01;
/// Guards the division of the final normalisation (authors' code).
const NORM_EPS: f64 = 1e-7;

/// One layer of the head, numbered as in the authors' `nn.Sequential`.
#[derive(Module, Debug)]
pub enum HeadLayer {
    /// Fully connected.
    Linear(Linear),
    /// Batch normalisation.
    Norm(BatchNorm),
    /// LeakyReLU or ReLU.
    Activation(Activation),
}

impl HeadLayer {
    fn forward(&self, x: Tensor<2>, context: &Context<'_>) -> Tensor<2> {
        match self {
            Self::Linear(linear) => linear.forward(x, context),
            Self::Norm(norm) => norm.forward_1d(x, context),
            Self::Activation(Activation { leaky: true }) => leaky_relu(x, LEAKY_SLOPE),
            Self::Activation(Activation { leaky: false }) => relu(x),
        }
    }
}

/// LeakyReLU (slope 0.01) or ReLU.
#[derive(Module, Debug)]
pub struct Activation {
    #[module(skip)]
    leaky: bool,
}

/// Linear layers with batch normalisation and activation between them, then L2 normalisation.
#[derive(Module, Debug)]
pub struct MlpHead {
    /// The layers before the L2 normalisation.
    pub mlp: MlpLayers,
}

/// The layers as the authors' code names them: a single one has no number.
#[derive(Module, Debug)]
pub enum MlpLayers {
    /// One linear layer, `mlp_head.mlp.weight`.
    Single(Linear),
    /// Several, `mlp_head.mlp.0.weight` and so on. None is the identity.
    Sequential(Vec<HeadLayer>),
}

impl MlpHead {
    /// The head that `config` describes.
    pub fn new(init: &mut Init<'_>, config: &ModelConfig) -> Self {
        let dims = config.head_dims();
        if let &[(input, output)] = dims.as_slice() {
            let mlp = MlpLayers::Single(Linear::new(init, config.head_init, input, output));
            return Self { mlp };
        }
        let mut mlp = Vec::new();
        for (layer, &(input, output)) in dims.iter().enumerate() {
            let linear = Linear::new(init, config.head_init, input, output);
            mlp.push(HeadLayer::Linear(linear));
            if layer + 1 == dims.len() {
                break;
            }
            if config.head_bn {
                mlp.push(HeadLayer::Norm(BatchNorm::new(init, output)));
            }
            mlp.push(HeadLayer::Activation(Activation {
                leaky: config.leaky,
            }));
        }
        Self {
            mlp: MlpLayers::Sequential(mlp),
        }
    }

    /// Features `[batch, backbone_dim]` to unit embeddings `[batch, dim]`, which are f32 in any precision:
    /// from here on temperatures of a few hundredths magnify every rounding.
    pub fn forward(&self, mut x: Tensor<2>, context: &Context<'_>) -> Tensor<2> {
        match &self.mlp {
            MlpLayers::Single(linear) => x = linear.forward(x, context),
            MlpLayers::Sequential(layers) => {
                for layer in layers {
                    x = layer.forward(x, context);
                }
            }
        }
        normalize_rows(x.cast(FloatDType::F32), NORM_EPS)
    }
}
