//! The backbones by name, and the shape of the network that a name and a few settings describe.

use super::{ModelConfig, Stem};
use serde::{Deserialize, Serialize};

/// A backbone, by the name that torchvision, the authors' code or the DeiT paper gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Arch {
    /// One basic block per stage: small enough to train on a CPU in minutes.
    #[serde(rename = "resnet10")]
    ResNet10,
    /// Two basic blocks per stage (He et al. 2016, table 1).
    #[serde(rename = "resnet18")]
    ResNet18,
    /// 3, 4, 6 and 3 basic blocks.
    #[serde(rename = "resnet34")]
    ResNet34,
    /// 3, 4, 6 and 3 bottleneck blocks.
    #[serde(rename = "resnet50")]
    ResNet50,
    /// 3, 4, 23 and 3 bottleneck blocks.
    #[serde(rename = "resnet101")]
    ResNet101,
    /// 3, 8, 36 and 3 bottleneck blocks.
    #[serde(rename = "resnet152")]
    ResNet152,
    /// ResNet-50 with 3x3 convolutions of twice the width (Zagoruyko and Komodakis 2016).
    #[serde(rename = "wide_resnet50_2")]
    WideResNet50,
    /// ResNet-101 with 3x3 convolutions of twice the width.
    #[serde(rename = "wide_resnet101_2")]
    WideResNet101,
    /// ResNet-50 with 3x3 convolutions in 32 groups of 4 channels (Xie et al. 2017).
    #[serde(rename = "resnext50_32x4d")]
    ResNext50,
    /// ResNet-101 with 3x3 convolutions in 32 groups of 8 channels.
    #[serde(rename = "resnext101_32x8d")]
    ResNext101x32,
    /// ResNet-101 with 3x3 convolutions in 64 groups of 4 channels.
    #[serde(rename = "resnext101_64x4d")]
    ResNext101x64,
    /// Vision transformer of width 192 (Dosovitskiy et al. 2021; Touvron et al. 2021, table 1).
    #[serde(rename = "vit_tiny")]
    VitTiny,
    /// Vision transformer of width 384.
    #[serde(rename = "vit_small")]
    VitSmall,
    /// Vision transformer of width 768.
    #[serde(rename = "vit_base")]
    VitBase,
    /// DeiT-Ti without its distillation token: the same network as `vit_tiny`. The authors' script offers the
    /// name without defining it.
    #[serde(rename = "deit_tiny")]
    DeitTiny,
    /// DeiT-S without its distillation token: the same network as `vit_small`.
    #[serde(rename = "deit_small")]
    DeitSmall,
}

/// The shape of a backbone, automatic values filled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// A residual network.
    Residual(Residual),
    /// A vision transformer.
    Transformer(Transformer),
}

/// The shape of a residual network (He et al. 2016, table 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Residual {
    /// The first layers.
    pub stem: Stem,
    /// Channels after the stem.
    pub width: usize,
    /// Blocks in each of the four stages.
    pub blocks: [usize; 4],
    /// Three convolutions per block (1x1, 3x3, 1x1 with four times the width) instead of two 3x3.
    pub bottleneck: bool,
    /// Groups of a bottleneck's 3x3 convolution.
    pub groups: usize,
    /// Channels of each group in the first stage, where `width` is 64 (torchvision's `width_per_group`).
    pub group_width: usize,
}

/// One block of a residual network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResidualBlock {
    /// Its stage, from 0.
    pub stage: usize,
    /// Its position in the stage, from 0.
    pub index: usize,
    /// Channels that come in.
    pub input: usize,
    /// Channels between its convolutions.
    pub inner: usize,
    /// Channels that go out.
    pub output: usize,
    /// Step of its (first) 3x3 convolution.
    pub stride: usize,
}

impl ResidualBlock {
    /// Whether the shortcut needs a 1x1 convolution, since the shape changes.
    pub fn projects(&self) -> bool {
        self.stride != 1 || self.input != self.output
    }
}

