//! The MLP head between backbone and classifiers.

use super::{BatchNorm, Context, Init, Linear, normalize_rows};
use crate::config::ModelConfig;
use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::activation::{leaky_relu, relu};

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

/// LeakyReLU (slope 0.01) or ReLU.
#[derive(Module, Debug)]
pub struct Activation {
    #[module(skip)]
    leaky: bool,
}

/// Linear layers with batch normalisation and activation between them, then L2 normalisation.
#[derive(Module, Debug)]
pub struct MlpHead {
    /// The layers in order; none is the identity.
    pub mlp: Vec<HeadLayer>,
}

impl MlpHead {
    /// The head that `config` describes.
    pub fn new(init: &mut Init<'_>, config: &ModelConfig) -> Self {
        let dims = config.head_dims();
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
        Self { mlp }
    }

    /// Features `[batch, backbone_dim]` to unit embeddings `[batch, dim]`.
    pub fn forward(&self, mut x: Tensor<2>, context: &Context<'_>) -> Tensor<2> {
        for layer in &self.mlp {
            x = match layer {
                HeadLayer::Linear(linear) => linear.forward(x),
                HeadLayer::Norm(norm) => norm.forward_1d(x, context),
                HeadLayer::Activation(Activation { leaky: true }) => leaky_relu(x, LEAKY_SLOPE),
                HeadLayer::Activation(Activation { leaky: false }) => relu(x),
            };
        }
        normalize_rows(x, NORM_EPS)
    }
}
