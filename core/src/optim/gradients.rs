//! The gradients of one step, by parameter name: gathered from one or several backward passes.

use crate::kernels::Kernels;
use crate::model::NamePath;
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Gradients, Tensor};
use std::collections::BTreeMap;

/// The gradient of each parameter, in four dimensions, without autodiff.
#[derive(Debug, Clone, Default)]
pub struct ParamGradients {
    by_name: BTreeMap<String, Tensor<4>>,
}

/// A parameter's values with as many ones behind its dimensions as make four: one type for all, without
/// the copy that flattening would make of a weight whose memory is laid out for its kernel. Of more than
/// four dimensions, which no layer here has, the first takes all values.
pub(super) fn in_four_dims<const D: usize>(values: Tensor<D>) -> Tensor<4> {
    let dims = values.dims();
    let mut shape = [1; 4];
    match shape.get_mut(..D) {
        Some(first) => first.copy_from_slice(&dims),
        None => shape[0] = dims.iter().product(),
    }
    values.reshape(shape)
}

impl ParamGradients {
    /// Takes the gradients of `model`'s parameters out of the result of a backward pass.
    pub fn take<M: Module>(model: &M, grads: &mut Gradients) -> Self {
        Self::take_part(&[], model, grads)
    }

    /// As [`take`](Self::take), of the part of a model that lies at `path` in it, and nothing else.
    pub fn take_part<M: Module>(path: &[&str], part: &M, grads: &mut Gradients) -> Self {
        let mut taker = Taker {
            path: NamePath::default(),
            grads,
            taken: Self::default(),
        };
        for name in path {
            taker.path.enter(name, "");
        }
        part.visit(&mut taker);
        taker.taken
    }

    /// Adds the gradients of another backward pass of the same step.
    pub fn add(&mut self, other: Self) {
        for (name, grad) in other.by_name {
            let sum = match self.by_name.remove(&name) {
                Some(sum) => sum + grad,
                None => grad,
            };
            self.by_name.insert(name, sum);
        }
    }

    /// The gradient of the parameter `name`, its shape followed by ones; none for a parameter that the loss
    /// did not reach.
    pub fn get(&self, name: &str) -> Option<&Tensor<4>> {
        self.by_name.get(name)
    }

    /// The names of the parameters that have a gradient.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    /// The L2 norm of all gradients together, `[1]`; none if there are none.
    pub fn norm(&self, kernels: &dyn Kernels) -> Option<Tensor<1>> {
        kernels.norm(self.by_name.values().cloned().collect())
    }

    /// Multiplies every gradient by `factor`, `[1]`.
    pub fn scale(&mut self, factor: Tensor<1>, kernels: &dyn Kernels) {
        let (names, grads): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.by_name).into_iter().unzip();
        self.by_name = names
            .into_iter()
            .zip(kernels.scale(grads, factor))
            .collect();
    }

    /// Zero if every gradient is finite and NaN if not, `[1]`; none if there are no gradients.
    pub fn probe(&self, kernels: &dyn Kernels) -> Option<Tensor<1>> {
        kernels.probe(self.by_name.values().cloned().collect())
    }

    /// Puts in the gradient of the parameter `name`.
    pub(super) fn insert(&mut self, name: String, grad: Tensor<4>) {
        self.by_name.insert(name, grad);
    }

    /// All, in the order of their names.
    pub(super) fn into_pairs(self) -> impl Iterator<Item = (String, Tensor<4>)> {
        self.by_name.into_iter()
    }

    /// Takes out the gradient of the parameter `name`.
    pub(super) fn remove(&mut self, name: &str) -> Option<Tensor<4>> {
        self.by_name.remove(name)
    }
}

/// The values in the order in which they lie in memory on kernels that work channels last, so that
/// flattening copies nothing there; elsewhere the order is as good as any.
pub(super) fn flatten(grad: &Tensor<4>) -> Tensor<1> {
    let size = grad.dims().iter().product::<usize>();
    grad.clone().permute([0, 2, 3, 1]).reshape([size])
}

/// Undoes [`flatten`].
pub(super) fn unflatten(flat: Tensor<1>, [out, input, height, width]: [usize; 4]) -> Tensor<4> {
    flat.reshape([out, height, width, input])
        .permute([0, 3, 1, 2])
}

struct Taker<'a> {
    path: NamePath,
    grads: &'a mut Gradients,
    taken: ParamGradients,
}

impl ModuleVisitor for Taker<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(grad) = param.val().grad_remove(self.grads) {
            self.taken
                .by_name
                .insert(self.path.name(), in_four_dims(grad));
        }
    }
}
