//! The position embedding at other image sizes than it was made for.

use crate::kernels::Kernels;
use crate::positions::axis_weights;
use burn::tensor::{Device, Tensor};

/// The embedding `[1, 1 + grid * grid, dim]` for `[rows, columns]` patches, `[1, 1 + rows * columns, dim]`:
/// the class token's row stays, the others are resampled bicubically by [`axis_weights`].
pub fn interpolate_positions(
    positions: Tensor<3>,
    grid: usize,
    [rows, columns]: [usize; 2],
    kernels: &dyn Kernels,
) -> Tensor<3> {
    if [rows, columns] == [grid, grid] {
        return positions;
    }
    let [_, count, dim] = positions.dims();
    let device = positions.device();
    let class = positions.clone().slice([0..1, 0..1]);
    let patches = positions.slice([0..1, 1..count]);
    // A bicubic map is linear and separable: one matrix along the columns of the grid, one along its rows.
    let down = matrix(grid, rows, kernels, &device);
    let across = matrix(grid, columns, kernels, &device);
    let resampled = down.matmul(patches.reshape([grid, grid * dim]));
    let resampled = across
        .unsqueeze::<3>()
        .expand([rows, columns, grid])
        .matmul(resampled.reshape([rows, grid, dim]));
    Tensor::cat(vec![class, resampled.reshape([1, rows * columns, dim])], 1)
}

/// [`axis_weights`] as a matrix, `[to, from]`.
fn matrix(from: usize, to: usize, kernels: &dyn Kernels, device: &Device) -> Tensor<2> {
    let weights = axis_weights(from, to);
    let weights = weights.into_iter().map(|w| w as f32).collect();
    kernels.upload(weights, device).reshape([to, from])
}
