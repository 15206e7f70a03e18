//! Residual networks, in torchvision's layout and names (He et al. 2016, table 1).

use super::graph::Value;
use super::layers::{ConvBn, Emitter};
use crate::names;
use selfcls_core::config::{Residual, ResidualBlock, Stem};

/// `[batch, 3, h, w]` to `features` `[batch, dim]`.
pub(super) fn emit(e: &mut Emitter<'_>, net: Residual, image: &Value) -> Value {
    let mut x = stem(e, net.stem, net.width, image);
    for block in net.blocks() {
        x = residual_block(e, &net, block, &x);
    }
    e.global_average("backbone.avgpool", names::FEATURES, &x)
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
        groups: 1,
    };
    let x = e.conv_bn(&conv, image);
    let x = e.relu("backbone.relu", &x);
    match stem {
        Stem::ImageNet => e.max_pool("backbone.maxpool", &x),
        Stem::Cifar | Stem::CifarStride2 => x,
    }
}

/// A convolution of a block: kernel, channels in and out, stride, groups.
type Conv = (usize, usize, usize, usize, usize);

/// Two 3x3 convolutions, or 1x1, 3x3 and 1x1, beside a shortcut, which is a 1x1 convolution where the
/// shape changes.
fn residual_block(e: &mut Emitter<'_>, net: &Residual, block: ResidualBlock, x: &Value) -> Value {
    let ResidualBlock {
        input,
        inner,
        output,
        stride,
        ..
    } = block;
    let path = format!("backbone.layer{}.{}", block.stage + 1, block.index);
    let conv = |e: &mut Emitter<'_>, conv: &str, norm: &str, shape: Conv, x: &Value| {
        let (kernel, input, output, stride, groups) = shape;
        let layer = ConvBn {
            conv: &format!("{path}.{conv}"),
            norm: &format!("{path}.{norm}"),
            input,
            output,
            kernel,
            stride,
            groups,
        };
        e.conv_bn(&layer, x)
    };
    let convs: &[Conv] = if net.bottleneck {
        &[
            (1, input, inner, 1, 1),
            (3, inner, inner, stride, net.groups),
            (1, inner, output, 1, 1),
        ]
    } else {
        &[(3, input, inner, stride, 1), (3, inner, output, 1, 1)]
    };
    let mut y = x.clone();
    for (number, &shape) in (1..).zip(convs) {
        if number > 1 {
            y = e.relu(&format!("{path}.relu{}", number - 1), &y);
        }
        y = conv(
            e,
            &format!("conv{number}"),
            &format!("bn{number}"),
            shape,
            &y,
        );
    }
    let shortcut = if block.projects() {
        let shape = (1, input, output, stride, 1);
        conv(e, "downsample.0", "downsample.1", shape, x)
    } else {
        x.clone()
    };
    let sum = e.add(&format!("{path}.add"), &y, &shortcut);
    e.relu(&format!("{path}.relu{}", convs.len()), &sum)
}
