//! What the processes of a run say to each other.
//!
//! The trait holds what the training step asks of its peers: who we are, and the gathering of logits,
//! embeddings and indices. [`SingleProcess`] is the world of one.

use burn::tensor::{Int, Tensor};
use std::fmt::Debug;

/// The processes of a run, seen from one of them.
pub trait Collective: Send + Sync + Debug {
    /// This process, from 0 to [`world_size`](Self::world_size) - 1.
    fn rank(&self) -> usize;

    /// Number of processes.
    fn world_size(&self) -> usize;

    /// Concatenates the ranks' tensors along axis 0, in rank order. Gradients flow back summed over
    /// the ranks, each rank keeping its own slice (the authors' `AllGather`).
    fn all_gather(&self, tensor: Tensor<2>) -> Tensor<2>;

    /// Concatenates the ranks' integers, in rank order.
    fn all_gather_int(&self, tensor: Tensor<1, Int>) -> Tensor<1, Int>;
}

/// A run of one process.
#[derive(Debug, Clone, Copy, Default)]
pub struct SingleProcess;

impl Collective for SingleProcess {
    fn rank(&self) -> usize {
        0
    }

    fn world_size(&self) -> usize {
        1
    }

    fn all_gather(&self, tensor: Tensor<2>) -> Tensor<2> {
        tensor
    }

    fn all_gather_int(&self, tensor: Tensor<1, Int>) -> Tensor<1, Int> {
        tensor
    }
}
