//! Residual networks (He et al. 2016) and their wide and grouped variants, in torchvision's layout.

use super::{BatchNorm, Context, Conv2d, Flow, Init};
use crate::config::{Residual, ResidualBlock, Stem};
use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::module::max_pool2d;
use burn::tensor::ops::MaxPoolOptions;

/// A residual block of either kind.
#[derive(Module, Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "a network has a few dozen blocks, all of one kind"
)]
pub enum Block {
    /// Two 3x3 convolutions.
    Basic(BasicBlock),
    /// 1x1, 3x3 and 1x1 convolutions.
    Bottleneck(Bottleneck),
}

/// Two 3x3 convolutions around a shortcut.
#[derive(Module, Debug)]
pub struct BasicBlock {
    conv1: Conv2d,
    bn1: BatchNorm,
    conv2: Conv2d,
    bn2: BatchNorm,
    downsample: Option<Vec<Shortcut>>,
}

/// 1x1, 3x3 and 1x1 convolutions around a shortcut. The stride is in the 3x3, as in torchvision
/// ("ResNet v1.5"), and not in the first 1x1, as in the paper.
#[derive(Module, Debug)]
pub struct Bottleneck {
    conv1: Conv2d,
    bn1: BatchNorm,
    conv2: Conv2d,
    bn2: BatchNorm,
    conv3: Conv2d,
    bn3: BatchNorm,
    downsample: Option<Vec<Shortcut>>,
}

/// A layer of the shortcut where resolution or width changes, numbered as in torchvision's
/// `nn.Sequential`: 1x1 convolution, batch normalisation.
#[derive(Module, Debug)]
enum Shortcut {
    Conv(Conv2d),
    Norm(BatchNorm),
}

impl BasicBlock {
    fn new(init: &mut Init<'_>, shape: ResidualBlock, zero_init: bool) -> Self {
        Self {
            conv1: Conv2d::new(init, [shape.input, shape.inner], 3, shape.stride),
            bn1: BatchNorm::new(init, shape.inner),
            conv2: Conv2d::new(init, [shape.inner, shape.output], 3, 1),
            bn2: last_norm(init, shape.output, zero_init),
            downsample: downsample(init, shape),
        }
    }

    /// `[batch, in, h, w]` to `[batch, out, ceil(h / stride), ceil(w / stride)]`.
    pub fn forward(&self, x: Tensor<4>, context: &Context<'_>) -> Tensor<4> {
        let shortcut = shortcut(self.downsample.as_deref(), x.clone(), context);
        let x = layer(&self.conv1, &self.bn1, x, context);
        let x = layer(&self.conv2, &self.bn2, context.kernels.relu(x), context);
        context.kernels.add_relu(x, shortcut)
    }
}

impl Bottleneck {
    fn new(init: &mut Init<'_>, shape: ResidualBlock, groups: usize, zero_init: bool) -> Self {
        let ResidualBlock { inner, stride, .. } = shape;
        Self {
            conv1: Conv2d::new(init, [shape.input, inner], 1, 1),
            bn1: BatchNorm::new(init, inner),
            conv2: Conv2d::grouped(init, [inner, inner], 3, stride, groups),
            bn2: BatchNorm::new(init, inner),
            conv3: Conv2d::new(init, [inner, shape.output], 1, 1),
            bn3: last_norm(init, shape.output, zero_init),
            downsample: downsample(init, shape),
        }
    }

    /// `[batch, in, h, w]` to `[batch, out, ceil(h / stride), ceil(w / stride)]`.
    pub fn forward(&self, x: Tensor<4>, context: &Context<'_>) -> Tensor<4> {
        let shortcut = shortcut(self.downsample.as_deref(), x.clone(), context);
        let x = layer(&self.conv1, &self.bn1, x, context);
        let x = layer(&self.conv2, &self.bn2, context.kernels.relu(x), context);
        let x = layer(&self.conv3, &self.bn3, context.kernels.relu(x), context);
        context.kernels.add_relu(x, shortcut)
    }
}

/// The normalisation that ends a block's branch: with scale 0 the block starts as the identity
/// (Goyal et al. 2017, section 5.1).
fn last_norm(init: &mut Init<'_>, channels: usize, zero_init: bool) -> BatchNorm {
    BatchNorm::scaled(init, channels, if zero_init { 0.0 } else { 1.0 })
}

