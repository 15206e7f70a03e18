//! Convolution without bias.

use super::{Context, Init};
use burn::module::{Module, Param};
use burn::tensor::Tensor;

/// A square 2-D convolution without bias.
#[derive(Module, Debug)]
pub struct Conv2d {
    /// `[out, in / groups, kernel, kernel]`.
    pub weight: Param<Tensor<4>>,
    #[module(skip)]
    stride: usize,
    #[module(skip)]
    groups: usize,
}

impl Conv2d {
    /// Kaiming-normal weights: `N(0, 2 / (out * kernel^2))`, as torchvision's ResNet (fan-out, ReLU).
    pub fn new(
        init: &mut Init<'_>,
        [input, output]: [usize; 2],
        kernel: usize,
        stride: usize,
    ) -> Self {
        Self::grouped(init, [input, output], kernel, stride, 1)
    }

    /// As [`new`](Self::new), in `groups` parts. The fan-out is counted as if there were one, as PyTorch does.
    pub fn grouped(
        init: &mut Init<'_>,
        [input, output]: [usize; 2],
        kernel: usize,
        stride: usize,
        groups: usize,
    ) -> Self {
        let fan_out = (output * kernel * kernel) as f64;
        let shape = [output, input / groups, kernel, kernel];
        Self {
            weight: init.normal(shape, (2.0 / fan_out).sqrt()),
            stride,
            groups,
        }
    }

    /// `[batch, in, h, w]` to `[batch, out, ceil(h / stride), ceil(w / stride)]`: padded by half the kernel.
    pub fn forward(&self, x: Tensor<4>, context: &Context<'_>) -> Tensor<4> {
        let weight = context.cast_kernel(&self.weight, &x);
        let x = context.autocast(x);
        let padding = weight.dims()[2] / 2;
        context
            .kernels
            .conv2d(x, weight, self.stride, padding, self.groups)
    }
}
