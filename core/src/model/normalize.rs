//! Row-wise L2 norms with the gradients of PyTorch's `F.normalize` and weight norm.

use burn::tensor::Tensor;

/// `max(||x_i||, eps)` of each row of `[rows, dim]`, `[rows, 1]`.
///
/// The clamp is under the root: a zero row then has a zero gradient, as in PyTorch, and not the
/// 0 * infinity that the root's derivative at zero would make of it.
pub fn l2_norm_rows(x: Tensor<2>, eps: f64) -> Tensor<2> {
    x.clone().mul(x).sum_dim(1).clamp_min(eps * eps).sqrt()
}

/// `x_i / max(||x_i||, eps)` of each row of `[rows, dim]`.
pub fn normalize_rows(x: Tensor<2>, eps: f64) -> Tensor<2> {
    let norm = l2_norm_rows(x.clone(), eps);
    x / norm
}
