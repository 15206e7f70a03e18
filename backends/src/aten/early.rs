//! Gradients of weights as soon as the backward pass has gone past their layer.
//!
//! burn hands out gradients when the whole pass is over: a parameter is the end of the graph, and the pass
//! goes through the graph by depth, so what lies between a parameter and its layer (a cast, a transposition) comes
//! last, too. So the weight enters its layer through an operation that changes nothing and hangs below the
//! layer's input as well, which makes it as deep as that: its turn is right after the layer's. No
//! gradient goes to the input, and none to the parameter: it is handed over.

#[cfg(test)]
mod tests;

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::libtorch::TchTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, LibTorch, TensorMetadata, backend_extension};
use burn::tensor::Tensor;
use selfcls_core::optim::Arrival;

use crate::kept::{Kept, track};

#[backend_extension(Autodiff, LibTorch)]
pub(super) trait EarlyOps: Backend {
    /// `weight`, of two or four dimensions, whose gradient goes to `arrival`; `input` is what its layer takes.
    fn hand_over(
        weight: FloatTensor<Self>,
        input: FloatTensor<Self>,
        arrival: Arrival,
    ) -> FloatTensor<Self>;
}

impl EarlyOps for LibTorch {
    fn hand_over(
        weight: FloatTensor<Self>,
        _input: FloatTensor<Self>,
        _arrival: Arrival,
    ) -> FloatTensor<Self> {
        weight
    }
}

impl Kept<LibTorch, 2> for Arrival {
    fn gradients(self, gradient: TchTensor, _wanted: [bool; 2]) -> [Option<TchTensor>; 2] {
        if gradient.rank() == 2 {
            self.deliver(Tensor::<2>::from_primitive::<LibTorch>(gradient));
        } else {
            self.deliver(Tensor::<4>::from_primitive::<LibTorch>(gradient));
        }
        [None, None]
    }
}

impl<C: CheckpointStrategy> EarlyOps for Autodiff<LibTorch, C> {
    fn hand_over(
        weight: FloatTensor<Self>,
        input: FloatTensor<Self>,
        arrival: Arrival,
    ) -> FloatTensor<Self> {
        let (weight, weight_node) = weight.into_parts();
        let (_, input_node) = input.into_parts();
        track::<LibTorch, 2, _, C>([weight_node, input_node], arrival, weight)
    }
}
