//! Updates of parameters in place, by ATen's fused optimisers.

use burn::backend::LibTorch;
use burn::backend::libtorch::TchTensor;
use burn::tensor::Tensor;
use selfcls_core::config::OptimConfig;
use selfcls_core::optim::rule::{ParamUpdate, Updated};

use super::extension::{expect, unshared};
use super::ffi::{self, Updates};

/// A parameter's tensors where they may be written to, all laid out as the parameter is.
struct Writable {
    param: TchTensor,
    grad: TchTensor,
    moments: Vec<TchTensor>,
}

/// Updates every parameter; with `batched` all of them together, without waiting for the device.
pub(super) fn update(
    config: &OptimConfig,
    lr: f64,
    params: Vec<ParamUpdate>,
    batched: bool,
) -> Vec<Updated> {
    let count = if config.kind.is_adamw() { 2 } else { 1 };
    let decays: Vec<f64> = params.iter().map(|param| param.weight_decay).collect();
    let steps: Vec<i64> = params.iter().map(|param| param.step as i64).collect();
    let params: Vec<Writable> = params
        .into_iter()
        .map(|update| Writable::new(update, count))
        .collect();
    let list = |of: fn(&Writable) -> &TchTensor| -> Vec<&tch::Tensor> {
        params.iter().map(|param| &of(param).tensor).collect()
    };
    let result = ffi::update(
        config,
        lr,
        &Updates {
            params: list(|param| &param.param),
            grads: list(|param| &param.grad),
            first: list(|param| &param.moments[0]),
            second: if count == 2 {
                list(|param| &param.moments[1])
            } else {
                Vec::new()
            },
            decays,
            steps,
        },
        batched,
    );
    expect("optimiser", result);
    params.into_iter().map(Writable::done).collect()
}

impl Writable {
    /// `count` moments, zero where there is no history.
    fn new(update: ParamUpdate, count: usize) -> Self {
        let param = owned(plain(update.param));
        let like = |tensor: Tensor<4>| laid_out_as(plain(tensor), &param.tensor);
        let grad = like(update.grad);
        let mut moments: Vec<TchTensor> = update.moments.into_iter().map(like).collect();
        while moments.len() < count {
            moments.push(TchTensor::new(param.tensor.zeros_like()));
        }
        Self {
            param,
            grad,
            moments,
        }
    }

    fn done(self) -> Updated {
        Updated {
            param: Tensor::from_primitive::<LibTorch>(self.param),
            moments: self
                .moments
                .into_iter()
                .map(Tensor::from_primitive::<LibTorch>)
                .collect(),
        }
    }
}

pub(super) fn plain<const D: usize>(tensor: Tensor<D>) -> TchTensor {
    // Invariant: these kernels are handed out for libtorch's devices alone, and an optimiser's tensors
    // carry no autodiff.
    tensor
        .try_into_primitive::<LibTorch>()
        .expect("a libtorch tensor without autodiff")
}

/// The tensor where nobody else holds it and its values lie without gaps, or else a copy.
pub(super) fn owned(tensor: TchTensor) -> TchTensor {
    if !is_dense(&tensor.tensor) {
        TchTensor::new(tensor.tensor.contiguous())
    } else {
        unshared(tensor)
    }
}

/// As [`owned`], in the order in memory of `like`.
fn laid_out_as(tensor: TchTensor, like: &tch::Tensor) -> TchTensor {
    if tensor.can_mut() && has_layout_of(&tensor.tensor, like) {
        return tensor;
    }
    let mut copy = like.empty_like();
    copy.copy_(&tensor.tensor);
    TchTensor::new(copy)
}

/// Sizes and strides of the axes that have more than one place: the stride of the others says nothing.
fn axes(tensor: &tch::Tensor) -> Vec<(i64, i64)> {
    let axes = tensor.size().into_iter().zip(tensor.stride());
    axes.filter(|&(size, _)| size > 1).collect()
}

fn has_layout_of(tensor: &tch::Tensor, like: &tch::Tensor) -> bool {
    axes(tensor) == axes(like)
}

/// Whether the values fill a range of memory, in whatever order.
fn is_dense(tensor: &tch::Tensor) -> bool {
    let reach: i64 = axes(tensor)
        .iter()
        .map(|(size, stride)| (size - 1) * stride)
        .sum();
    reach + 1 == tensor.numel() as i64
}
