//! Batch normalisation over ranks (see the module above) out of operations that libtorch has on every device.
//!
//! Ranks gather [mean | M2 | count] per channel, M2 being the sum of squared deviations, and combine them (Chan, Golub and LeVeque 1979,
//! equation 2.1); what follows is normalisation with given statistics. Backward, the first term, and this rank's part of both sums, is
//! what ATen's backward of such a normalisation returns; the second is itself one, of x, with -w s sum (dy x^) / n as its scale and
//! -w s sum dy / n as its shift. So everything that goes through the images is a kernel of ATen's.

use burn::backend::libtorch::TchTensor;
use tch::{Kind, Tensor};

use super::{Peers, channels_and_count};
use crate::aten::ffi::{self, Normalisation, SavedStatistics};

/// What the backward pass needs.
#[derive(Debug, Clone)]
pub(super) struct Statistics {
    shared: Shared,
    saved: SavedStatistics,
    /// With statistics that are given.
    options: Normalisation,
}

/// Output, running mean and running variance, and the statistics. `input` is `[batch, channels, h, w]`, in any precision; all else is f32.
pub(super) fn forward(
    input: &Tensor,
    [weight, bias]: [&Tensor; 2],
    [mean, variance]: [&TchTensor; 2],
    options: Normalisation,
    peers: &Peers,
) -> ffi::Result<([TchTensor; 3], Statistics)> {
    let shared = shared_statistics(input, peers).map_err(message)?;
    let blend = |old: &TchTensor, new: &Tensor| {
        let blended = old.tensor.f_lerp(new, options.momentum).map_err(message)?;
        Ok::<_, String>(TchTensor::new(blended))
    };
    let (mean, variance) = (
        blend(mean, &shared.mean)?,
        blend(variance, &shared.unbiased)?,
    );
    let options = Normalisation {
        training: false,
        ..options
    };
    let given = [&shared.mean, &shared.variance];
    let ([output, ..], saved) = ffi::batch_norm(input, [weight, bias], given, options)?;
    let statistics = Statistics {
        shared,
        saved,
        options,
    };
    Ok(([TchTensor::new(output), mean, variance], statistics))
}

impl Statistics {
    /// Gradients of input, weight and bias, the last two this rank's part.
    pub(super) fn backward(
        &self,
        gradient: &Tensor,
        [input, weight]: [&Tensor; 2],
        peers: &Peers,
    ) -> ffi::Result<[Tensor; 3]> {
        let Self {
            shared,
            saved,
            options,
        } = self;
        let gradients =
            ffi::batch_norm_backward(gradient, input, weight, saved, *options, [true; 3])?;
        let [Some(of_input), Some(of_weight), Some(of_bias)] = gradients else {
            return Err("a gradient that was asked for is missing".into());
        };
        let correction = self.correction(weight, [&of_weight, &of_bias], peers);
        let [scale, shift] = correction.map_err(message)?;
        let given = [&shared.mean, &shared.variance];
        let ([correction, ..], _) = ffi::batch_norm(input, [&scale, &shift], given, *options)?;
        let of_input = of_input.f_add(&correction).map_err(message)?;
        Ok([of_input, of_weight, of_bias])
    }

    /// -w s sum (dy x^) / n and -w s sum dy / n.
    fn correction(
        &self,
        weight: &Tensor,
        parts: [&Tensor; 2],
        peers: &Peers,
    ) -> tch::Result<[Tensor; 2]> {
        let sums = peers.sum(Tensor::f_cat(&parts, 0)?);
        let channels = weight.size()[0];
        let spread = self.shared.variance.f_add_scalar(self.options.eps)?;
        let factor = weight
            .f_mul(&spread.f_rsqrt()?)?
            .f_div(&self.shared.count)?
            .f_neg()?;
        let part = |start| sums.f_narrow(0, start, channels)?.f_mul(&factor);
        Ok([part(0)?, part(channels)?])
    }
}

/// The statistics of all peers' batches.
#[derive(Debug)]
struct Shared {
    mean: Tensor,
    /// Biased, as it normalises.
    variance: Tensor,
    /// Unbiased, for the running one.
    unbiased: Tensor,
    /// Values per channel, `[1]`; on the device, so that nobody has to wait for it.
    count: Tensor,
}

impl Clone for Shared {
    fn clone(&self) -> Self {
        Self {
            mean: self.mean.shallow_clone(),
            variance: self.variance.shallow_clone(),
            unbiased: self.unbiased.shallow_clone(),
            count: self.count.shallow_clone(),
        }
    }
}

fn shared_statistics(input: &Tensor, peers: &Peers) -> tch::Result<Shared> {
    let [channels, count] = channels_and_count(input);
    let (mean, variance) = own_statistics(input)?;
    let own = Tensor::f_cat(
        &[
            &mean,
            &variance.f_mul_scalar(count as f64)?,
            &mean.f_new_full([1], count as f64, (Kind::Float, mean.device()))?,
        ],
        0,
    )?;
    let all = peers.gather(own);
    let means = all.f_narrow(1, 0, channels)?;
    let squares = all.f_narrow(1, channels, channels)?;
    let counts = all.f_narrow(1, 2 * channels, 1)?;
    let rows = Some([0_i64].as_slice());
    let sum = |values: Tensor| values.f_sum_dim_intlist(rows, false, Kind::Float);
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
fn own_statistics(input: &Tensor) -> tch::Result<(Tensor, Tensor)> {
    let input = input.f_to_kind(Kind::Float)?;
    input.f_batch_norm_update_stats(None::<&Tensor>, None::<&Tensor>, 0.0)
}

fn message(error: tch::TchError) -> String {
    error.to_string()
}
