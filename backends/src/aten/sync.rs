//! Batch normalisation over the batches of several ranks (PyTorch's `SyncBatchNorm`), on CPU and CUDA.
//!
//! Forward, ranks gather [mean | M2 | count] per channel, M2 being the sum of squared deviations, and
//! combine them (Chan, Golub and LeVeque 1979, equation 2.1); what follows is normalisation with given
//! statistics. Backward, with x^ the normalised input, y = w x^ + b, s the inverse deviation and n all
//! ranks' values per channel,
//!
//! ```text
//! dx = w s dy - w s / n (sum dy + x^ sum (dy x^)),
//! ```
//!
//! the sums over all ranks. The first term, and this rank's part of both sums, is what ATen's backward of
//! normalisation with given statistics returns; the second is such a normalisation of x, with
//! -w s sum (dy x^) / n as its scale and -w s sum dy / n as its shift. So everything that goes through the
//! images is a kernel of ATen's, and all ranks exchange is 2 channels + 1 numbers forward and 2 channels
//! backward. Gradients of w and b are this rank's part: those of parameters are added up later, all at once.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::libtorch::TchTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, LibTorch, backend_extension};
use burn::tensor::Tensor;
use selfcls_core::collective::{Collective, Reduction};
use tch::Kind;

use super::extension::expect;
use super::ffi::{self, Normalisation, SavedStatistics};
use crate::kept::{Kept, track};

/// The ranks whose batches count together.
#[derive(Debug, Clone)]
pub(super) struct Peers(pub(super) Arc<dyn Collective>);

impl Peers {
    /// The sum over ranks; this rank's own values where a peer has failed, which the peers keep for
    /// [`Collective::check`].
    fn sum(&self, values: tch::Tensor) -> tch::Tensor {
        let tensor = Tensor::<1>::from_primitive::<LibTorch>(TchTensor::new(values.copy()));
        let sum = self.0.all_reduce(tensor, Reduction::Sum);
        sum.ok()
            .and_then(|sum| sum.try_into_primitive::<LibTorch>().ok())
            .map_or(values, |sum| sum.tensor)
    }

