//! What is done to all gradients at once: a few operations on a GPU instead of several per tensor.

use burn::backend::LibTorch;
use burn::backend::libtorch::TchTensor;
use burn::tensor::Tensor;

use super::extension::expect;
use super::ffi;
use super::optimizer::{owned, plain};

/// See core's [`Kernels::norm`](selfcls_core::kernels::Kernels::norm).
pub(super) fn norm(tensors: Vec<Tensor<4>>) -> Option<Tensor<1>> {
    let norms = norms(tensors, false)?;
    Some((norms.clone() * norms).sum().sqrt())
}

/// See core's [`Kernels::probe`](selfcls_core::kernels::Kernels::probe).
pub(super) fn probe(tensors: Vec<Tensor<4>>) -> Option<Tensor<1>> {
    // Not of L2 norms: the sum of squares of finite values may not be finite.
    Some((norms(tensors, true)? * 0.0).sum())
}

/// See core's [`Kernels::scale`](selfcls_core::kernels::Kernels::scale).
pub(super) fn scale(tensors: Vec<Tensor<4>>, factor: Tensor<1>) -> Vec<Tensor<4>> {
    // ATen refuses an empty list.
    if tensors.is_empty() {
        return tensors;
    }
    let tensors: Vec<TchTensor> = tensors.into_iter().map(|x| owned(plain(x))).collect();
    let list: Vec<&tch::Tensor> = tensors.iter().map(|tensor| &tensor.tensor).collect();
    expect("_foreach_mul_", ffi::scale(&list, &plain(factor).tensor));
    tensors
        .into_iter()
        .map(Tensor::from_primitive::<LibTorch>)
        .collect()
}

/// A number per tensor; none without tensors.
fn norms(tensors: Vec<Tensor<4>>, largest: bool) -> Option<Tensor<1>> {
    let tensors: Vec<TchTensor> = tensors.into_iter().map(plain).collect();
    let list: Vec<&tch::Tensor> = tensors.iter().map(|tensor| &tensor.tensor).collect();
    if list.is_empty() {
        return None;
    }
    let norms = TchTensor::new(expect("_foreach_norm", ffi::norms(&list, largest)));
    Some(Tensor::from_primitive::<LibTorch>(norms))
}
