//! Batch normalisation over ranks (see the module above) by the kernels that ATen has for it on CUDA, those of PyTorch's `SyncBatchNorm`
//! (`torch/nn/modules/_functions.py`).
//!
//! Ranks gather [mean | inverse deviation | count]; from these one kernel makes the statistics of all and moves the running ones.
//! PyTorch also leaves out ranks without images, for which the host waits: here every rank has some.

use burn::backend::libtorch::TchTensor;
use tch::{Kind, Tensor};

use super::{Peers, channels_and_count};
use crate::aten::extension::unshared;
use crate::aten::ffi::Normalisation;

/// The statistics of all peers' batches, as the backward pass takes them.
#[derive(Debug, Clone)]
pub(super) struct Statistics {
    mean: TchTensor,
    inverse_deviation: TchTensor,
    /// Values per channel of each rank, `[ranks]`, 32-bit integers.
    counts: TchTensor,
}

/// Output, running mean and running variance, and the statistics. `input` is `[batch, channels, h, w]`, laid out channels last, in any
/// precision; all else is f32.
pub(super) fn forward(
    input: &Tensor,
    [weight, bias]: [&Tensor; 2],
    [mean, variance]: [TchTensor; 2],
    options: Normalisation,
    peers: &Peers,
) -> tch::Result<([TchTensor; 3], Statistics)> {
    let Normalisation { momentum, eps, .. } = options;
    let [channels, count] = channels_and_count(input);
    let (own_mean, own_inverse) = input.f_batch_norm_stats(eps)?;
    let count = own_mean.f_new_full([1], count as f64, (Kind::Float, input.device()))?;
    let all = peers.gather(Tensor::f_cat(&[own_mean, own_inverse, count], 0)?);
    let counts = all.f_select(1, 2 * channels)?;
    // Written to.
    let running = [mean, variance].map(unshared);
    let (mean, inverse_deviation) = input.f_batch_norm_gather_stats_with_counts(
        &all.f_narrow(1, 0, channels)?,
        &all.f_narrow(1, channels, channels)?,
        Some(&running[0].tensor),
        Some(&running[1].tensor),
        momentum,
        eps,
        &counts,
    )?;
    let output =
        input.f_batch_norm_elemt(Some(weight), Some(bias), &mean, &inverse_deviation, eps)?;
    let statistics = Statistics {
        mean: TchTensor::new(mean),
        inverse_deviation: TchTensor::new(inverse_deviation),
        counts: TchTensor::new(counts.f_to_kind(Kind::Int)?),
    };
    let [mean, variance] = running;
    Ok(([TchTensor::new(output), mean, variance], statistics))
}

impl Statistics {
    /// Gradients of input, weight and bias, the last two this rank's part. `gradient` and `input` are laid out channels last.
    pub(super) fn backward(
        &self,
        gradient: &Tensor,
        [input, weight]: [&Tensor; 2],
        peers: &Peers,
    ) -> tch::Result<[Tensor; 3]> {
        let [mean, inverse_deviation] = [&self.mean.tensor, &self.inverse_deviation.tensor];
        // Of dy and of dy (x - mean).
        let (sum, product, of_weight, of_bias) = input.f_batch_norm_backward_reduce(
            gradient,
            mean,
            inverse_deviation,
            Some(weight),
            true,
            true,
            true,
        )?;
        let channels = sum.size()[0];
        let sums = peers.sum(Tensor::f_cat(&[sum, product], 0)?);
        let of_input = input.f_batch_norm_backward_elemt(
            gradient,
            mean,
            inverse_deviation,
            Some(weight),
            &sums.f_narrow(0, 0, channels)?,
            &sums.f_narrow(0, channels, channels)?,
            &self.counts.tensor,
        )?;
        Ok([of_input, of_weight, of_bias])
    }
}
