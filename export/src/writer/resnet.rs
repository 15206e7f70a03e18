//! Residual networks of basic blocks, in torchvision's layout and names (He et al. 2016, table 1).

use super::graph::Value;
use super::layers::{ConvBn, Emitter};
use selfcls_core::config::{ModelConfig, Stem};

/// `[batch, 3, h, w]` to the features `[batch, 8 * width]`.
pub(super) fn emit(e: &mut Emitter<'_>, model: &ModelConfig, image: &Value) -> Value {
    let mut x = stem(e, model.stem, model.width, image);
    let mut channels = model.width;
    for (stage, &blocks) in model.backbone.blocks().iter().enumerate() {
        let output = model.width << stage;
        for block in 0..blocks {
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            let path = format!("backbone.layer{}.{block}", stage + 1);
            x = basic_block(e, &path, (channels, output), stride, &x);
            channels = output;
        }
    }
    e.global_average("backbone", &x)
}

fn stem(e: &mut Emitter<'_>, stem: Stem, width: usize, image: &Value) -> Value {
    let (kernel, stride) = match stem {
        Stem::ImageNet => (7, 2),
        Stem::Cifar => (3, 1),
        Stem::CifarStride2 => (3, 2),
    };
    let conv = ConvBn {
        conv: "backbone.conv1",
        norm: "backbone.bn1",
        input: 3,
        output: width,
        kernel,
        stride,
    };
    let x = e.conv_bn(&conv, image);
    let x = e.relu("backbone.relu", &x);
    match stem {
        Stem::ImageNet => e.max_pool("backbone.maxpool", &x),
        Stem::Cifar | Stem::CifarStride2 => x,
    }
}

/// Two 3x3 convolutions beside a shortcut, which is a 1x1 convolution where the shape changes.
fn basic_block(
    e: &mut Emitter<'_>,
    path: &str,
    (input, output): (usize, usize),
    stride: usize,
    x: &Value,
) -> Value {
    let conv = |e: &mut Emitter<'_>, conv: &str, norm: &str, from, kernel, stride, x: &Value| {
        let layer = ConvBn {
            conv: &format!("{path}.{conv}"),
            norm: &format!("{path}.{norm}"),
            input: from,
            output,
            kernel,
            stride,
        };
        e.conv_bn(&layer, x)
    };
    let y = conv(e, "conv1", "bn1", input, 3, stride, x);
    let y = e.relu(&format!("{path}.relu1"), &y);
    let y = conv(e, "conv2", "bn2", output, 3, 1, &y);
    let shortcut = if stride != 1 || input != output {
        conv(e, "downsample.0", "downsample.1", input, 1, stride, x)
    } else {
        x.clone()
    };
    let sum = e.add(&format!("{path}.add"), &y, &shortcut);
    e.relu(&format!("{path}.relu2"), &sum)
}
