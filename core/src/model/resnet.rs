//! Residual networks of basic blocks (He et al. 2016), in torchvision's layout.

use super::{BatchNorm, Context, Conv2d, Init};
use crate::config::{ModelConfig, Stem};
use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::module::max_pool2d;
use burn::tensor::ops::MaxPoolOptions;

/// Two 3x3 convolutions around a shortcut.
#[derive(Module, Debug)]
pub struct BasicBlock {
    conv1: Conv2d,
    bn1: BatchNorm,
    conv2: Conv2d,
    bn2: BatchNorm,
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
    fn new(init: &mut Init<'_>, input: usize, output: usize, stride: usize) -> Self {
        Self {
            conv1: Conv2d::new(init, [input, output], 3, stride),
            bn1: BatchNorm::new(init, output),
            conv2: Conv2d::new(init, [output, output], 3, 1),
            bn2: BatchNorm::new(init, output),
            downsample: (stride != 1 || input != output).then(|| {
                vec![
                    Shortcut::Conv(Conv2d::new(init, [input, output], 1, stride)),
                    Shortcut::Norm(BatchNorm::new(init, output)),
                ]
            }),
        }
    }

    /// `[batch, in, h, w]` to `[batch, out, ceil(h / stride), ceil(w / stride)]`.
    pub fn forward(&self, x: Tensor<4>, context: &Context<'_>) -> Tensor<4> {
        let shortcut = self
            .downsample
            .iter()
            .flatten()
            .fold(x.clone(), |x, layer| match layer {
                Shortcut::Conv(conv) => conv.forward(x, context),
                Shortcut::Norm(norm) => norm.forward(x, context),
            });
        let x = self.bn1.forward(self.conv1.forward(x, context), context);
        let x = self.bn2.forward(
            self.conv2.forward(context.kernels.relu(x), context),
            context,
        );
        context.kernels.add_relu(x, shortcut)
    }
}

/// A residual network without its classifier: images to features.
#[derive(Module, Debug)]
pub struct ResNet {
    conv1: Conv2d,
    bn1: BatchNorm,
    layer1: Vec<BasicBlock>,
    layer2: Vec<BasicBlock>,
    layer3: Vec<BasicBlock>,
    layer4: Vec<BasicBlock>,
    #[module(skip)]
    max_pool: bool,
}

impl ResNet {
    /// The backbone that `config` describes.
    pub fn new(init: &mut Init<'_>, config: &ModelConfig) -> Self {
        let width = config.width;
        let (kernel, stride) = match config.stem {
            Stem::ImageNet => (7, 2),
            Stem::Cifar => (3, 1),
            Stem::CifarStride2 => (3, 2),
        };
        let conv1 = Conv2d::new(init, [3, width], kernel, stride);
        let bn1 = BatchNorm::new(init, width);
        let blocks = config.backbone.blocks();
        let mut input = width;
        let mut stage = |index: usize| {
            let output = width << index;
            (0..blocks[index])
                .map(|block| {
                    let stride = if block == 0 && index > 0 { 2 } else { 1 };
                    let made = BasicBlock::new(init, input, output, stride);
                    input = output;
                    made
                })
                .collect()
        };
        Self {
            conv1,
            bn1,
            layer1: stage(0),
            layer2: stage(1),
            layer3: stage(2),
            layer4: stage(3),
            max_pool: config.stem == Stem::ImageNet,
        }
    }

    /// Images `[batch, 3, h, w]` to globally averaged features `[batch, 8 * width]`.
    pub fn forward(&self, images: Tensor<4>, context: &Context<'_>) -> Tensor<2> {
        let mut x = context.kernels.relu(
            self.bn1
                .forward(self.conv1.forward(images, context), context),
        );
        if self.max_pool {
            x = max_pool2d(
                x,
                MaxPoolOptions::new([3, 3])
                    .with_stride([2, 2])
                    .with_padding([1, 1]),
            );
        }
        for stage in [&self.layer1, &self.layer2, &self.layer3, &self.layer4] {
            for block in stage {
                x = block.forward(x, context);
            }
        }
        let [batch, channels, height, width] = x.dims();
        x.reshape([batch, channels, height * width])
            .mean_dim(2)
            .reshape([batch, channels])
    }
}
