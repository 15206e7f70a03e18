//! Backbone, head and classifiers.

use super::section::section;
use super::{Arch, Layout};
use serde::{Deserialize, Serialize};

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

/// Initial weights of the head's linear layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HeadInit {
    /// `N(0, 0.02^2)`, bias 0 (authors' code).
    Normal,
    /// `U(-1/sqrt(in), 1/sqrt(in))` for weights and bias, PyTorch's default (first arXiv version).
    Uniform,
}

/// Initial directions of the classifiers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClassifierInit {
    /// `U(-1/sqrt(dim), 1/sqrt(dim))`, PyTorch's default for a linear layer (authors' code).
    Uniform,
    /// Rows (columns, with more classes than dimensions) of a random orthogonal matrix (first arXiv version).
    Orthogonal,
}

section! {
    /// Backbone, head and classifiers.
    "model" => ModelConfig {
        /// Backbone: resnet10, resnet18, resnet34, resnet50, resnet101, resnet152, wide_resnet50_2, wide_resnet101_2, resnext50_32x4d, resnext101_32x8d, resnext101_64x4d (torchvision's), vit_tiny, vit_small, vit_base, deit_tiny or deit_small. Default resnet18.
        backbone: Arch = Arch::ResNet18,
        /// First layers of a residual network: image-net (7x7 stride 2 and max-pool), cifar (3x3), cifar-stride2 (3x3 stride 2). Default image-net.
        stem: Stem = Stem::ImageNet,
        /// Residual networks: channels of the first stage; later stages double it. Vision transformers: numbers per token, a multiple of 64 or less than that. 0 is the backbone's own: 64; 192, 384 and 768 for tiny, small and base. Default 0.
        width: usize = 0,
        /// Start every residual block as the identity: its last batch normalisation begins with scale 0 (torchvision's zero_init_residual). Default false (authors' code).
        zero_init: bool = false,
        /// Vision transformers: side of a patch in pixels; divides every image size. Default 16 (authors' code).
        patch_size: usize = 16,
        /// Vision transformers: number of blocks; 0 is the backbone's own, 12. Default 0.
        depth: usize = 0,
        /// Vision transformers: probability that the last block's branches are skipped for a sample in training (stochastic depth); it rises linearly from 0 at the first block. Default 0 (authors' code).
        drop_path: f64 = 0.0,
        /// Vision transformers: side in pixels of the images that the position embedding is laid out for; for others it is interpolated. Default 224 (authors' code).
        position_size: usize = 224,
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
        /// Train the classifiers' gain; false keeps it at 1. Default true (authors' code; false in the first arXiv version).
        classifier_gain: bool = true,
        /// Initial directions of the classifiers: uniform or orthogonal. Default uniform (authors' code; orthogonal in the first arXiv version).
        classifier_init: ClassifierInit = ClassifierInit::Uniform,
        /// Run backbone and head on each view by itself in training, so that batch normalisation sees one view at a time; false runs them on all views of one size together. Default false (authors' code; true in the first arXiv version).
        views_apart: bool = false,
        /// Initial weights of the head: normal or uniform. Default normal (authors' code; uniform in the first arXiv version).
        head_init: HeadInit = HeadInit::Normal,
    }
}

impl ModelConfig {
    /// Whether any layer normalises over the batch.
    pub fn has_batch_norm(&self) -> bool {
        let in_head = self.head_bn && self.head_layers > 1;
        in_head || matches!(self.layout(), Layout::Residual(_))
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
