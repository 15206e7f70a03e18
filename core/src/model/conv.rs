//! Convolution without bias.

use super::{Context, Init};
use burn::module::{Module, Param};
use burn::tensor::Tensor;

/// A square 2-D convolution without bias.
#[derive(Module, Debug)]
pub struct Conv2d {
    /// `[out, in, kernel, kernel]`.
    pub weight: Param<Tensor<4>>,
    #[module(skip)]
    stride: usize,
}

impl Conv2d {
    /// Kaiming-normal weights: `N(0, 2 / (out * kernel^2))`, as torchvision's ResNet (fan-out, ReLU).
    pub fn new(
        init: &mut Init<'_>,
        [input, output]: [usize; 2],
        kernel: usize,
        stride: usize,
    ) -> Self {
        let fan_out = (output * kernel * kernel) as f64;
        Self {
            weight: init.normal([output, input, kernel, kernel], (2.0 / fan_out).sqrt()),
            stride,
        }
    }

    /// `[batch, in, h, w]` to `[batch, out, ceil(h / stride), ceil(w / stride)]`: padded by half the kernel.
    pub fn forward(&self, x: Tensor<4>, context: &Context<'_>) -> Tensor<4> {
        let weight = self.weight.val();
        let padding = weight.dims()[2] / 2;
        context.kernels.conv2d(x, weight, self.stride, padding)
    }
}