impl Residual {
    /// Channels of the last stage: the features.
    pub fn dim(&self) -> usize {
        (self.width << 3) * self.expansion()
    }

    /// The blocks, first to last.
    pub fn blocks(&self) -> impl Iterator<Item = ResidualBlock> + use<> {
        let net = *self;
        let places = (0..4).flat_map(move |stage| (0..net.blocks[stage]).map(move |i| (stage, i)));
        places.scan(net.width, move |channels, (stage, index)| {
            let input = *channels;
            *channels = (net.width << stage) * net.expansion();
            Some(ResidualBlock {
                stage,
                index,
                input,
                inner: net.inner(stage),
                output: *channels,
                stride: if stage > 0 && index == 0 { 2 } else { 1 },
            })
        })
    }

    /// Output channels of a block per unit of its stage's width.
    fn expansion(&self) -> usize {
        if self.bottleneck { 4 } else { 1 }
    }

    /// Channels between the convolutions of a block.
    fn inner(&self, stage: usize) -> usize {
        let width = self.width << stage;
        if self.bottleneck {
            width * self.group_width / 64 * self.groups
        } else {
            width
        }
    }
}

/// The shape of a vision transformer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transformer {
    /// Numbers per token: the features.
    pub dim: usize,
    /// Attention heads of each block.
    pub heads: usize,
    /// Blocks.
    pub depth: usize,
    /// Side of a patch in pixels.
    pub patch: usize,
    /// Patches per side that the position embedding is laid out for.
    pub grid: usize,
}

/// Features per attention head, in all these networks.
pub(super) const HEAD_WIDTH: usize = 64;
/// The MLP in a block is this many times as wide as its tokens, in all these networks.
const MLP_RATIO: usize = 4;
/// Blocks of the named vision transformers.
const DEPTH: usize = 12;

impl Transformer {
    /// Most blocks that a configuration may ask for.
    pub const MAX_DEPTH: usize = 256;

    /// Width of the MLP in each block.
    pub fn mlp_dim(&self) -> usize {
        self.dim * MLP_RATIO
    }

    /// Features per attention head.
    pub fn head_dim(&self) -> usize {
        self.dim / self.heads
    }
}

impl Arch {
    /// Whether it is a vision transformer.
    pub fn is_transformer(self) -> bool {
        self.transformer_width().is_some()
    }

    /// Width of the first stage, or of the tokens, under this name.
    pub fn width(self) -> usize {
        self.transformer_width().unwrap_or(64)
    }

    fn transformer_width(self) -> Option<usize> {
        match self {
            Self::VitTiny | Self::DeitTiny => Some(192),
            Self::VitSmall | Self::DeitSmall => Some(384),
            Self::VitBase => Some(768),
            _ => None,
        }
    }

    /// Blocks per stage.
    fn blocks(self) -> [usize; 4] {
        match self {
            Self::ResNet10 => [1; 4],
            Self::ResNet18 => [2; 4],
            Self::ResNet101 | Self::WideResNet101 | Self::ResNext101x32 | Self::ResNext101x64 => {
                [3, 4, 23, 3]
            }
            Self::ResNet152 => [3, 8, 36, 3],
            _ => [3, 4, 6, 3],
        }
    }

    /// Groups and the width of each, of a bottleneck's 3x3 convolution.
    fn groups(self) -> (usize, usize) {
        match self {
            Self::WideResNet50 | Self::WideResNet101 => (1, 128),
            Self::ResNext50 => (32, 4),
            Self::ResNext101x32 => (32, 8),
            Self::ResNext101x64 => (64, 4),
            _ => (1, 64),
        }
    }
}

