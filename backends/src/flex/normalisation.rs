//! Batch normalisation of images that lie channels last.
//!
//! Two passes over the images forward and two backward, where the formulas written in tensor operations take
//! a dozen. Sums run over a block of pixels that stays in the cache, in f32, and over the blocks in f64.

use rayon::prelude::*;

/// Values of a block.
const BLOCK: usize = 16 << 10;
/// Values that a loop adds up side by side, at least: several vectors of any processor.
const LANES: usize = 64;

/// Mean and biased variance of each channel.
#[derive(Debug, Clone)]
pub(super) struct Statistics {
    pub(super) mean: Vec<f32>,
    pub(super) variance: Vec<f32>,
}

/// A linear map of each channel, `(x - centre) * scale + shift`.
#[derive(Debug, Clone)]
pub(super) struct Linear {
    pub(super) centre: Vec<f32>,
    pub(super) scale: Vec<f32>,
    pub(super) shift: Vec<f32>,
}

/// Gradients with respect to the input, the scale and the shift.
pub(super) struct Gradients {
    pub(super) input: Vec<f32>,
    pub(super) weight: Vec<f32>,
    pub(super) bias: Vec<f32>,
}

impl Statistics {
    /// Of pixels `[.., channels]`.
    pub(super) fn of(pixels: &[f32], channels: usize) -> Self {
        // Deviations are taken from the block's own mean: the difference of two large sums would lose them.
        let block = |block: &[f32]| {
            let count = (block.len() / channels) as f64;
            let means: Vec<f32> = sums(block, channels, |sum, pixel| *sum += pixel)
                .into_iter()
                .map(|sum| (f64::from(sum) / count) as f32)
                .collect();
            let centres = repeated(&means);
            let squares = vectorised(|| {
                let mut lanes = vec![0.0; centres.len()];
                for pixels in block.chunks(lanes.len()) {
                    for ((lane, pixel), centre) in lanes.iter_mut().zip(pixels).zip(&centres) {
                        let deviation = pixel - centre;
                        *lane += deviation * deviation;
                    }
                }
                folded(lanes, channels)
            });
            (count, means, squares)
        };
        let blocks: Vec<_> = pixels
            .par_chunks(block_length(channels))
            .map(block)
            .collect();
        let count = (pixels.len() / channels) as f64;
        let of_channel = |channel: usize| {
            let sum = |(count, means, _): &(f64, Vec<f32>, _)| count * f64::from(means[channel]);
            let mean = blocks.iter().map(sum).sum::<f64>() / count;
            let squares = blocks.iter().map(|(count, means, squares)| {
                let deviation = f64::from(means[channel]) - mean;
                f64::from(squares[channel]) + count * deviation * deviation
            });
            (mean as f32, (squares.sum::<f64>() / count) as f32)
        };
        let (mean, variance) = (0..channels).map(of_channel).unzip();
        Self { mean, variance }
    }

    /// The map that makes their mean `bias` and their standard deviation `weight`.
    pub(super) fn normalising(&self, weight: &[f32], bias: &[f32], eps: f64) -> Linear {
        let scale = |(weight, variance): (&f32, &f32)| weight * inverse_deviation(*variance, eps);
        Linear {
            centre: self.mean.clone(),
            scale: weight.iter().zip(&self.variance).map(scale).collect(),
            shift: bias.to_vec(),
        }
    }

