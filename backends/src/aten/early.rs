//! Gradients of weights as soon as the backward pass has gone past their layer.
//!
//! burn hands out gradients when the whole pass is over: a parameter is the end of the graph, and the pass
//! goes through the graph by depth, so what lies between a parameter and its layer (a cast, a transposition) comes
//! last, too. So the weight enters its layer through an operation that changes nothing and hangs below the
//! layer's input as well, which makes it as deep as that: its turn is right after the layer's. No
//! gradient goes to the input, and none to the parameter: it is handed over.

#[cfg(test)]
mod tests;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, LibTorch, TensorMetadata, backend_extension};
use burn::tensor::Tensor;
use selfcls_core::optim::Arrival;

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

#[derive(Debug)]
struct HandOver;

impl Backward<LibTorch, 2> for HandOver {
    type State = Arrival;

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let gradient = grads.consume::<LibTorch>(&ops.node);
        if gradient.rank() == 2 {
            let gradient = Tensor::<2>::from_primitive::<LibTorch>(gradient);
            ops.state.deliver(gradient);
        } else {
            let gradient = Tensor::<4>::from_primitive::<LibTorch>(gradient);
            ops.state.deliver(gradient);
        }
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
        match HandOver
            .prepare::<C>([weight_node, input_node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish(arrival, weight),
            OpsKind::UnTracked(prep) => prep.finish(weight),
        }
    }
}
