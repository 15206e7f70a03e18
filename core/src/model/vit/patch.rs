//! Images to tokens.

use crate::model::{Context, Init};
use burn::module::{Module, Param};
use burn::tensor::{FloatDType, Tensor};

/// Square patches without overlap, each turned into a token.
#[derive(Module, Debug)]
pub struct PatchEmbed {
    /// The linear map of a patch, written as a convolution.
    pub proj: PatchProjection,
}

/// A convolution whose stride is its kernel.
#[derive(Module, Debug)]
pub struct PatchProjection {
    /// `[dim, 3, patch, patch]`.
    pub weight: Param<Tensor<4>>,
    /// `[dim]`.
    pub bias: Param<Tensor<1>>,
}

impl PatchEmbed {
    /// Weight and bias `U(-b, b)` with `b = 1 / sqrt(3 * patch^2)`: PyTorch's default for a convolution,
    /// which the authors' code leaves as it is.
    pub fn new(init: &mut Init<'_>, patch: usize, dim: usize) -> Self {
        let bound = 1.0 / ((3 * patch * patch) as f64).sqrt();
        Self {
            proj: PatchProjection {
                weight: init.uniform([dim, 3, patch, patch], bound),
                bias: init.uniform([dim], bound),
            },
        }
    }

    /// Images `[batch, 3, h, w]` to tokens `[batch, rows * columns, dim]`, row by row, and
    /// `[rows, columns] = [h / patch, w / patch]`.
    pub fn forward(&self, images: Tensor<4>, context: &Context<'_>) -> (Tensor<3>, [usize; 2]) {
        let weight = context.autocast(context.kernel(&self.proj.weight, &images));
        let patch = weight.dims()[3];
        let images = context.autocast(images);
        let x = context.kernels.conv2d(images, weight, patch, 0, 1);
        let x = x.cast(FloatDType::F32);
        let [batch, dim, rows, columns] = x.dims();
        let x = x.reshape([batch, dim, rows * columns]).swap_dims(1, 2);
        let bias = self.proj.bias.val().reshape([1, 1, dim]);
        (x + bias, [rows, columns])
    }
}