    /// Gradients of the normalisation by these statistics: those of `input` itself if `of_input`, constants
    /// otherwise. With g the output's gradient, n the number of pixels, s the standard deviation and
    /// h = (x - mean) / s,
    ///
    /// ```text
    /// dx = weight / s (g - sum g / n - h sum (g h) / n)      dweight = sum (g h)      dbias = sum g
    /// ```
    pub(super) fn gradients(
        &self,
        gradient: &[f32],
        input: &[f32],
        weight: &[f32],
        eps: f64,
        of_input: bool,
    ) -> Gradients {
        let channels = weight.len();
        let centres = repeated(&self.mean);
        let block = |(gradient, input): (&[f32], &[f32])| {
            vectorised(|| {
                let mut plain = vec![0.0; centres.len()];
                let mut centred = vec![0.0; centres.len()];
                let length = centres.len();
                for (gradient, input) in gradient.chunks(length).zip(input.chunks(length)) {
                    let sums = plain.iter_mut().zip(centred.iter_mut());
                    let values = gradient.iter().zip(input).zip(&centres);
                    for ((plain, centred), ((gradient, x), centre)) in sums.zip(values) {
                        *plain += gradient;
                        *centred += gradient * (x - centre);
                    }
                }
                (folded(plain, channels), folded(centred, channels))
            })
        };
        let length = block_length(channels);
        let blocks: Vec<_> = gradient
            .par_chunks(length)
            .zip(input.par_chunks(length))
            .map(block)
            .collect();
        let count = (input.len() / channels) as f64;
        let mut bias_gradient = Vec::with_capacity(channels);
        let mut weight_gradient = Vec::with_capacity(channels);
        // dx = (g - offset - (x - mean) slope) scale
        let (mut offset, mut slope) = (vec![0.0; channels], vec![0.0; channels]);
        let mut scale = Vec::with_capacity(channels);
        for channel in 0..channels {
            let plain: f64 = blocks.iter().map(|sums| f64::from(sums.0[channel])).sum();
            let centred: f64 = blocks.iter().map(|sums| f64::from(sums.1[channel])).sum();
            let inverse = f64::from(inverse_deviation(self.variance[channel], eps));
            bias_gradient.push(plain as f32);
            weight_gradient.push((centred * inverse) as f32);
            if of_input {
                offset[channel] = (plain / count) as f32;
                slope[channel] = (centred * inverse * inverse / count) as f32;
            }
            scale.push((f64::from(weight[channel]) * inverse) as f32);
        }
        let [offset, slope, scale] = [&offset, &slope, &scale].map(|values| repeated(values));
        let mut out = vec![0.0; input.len()];
        out.par_chunks_mut(length)
            .zip(gradient.par_chunks(length).zip(input.par_chunks(length)))
            .for_each(|(out, (gradient, input))| {
                vectorised(|| {
                    let lanes = centres.len();
                    let values = gradient.chunks(lanes).zip(input.chunks(lanes));
                    for (out, (gradient, input)) in out.chunks_mut(lanes).zip(values) {
                        let maps = centres.iter().zip(&offset).zip(&slope).zip(&scale);
                        let values = out.iter_mut().zip(gradient).zip(input).zip(maps);
                        for (((out, gradient), x), (((centre, offset), slope), scale)) in values {
                            *out = (gradient - offset - (x - centre) * slope) * scale;
                        }
                    }
                });
            });
        Gradients {
            input: out,
            weight: weight_gradient,
            bias: bias_gradient,
        }
    }
}

impl Linear {
    /// Of pixels `[.., channels]`.
    pub(super) fn apply(&self, pixels: &[f32]) -> Vec<f32> {
        let [centre, scale, shift] =
            [&self.centre, &self.scale, &self.shift].map(|values| repeated(values));
        let length = block_length(self.centre.len());
        let mut out = vec![0.0; pixels.len()];
        out.par_chunks_mut(length)
            .zip(pixels.par_chunks(length))
            .for_each(|(out, pixels)| {
                vectorised(|| {
                    let lanes = centre.len();
                    for (out, pixels) in out.chunks_mut(lanes).zip(pixels.chunks(lanes)) {
                        let maps = centre.iter().zip(&scale).zip(&shift);
                        let values = out.iter_mut().zip(pixels).zip(maps);
                        for ((out, pixel), ((centre, scale), shift)) in values {
                            *out = (pixel - centre) * scale + shift;
                        }
                    }
                });
            });
        out
    }
}

fn inverse_deviation(variance: f32, eps: f64) -> f32 {
    (1.0 / (f64::from(variance) + eps).sqrt()) as f32
}

/// About [`BLOCK`], in whole runs of [`repeated`] channels.
fn block_length(channels: usize) -> usize {
    let run = channels * LANES.div_ceil(channels);
    run * (BLOCK / run).max(1)
}

/// Runs `kernel` with the widest instruction set of this processor. What is hot in it must be inlined.
#[inline]
pub(super) fn vectorised<R>(kernel: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(kernel)
}

/// The channels' values one after the other, until there are [`LANES`].
fn repeated(values: &[f32]) -> Vec<f32> {
    values.repeat(LANES.div_ceil(values.len().max(1)))
}

/// Lanes of the same channel added up.
#[inline(always)]
fn folded(mut lanes: Vec<f32>, channels: usize) -> Vec<f32> {
    let (sums, rest) = lanes.split_at_mut(channels);
    for lanes in rest.chunks(channels) {
        for (sum, lane) in sums.iter_mut().zip(lanes) {
            *sum += lane;
        }
    }
    lanes.truncate(channels);
    lanes
}

/// What `add` makes of each channel of `block`.
fn sums(block: &[f32], channels: usize, add: impl Fn(&mut f32, f32)) -> Vec<f32> {
    vectorised(|| {
        let mut lanes = vec![0.0; channels * LANES.div_ceil(channels)];
        for pixels in block.chunks(lanes.len()) {
            for (lane, pixel) in lanes.iter_mut().zip(pixels) {
                add(lane, *pixel);
            }
        }
        folded(lanes, channels)
    })
}