    /// One row per rank; this rank's alone where a peer has failed.
    fn gather(&self, row: tch::Tensor) -> tch::Tensor {
        let row = row.unsqueeze(0);
        let tensor = Tensor::<2>::from_primitive::<LibTorch>(TchTensor::new(row.copy()));
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

/// The statistics of all peers' batches.
#[derive(Debug)]
struct Shared {
    mean: tch::Tensor,
    /// Biased, as it normalises.
    variance: tch::Tensor,
    /// Unbiased, for the running one.
    unbiased: tch::Tensor,
    /// Values per channel, `[1]`; on the device, so that nobody has to wait for it.
    count: tch::Tensor,
}

fn shared_statistics(input: &TchTensor, peers: &Peers) -> tch::Result<Shared> {
    let size = input.tensor.size();
    let channels = size[1];
    let count = (size.iter().product::<i64>() / channels.max(1)) as f64;
    let (mean, variance) = own_statistics(&input.tensor)?;
    let own = tch::Tensor::f_cat(
        &[
            &mean,
            &variance.f_mul_scalar(count)?,
            &mean.f_new_full([1], count, (Kind::Float, mean.device()))?,
        ],
        0,
    )?;
    let all = peers.gather(own);
    let means = all.f_narrow(1, 0, channels)?;
    let squares = all.f_narrow(1, channels, channels)?;
    let counts = all.f_narrow(1, 2 * channels, 1)?;
    let rows = Some([0_i64].as_slice());
    let sum = |values: tch::Tensor| values.f_sum_dim_intlist(rows, false, Kind::Float);
    let count = sum(counts.shallow_clone())?;
    let mean = sum(means.f_mul(&counts)?)?.f_div(&count)?;
    let apart = means.f_sub(&mean)?.f_square()?.f_mul(&counts)?;
    let squares = sum(squares.f_add(&apart)?)?;
    Ok(Shared {
        variance: squares.f_div(&count)?,
        // A single value has no unbiased variance.
        unbiased: squares.f_div(&count.f_sub_scalar(1.0)?.f_clamp_min(1.0)?)?,
        mean,
        count,
    })
}

/// Mean and biased variance of this rank's batch, f32, by ATen's kernel for batch normalisation.
fn own_statistics(input: &tch::Tensor) -> tch::Result<(tch::Tensor, tch::Tensor)> {
    if input.device().is_cuda() {
        // Sums up in f32 whatever comes in.
        return input.f_batch_norm_update_stats(None::<&tch::Tensor>, None::<&tch::Tensor>, 0.0);
    }
    let input = input.f_to_kind(Kind::Float)?;
    input.f_batch_norm_update_stats(None::<&tch::Tensor>, None::<&tch::Tensor>, 0.0)
}

fn blend(old: TchTensor, new: &tch::Tensor, momentum: f64) -> tch::Result<TchTensor> {
    let kept = old.tensor.f_mul_scalar(1.0 - momentum)?;
    Ok(TchTensor::new(kept.f_add(&new.f_mul_scalar(momentum)?)?))
}

/// Output and new running statistics, and what the backward pass needs.
struct Forward {
    results: [TchTensor; 3],
    saved: SavedStatistics,
    shared: Shared,
}

fn forward(
    input: &TchTensor,
    [weight, bias]: [&TchTensor; 2],
    [mean, variance]: [TchTensor; 2],
    options: Normalisation,
    peers: &Peers,
) -> Forward {
    let message = |error: tch::TchError| error.to_string();
    let shared = expect(
        "batch statistics",
        shared_statistics(input, peers).map_err(message),
    );
    let given = Normalisation {
        training: false,
        ..options
    };
    let ([output, ..], saved) = expect(
        "batch_norm",
        ffi::batch_norm(
            &input.tensor,
            [&weight.tensor, &bias.tensor],
            [&shared.mean, &shared.variance],
            given,
        ),
    );
    let momentum = options.momentum;
    let running = blend(mean, &shared.mean, momentum)
        .and_then(|mean| Ok((mean, blend(variance, &shared.unbiased, momentum)?)));
    let (mean, variance) = expect("running statistics", running.map_err(message));
    Forward {
        results: [TchTensor::new(output), mean, variance],
        saved,
        shared,
    }
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
        let passed = forward(&input, [&weight, &bias], [mean, variance], options, &peers);
        passed.results.into()
    }
}

/// What the backward pass keeps.
#[derive(Debug)]
struct Normalised {
    input: TchTensor,
    weight: TchTensor,
    saved: SavedStatistics,
    shared: Shared,
    options: Normalisation,
    peers: Peers,
}

impl Clone for Normalised {
    fn clone(&self) -> Self {
        let Shared {
            mean,
            variance,
            unbiased,
            count,
        } = &self.shared;
        Self {
            input: self.input.clone(),
            weight: self.weight.clone(),
            saved: self.saved.clone(),
            shared: Shared {
                mean: mean.shallow_clone(),
                variance: variance.shallow_clone(),
                unbiased: unbiased.shallow_clone(),
                count: count.shallow_clone(),
            },
            options: self.options,
            peers: self.peers.clone(),
        }
    }
}

impl Normalised {
    /// Gradients of input, weight and bias, the last two this rank's part.
    fn backward(&self, gradient: &tch::Tensor) -> ffi::Result<[tch::Tensor; 3]> {
        let given = Normalisation {
            training: false,
            ..self.options
        };
        let gradients = ffi::batch_norm_backward(
            gradient,
            &self.input.tensor,
            &self.weight.tensor,
            &self.saved,
            given,
            [true; 3],
        )?;
        let [Some(of_input), Some(of_weight), Some(of_bias)] = gradients else {
            return Err("a gradient that was asked for is missing".into());
        };
        let correction = self.correction(&of_weight, &of_bias);
        let [scale, shift] = correction.map_err(|error| error.to_string())?;
        let Shared { mean, variance, .. } = &self.shared;
        let input = &self.input.tensor;
        let ([correction, ..], _) =
            ffi::batch_norm(input, [&scale, &shift], [mean, variance], given)?;
        let of_input = of_input
            .f_add(&correction)
            .map_err(|error| error.to_string())?;
        Ok([of_input, of_weight, of_bias])
    }

    /// -w s sum (dy x^) / n and -w s sum dy / n.
    fn correction(
        &self,
        of_weight: &tch::Tensor,
        of_bias: &tch::Tensor,
    ) -> tch::Result<[tch::Tensor; 2]> {
        let sums = self
            .peers
            .sum(tch::Tensor::f_cat(&[of_weight, of_bias], 0)?);
        let channels = of_weight.size()[0];
        let spread = self.shared.variance.f_add_scalar(self.options.eps)?;
        let factor = self
            .weight
            .tensor
            .f_mul(&spread.f_rsqrt()?)?
            .f_div(&self.shared.count)?
            .f_neg()?;
        let part = |start| sums.f_narrow(0, start, channels)?.f_mul(&factor);
        Ok([part(0)?, part(channels)?])
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
        let Forward {
            results: [output, mean, variance],
            saved,
            shared,
        } = forward(&input, [&weight, &bias], running, options, &peers);
        let kept = Normalised {
            input,
            weight,
            saved,
            shared,
            options,
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
