//! Backbone, head and classifiers.

use super::section::section;
use serde::{Deserialize, Serialize};

/// A residual network of basic blocks, by its number of weighted layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    /// One basic block per stage: small enough to train on a CPU in minutes.
    ResNet10,
    /// Two basic blocks per stage (He et al. 2016, table 1).
    ResNet18,
}

impl Arch {
    /// Basic blocks in each of the four stages.
    pub fn blocks(self) -> [usize; 4] {
        match self {
            Self::ResNet10 => [1; 4],
            Self::ResNet18 => [2; 4],
        }
    }
}

/// The first layers of a residual network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stem {
    /// 7x7 convolution of stride 2, then 3x3 max-pooling of stride 2 (torchvision).
    ImageNet,
    /// 3x3 convolution of stride 1, no pooling: for images of about 32 pixels.
    Cifar,
    /// 3x3 convolution of stride 2, no pooling: a quarter of `cifar`'s work.
    CifarStride2,
}

section! {
    /// Backbone, head and classifiers.
    "model" => ModelConfig {
        /// Backbone: resnet10 or resnet18. Default resnet18.
        backbone: Arch = Arch::ResNet18,
        /// First layers: image-net (7x7 stride 2 and max-pool), cifar (3x3), cifar-stride2 (3x3 stride 2). Default image-net.
        stem: Stem = Stem::ImageNet,
        /// Channels of the first stage; later stages double it. Default 64 (torchvision).
        width: usize = 64,
        /// Linear layers of the MLP head: 2 is one hidden layer, 1 a single linear layer, 0 the identity (the authors' num_hidden). Default 2 (authors' scripts).
        head_layers: usize = 2,
        /// Width of the head's hidden layers. Default 4096 (authors' code).
        hidden_dim: usize = 4096,
        /// Width of the embedding. Default 128 (authors' code).
        dim: usize = 128,
        /// Batch normalisation after each hidden layer of the head. Default true (authors' scripts: --use-bn).
        head_bn: bool = true,
        /// LeakyReLU (slope 0.01) in the head; false uses ReLU. Default true (authors' code).
        leaky: bool = true,
        /// Classes of each classifier on the shared embedding: a list, or short as "1k+2k+4k+8k" or "10x1k". Default [1000, 2000, 4000, 8000] (authors' scripts).
        #[serde(deserialize_with = "super::heads::deserialize")]
        heads: Vec<usize> = vec![1000, 2000, 4000, 8000],
        /// Freeze the classifiers at their initial weights. Default false (authors' code).
        fixed_classifiers: bool = false,
    }
}

impl ModelConfig {
    /// Width of the backbone's output: the channels of the last stage.
    pub fn backbone_dim(&self) -> usize {
        self.width * 8
    }

    /// Input and output width of each linear layer of the head, first to last.
    pub fn head_dims(&self) -> Vec<(usize, usize)> {
        let layers = self.head_layers;
        (0..layers)
            .map(|layer| {
                let input = if layer == 0 {
                    self.backbone_dim()
                } else {
                    self.hidden_dim
                };
                let output = if layer + 1 == layers {
                    self.dim
                } else {
                    self.hidden_dim
                };
                (input, output)
            })
            .collect()
    }
}