fn downsample(init: &mut Init<'_>, shape: ResidualBlock) -> Option<Vec<Shortcut>> {
    shape.projects().then(|| {
        let channels = [shape.input, shape.output];
        vec![
            Shortcut::Conv(Conv2d::new(init, channels, 1, shape.stride)),
            Shortcut::Norm(BatchNorm::new(init, shape.output)),
        ]
    })
}

fn shortcut(layers: Option<&[Shortcut]>, x: Tensor<4>, context: &Context<'_>) -> Tensor<4> {
    let layers = layers.unwrap_or_default().iter();
    layers.fold(x, |x, layer| match layer {
        Shortcut::Conv(conv) => conv.forward(x, context),
        Shortcut::Norm(norm) => norm.forward(x, context),
    })
}

fn layer(conv: &Conv2d, norm: &BatchNorm, x: Tensor<4>, context: &Context<'_>) -> Tensor<4> {
    norm.forward(conv.forward(x, context), context)
}

/// A residual network without its classifier: images to features.
#[derive(Module, Debug)]
pub struct ResNet {
    conv1: Conv2d,
    bn1: BatchNorm,
    layer1: Vec<Block>,
    layer2: Vec<Block>,
    layer3: Vec<Block>,
    layer4: Vec<Block>,
    #[module(skip)]
    max_pool: bool,
}

impl ResNet {
    /// A network of this shape. `zero_init` starts every block as the identity.
    pub fn new(init: &mut Init<'_>, layout: &Residual, zero_init: bool) -> Self {
        let (kernel, stride) = match layout.stem {
            Stem::ImageNet => (7, 2),
            Stem::Cifar => (3, 1),
            Stem::CifarStride2 => (3, 2),
        };
        let conv1 = Conv2d::new(init, [3, layout.width], kernel, stride);
        let bn1 = BatchNorm::new(init, layout.width);
        let [mut layer1, mut layer2, mut layer3, mut layer4] = [const { Vec::new() }; 4];
        for shape in layout.blocks() {
            let block = if layout.bottleneck {
                Block::Bottleneck(Bottleneck::new(init, shape, layout.groups, zero_init))
            } else {
                Block::Basic(BasicBlock::new(init, shape, zero_init))
            };
            match shape.stage {
                0 => layer1.push(block),
                1 => layer2.push(block),
                2 => layer3.push(block),
                _ => layer4.push(block),
            }
        }
        Self {
            conv1,
            bn1,
            layer1,
            layer2,
            layer3,
            layer4,
            max_pool: layout.stem == Stem::ImageNet,
        }
    }

    fn blocks(&self) -> impl Iterator<Item = &Block> {
        [&self.layer1, &self.layer2, &self.layer3, &self.layer4]
            .into_iter()
            .flatten()
    }

    /// The stem, the blocks and the average.
    pub(super) fn stages(&self) -> usize {
        self.blocks().count() + 2
    }

    /// Images `[batch, 3, h, w]` through all stages become globally averaged features `[batch, dim]`.
    pub(super) fn stage(&self, index: usize, x: Flow, context: &Context<'_>) -> Flow {
        let x = x.maps();
        if index == 0 {
            return Flow::Maps(self.stem(x, context));
        }
        match self.blocks().nth(index - 1) {
            Some(Block::Basic(block)) => Flow::Maps(block.forward(x, context)),
            Some(Block::Bottleneck(block)) => Flow::Maps(block.forward(x, context)),
            None => Flow::Features(average(x)),
        }
    }

    fn stem(&self, images: Tensor<4>, context: &Context<'_>) -> Tensor<4> {
        let x = layer(&self.conv1, &self.bn1, images, context);
        let x = context.kernels.relu(x);
        if !self.max_pool {
            return x;
        }
        let options = MaxPoolOptions::new([3, 3]);
        max_pool2d(x, options.with_stride([2, 2]).with_padding([1, 1]))
    }
}

/// `[batch, channels, h, w]` to the mean over the image, `[batch, channels]`.
fn average(x: Tensor<4>) -> Tensor<2> {
    let [batch, channels, height, width] = x.dims();
    x.reshape([batch, channels, height * width])
        .mean_dim(2)
        .reshape([batch, channels])
}
