//! Weights in the memory layout that a backend's kernels work on best.

use crate::kernels::Kernels;
use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::Tensor;

/// `model` with every convolution's weight as `kernels` like it. Values and names stay the same.
///
/// Done once per model: the updates of the optimiser keep the layout.
pub fn with_weight_layout<M: Module>(model: M, kernels: &dyn Kernels) -> M {
    model.map(&mut Layout(kernels))
}

struct Layout<'a>(&'a dyn Kernels);

impl ModuleMapper for Layout<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let shape = param.dims();
        // The rank is only known as a constant of this function.
        let Ok(four) = <[usize; 4]>::try_from(&shape[..]) else {
            return param;
        };
        let (id, tensor, mapper) = param.consume();
        let (autodiff, tracked) = (tensor.is_autodiff(), tensor.is_require_grad());
        let weight = tensor.without_autodiff().reshape(four);
        let mut tensor: Tensor<D> = self.0.weight_layout(weight).reshape(shape);
        if autodiff {
            tensor = tensor.autodiff().set_require_grad(tracked);
        }
        Param::from_mapped_value(id, tensor, mapper)
    }
}