impl ModelConfig {
    /// The shape of the backbone.
    pub fn layout(&self) -> Layout {
        let arch = self.backbone;
        let width = match self.width {
            0 => arch.width(),
            given => given,
        };
        if arch.is_transformer() {
            return Layout::Transformer(Transformer {
                dim: width,
                heads: (width / HEAD_WIDTH).max(1),
                depth: if self.depth == 0 { DEPTH } else { self.depth },
                patch: self.patch_size,
                // `validate` refuses a patch of no pixels; nothing here may divide by it before.
                grid: self.position_size / self.patch_size.max(1),
            });
        }
        let (groups, group_width) = arch.groups();
        Layout::Residual(Residual {
            stem: self.stem,
            width,
            blocks: arch.blocks(),
            bottleneck: !matches!(arch, Arch::ResNet10 | Arch::ResNet18 | Arch::ResNet34),
            groups,
            group_width,
        })
    }

    /// Width of the backbone's output.
    pub fn backbone_dim(&self) -> usize {
        match self.layout() {
            Layout::Residual(net) => net.dim(),
            Layout::Transformer(net) => net.dim,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn residual(backbone: Arch) -> Residual {
        let config = ModelConfig {
            backbone,
            ..Default::default()
        };
        match config.layout() {
            Layout::Residual(net) => net,
            Layout::Transformer(net) => panic!("{net:?}"),
        }
    }

    /// Depth as in the names: two or three layers per block, the stem and the classifier.
    #[test]
    fn names_count_their_layers() {
        for (arch, layers, dim) in [
            (Arch::ResNet10, 10, 512),
            (Arch::ResNet18, 18, 512),
            (Arch::ResNet34, 34, 512),
            (Arch::ResNet50, 50, 2048),
            (Arch::ResNet101, 101, 2048),
            (Arch::ResNet152, 152, 2048),
            (Arch::WideResNet101, 101, 2048),
            (Arch::ResNext50, 50, 2048),
        ] {
            let net = residual(arch);
            let per_block = if net.bottleneck { 3 } else { 2 };
            assert_eq!(net.blocks().count() * per_block + 2, layers, "{arch:?}");
            assert_eq!(net.dim(), dim, "{arch:?}");
            assert_eq!(net.blocks().last().map(|block| block.output), Some(dim));
        }
    }

    /// The shapes of torchvision's `layer1.0`, `layer1.1` and `layer2.0`.
    #[test]
    fn blocks_follow_torchvision() {
        let shapes = |arch| -> Vec<_> {
            let blocks = residual(arch)
                .blocks()
                .filter(|b| b.stage < 2 && b.index < 2);
            blocks
                .map(|b| (b.input, b.inner, b.output, b.stride, b.projects()))
                .take(3)
                .collect()
        };
        assert_eq!(
            shapes(Arch::ResNet34),
            [
                (64, 64, 64, 1, false),
                (64, 64, 64, 1, false),
                (64, 128, 128, 2, true)
            ]
        );
        assert_eq!(
            shapes(Arch::ResNet50),
            [
                (64, 64, 256, 1, true),
                (256, 64, 256, 1, false),
                (256, 128, 512, 2, true)
            ]
        );
        assert_eq!(shapes(Arch::ResNext50)[0], (64, 128, 256, 1, true));
        assert_eq!(shapes(Arch::ResNext101x64)[2], (256, 512, 512, 2, true));
        assert_eq!(shapes(Arch::WideResNet50)[1], (256, 128, 256, 1, false));
    }

    #[test]
    fn names_are_those_users_know() {
        for name in [
            "resnet10",
            "resnet18",
            "resnet34",
            "resnet50",
            "resnet101",
            "resnet152",
            "wide_resnet50_2",
            "wide_resnet101_2",
            "resnext50_32x4d",
            "resnext101_32x8d",
            "resnext101_64x4d",
            "vit_tiny",
            "vit_small",
            "vit_base",
            "deit_tiny",
            "deit_small",
        ] {
            let config: ModelConfig =
                toml::from_str(&format!("backbone = \"{name}\"")).expect(name);
            let text = toml::to_string(&config).expect("TOML");
            assert!(text.contains(&format!("backbone = \"{name}\"")), "{text}");
        }
    }
}
