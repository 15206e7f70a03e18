//! Operations in burn's graph whose backward pass is a function of what their forward pass kept.

use std::fmt::Debug;
use std::marker::PhantomData;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, NodeGuard, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend};

/// What an operation of `N` operands keeps for its backward pass.
pub(crate) trait Kept<B: Backend, const N: usize>: Clone + Send + Debug + 'static {
    /// The operands' gradients, at least where `wanted`, given that of the output.
    fn gradients(self, gradient: FloatTensor<B>, wanted: [bool; N]) -> [Option<FloatTensor<B>>; N];
}

/// `output` as a part of the graph, made of the operands of these nodes.
pub(crate) fn track<B: Backend, const N: usize, K: Kept<B, N>, C: CheckpointStrategy>(
    operands: [NodeGuard; N],
    kept: K,
    output: FloatTensor<B>,
) -> FloatTensor<Autodiff<B, C>> {
    match FromKept(PhantomData::<K>)
        .prepare::<C>(operands)
        .compute_bound()
        .stateful()
    {
        OpsKind::Tracked(prep) => prep.finish(kept, output),
        OpsKind::UnTracked(prep) => prep.finish(output),
    }
}

#[derive(Debug)]
struct FromKept<K>(PhantomData<K>);

impl<B: Backend, const N: usize, K: Kept<B, N>> Backward<B, N> for FromKept<K> {
    type State = K;

    fn backward(
        self,
        ops: Ops<Self::State, N>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let gradient = grads.consume::<B>(&ops.node);
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let gradients = ops.state.gradients(gradient, wanted);
        for (parent, gradient) in ops.parents.into_iter().zip(gradients) {
            if let (Some(parent), Some(gradient)) = (parent, gradient) {
                grads.register::<B>(parent.id, gradient);
            }
        }
    }
}
