//! Batch normalisation over the batches of several ranks (PyTorch's `SyncBatchNorm`), on CPU and CUDA.
//!
//! With x^ the normalised input, y = w x^ + b, s the inverse deviation and n all ranks' values per channel,
//!
//! ```text
//! dx = w s dy - w s / n (sum dy + x^ sum (dy x^)),
//! ```
//!
//! the sums over all ranks. These exchange 2 channels + 1 numbers forward and 2 channels backward. Gradients of w and b are this rank's
//! part: those of parameters are added up later, all at once.
//!
//! On CUDA, where each operation on a few numbers is a kernel to be launched, ATen has kernels for the whole of it (`fused`);
//! elsewhere it is composed of other operations (`composed`).

mod composed;
mod fused;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::libtorch::TchTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, LibTorch, backend_extension};
use burn::tensor::Tensor;
use selfcls_core::collective::{Collective, Reduction};

use super::extension::{channels_last, expect};
use super::ffi::{self, Normalisation};
use crate::kept::{Kept, track};

/// The ranks whose batches count together.
#[derive(Debug, Clone)]
pub(super) struct Peers(pub(super) Arc<dyn Collective>);

impl Peers {
    /// The sum over ranks of `values`, which nobody else holds; this rank's own, or a part of the sum, where a peer has failed, which
    /// the peers keep for [`Collective::check`].
    fn sum(&self, values: tch::Tensor) -> tch::Tensor {
        let tensor =
            Tensor::<1>::from_primitive::<LibTorch>(TchTensor::new(values.shallow_clone()));
        let sum = self.0.all_reduce(tensor, Reduction::Sum);
        sum.ok()
            .and_then(|sum| sum.try_into_primitive::<LibTorch>().ok())
            .map_or(values, |sum| sum.tensor)
    }

    /// One row per rank, of which `row`, which nobody else holds, is this one's; it alone where a peer has failed.
    fn gather(&self, row: tch::Tensor) -> tch::Tensor {
        let row = row.unsqueeze(0);
        let tensor = Tensor::<2>::from_primitive::<LibTorch>(TchTensor::new(row.shallow_clone()));
        let rows = self.0.all_gather(tensor, &vec![1; self.0.world_size()]);
        rows.ok()
            .and_then(|rows| rows.try_into_primitive::<LibTorch>().ok())
            .map_or(row, |rows| rows.tensor)
    }
}

#[backend_extension(Autodiff, LibTorch)]
pub(super) trait SyncOps: Backend {
    /// Batch normalisation of `[batch, channels, h, w]` by the statistics of all peers: output, running mean
    /// and running variance.
    fn sync_batch_norm(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        options: Normalisation,
        peers: Peers,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

/// How many channels `[batch, channels, h, w]` has, and how many values each.
fn channels_and_count(input: &tch::Tensor) -> [i64; 2] {
    let size = input.size();
    let channels = size[1];
    [channels, size.iter().product::<i64>() / channels.max(1)]
}

/// What the forward pass leaves for the backward pass.
#[derive(Debug, Clone)]
enum Statistics {
    Composed(composed::Statistics),
    Fused(fused::Statistics),
}

/// `fused` takes images channels last, as they are from the first convolution on.
fn laid_out(input: TchTensor) -> TchTensor {
    match input.tensor.device().is_cuda() {
        true => channels_last(input),
        false => input,
    }
}

/// Output and new running statistics of an input that is laid out, and what the backward pass needs.
fn forward(
    input: &TchTensor,
    [weight, bias]: [&TchTensor; 2],
    running: [TchTensor; 2],
    options: Normalisation,
    peers: &Peers,
) -> ([TchTensor; 3], Statistics) {
    let [input, weight, bias] = [input, weight, bias].map(|tensor| &tensor.tensor);
    let normalised = if input.device().is_cuda() {
        fused::forward(input, [weight, bias], running, options, peers)
            .map(|(results, statistics)| (results, Statistics::Fused(statistics)))
            .map_err(|error| error.to_string())
    } else {
        composed::forward(input, [weight, bias], running.each_ref(), options, peers)
            .map(|(results, statistics)| (results, Statistics::Composed(statistics)))
    };
    expect("batch normalisation over ranks", normalised)
}

impl SyncOps for LibTorch {
    fn sync_batch_norm(
        input: TchTensor,
        weight: TchTensor,
        bias: TchTensor,
        mean: TchTensor,
        variance: TchTensor,
        options: Normalisation,
        peers: Peers,
    ) -> (TchTensor, TchTensor, TchTensor) {
        let input = laid_out(input);
        let (results, _) = forward(&input, [&weight, &bias], [mean, variance], options, &peers);
        results.into()
    }
}

/// What the backward pass keeps.
#[derive(Debug, Clone)]
struct Normalised {
    input: TchTensor,
    weight: TchTensor,
    statistics: Statistics,
    peers: Peers,
}

impl Normalised {
    /// Gradients of input, weight and bias, the last two this rank's part.
    fn backward(&self, gradient: &tch::Tensor) -> ffi::Result<[tch::Tensor; 3]> {
        let operands = [&self.input.tensor, &self.weight.tensor];
        match &self.statistics {
            Statistics::Composed(statistics) => {
                statistics.backward(gradient, operands, &self.peers)
            }
            Statistics::Fused(statistics) => statistics
                .backward(&ffi::channels_last(gradient)?, operands, &self.peers)
                .map_err(|error| error.to_string()),
        }
    }
}

impl Kept<LibTorch, 3> for Normalised {
    fn gradients(self, gradient: TchTensor, _wanted: [bool; 3]) -> [Option<TchTensor>; 3] {
        let gradients = expect("batch_norm_backward", self.backward(&gradient.tensor));
        gradients.map(|gradient| Some(TchTensor::new(gradient)))
    }
}

impl<C: CheckpointStrategy> SyncOps for Autodiff<LibTorch, C> {
    fn sync_batch_norm(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        options: Normalisation,
        peers: Peers,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let (input, input_node) = input.into_parts();
        let (weight, weight_node) = weight.into_parts();
        let (bias, bias_node) = bias.into_parts();
        let running = [mean.into_primitive(), variance.into_primitive()];
        let input = laid_out(input);
        let ([output, mean, variance], statistics) =
            forward(&input, [&weight, &bias], running, options, &peers);
        let kept = Normalised {
            input,
            weight,
            statistics,
            peers,
        };
        let output = track::<LibTorch, 3, _, C>([input_node, weight_node, bias_node], kept, output);
        (
            output,
            <FloatTensor<Self>>::new(mean),
            <FloatTensor<Self>>::new(variance),
        )
    }
}
