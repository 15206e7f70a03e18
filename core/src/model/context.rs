//! What a forward pass needs besides its input.

use super::Casts;
use crate::config::Precision;
use crate::kernels::Kernels;
use crate::optim::{Arrival, Exchange};
use crate::random::{Purpose, Stream, stream};
use burn::module::Param;
use burn::tensor::{FloatDType, Tensor};
use std::ops::Range;
use std::sync::Arc;

/// The operations and the mode of a forward pass.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The hot operations.
    pub kernels: &'a dyn Kernels,
    /// Whether batch normalisation uses, and records, the batch's statistics, and random layers draw.
    pub training: bool,
    /// What random layers draw from in training.
    pub noise: Noise,
    /// Who takes the gradients of weights while the backward pass goes on; none: they come when it is over.
    pub exchange: Option<&'a Arc<Exchange>>,
    /// Where passes that belong together find the weights that one of them has cast; none: each casts its own.
    pub casts: Option<&'a Casts>,
}

impl<'a> Context<'a> {
    /// A pass for inference: running statistics, nothing random.
    pub fn evaluation(kernels: &'a dyn Kernels) -> Self {
        Self {
            kernels,
            training: false,
            noise: Noise::default(),
            exchange: None,
            casts: None,
        }
    }

    /// A pass of a training step.
    pub fn training(kernels: &'a dyn Kernels, noise: Noise) -> Self {
        Self {
            kernels,
            training: true,
            noise,
            exchange: None,
            casts: None,
        }
    }

    /// The same with somebody who takes gradients as they come.
    #[must_use]
    pub fn with_exchange(self, exchange: Option<&'a Arc<Exchange>>) -> Self {
        Self { exchange, ..self }
    }

    /// The same for passes of one model that share their casts, and one backward pass.
    #[must_use]
    pub fn with_casts(self, casts: &'a Casts) -> Self {
        Self {
            casts: Some(casts),
            ..self
        }
    }
}

impl Context<'_> {
    /// `x` in the precision that convolutions and linear layers are computed in. Gradients return in the
    /// precision that `x` came in, so those of weights are f32.
    pub fn autocast<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        match self.kernels.precision() {
            Precision::F32 => x,
            Precision::Bf16 => x.cast(FloatDType::BF16),
            Precision::Fp16 => x.cast(FloatDType::F16),
        }
    }
}

impl Context<'_> {
    /// The weight of a linear layer that takes `input`.
    pub(super) fn matrix(&self, weight: &Param<Tensor<2>>, input: &Tensor<2>) -> Tensor<2> {
        let value = weight.val();
        match self.arrival(weight, &value) {
            Some(arrival) => self.kernels.hand_over_matrix(value, input, arrival),
            None => value,
        }
    }

    /// The weight of a convolution that takes `input`.
    pub(super) fn kernel(&self, weight: &Param<Tensor<4>>, input: &Tensor<4>) -> Tensor<4> {
        let value = weight.val();
        match self.arrival(weight, &value) {
            Some(arrival) => self.kernels.hand_over_kernel(value, input, arrival),
            None => value,
        }
    }

    /// As [`kernel`](Self::kernel), in the precision of [`autocast`](Self::autocast).
    pub(super) fn cast_kernel(&self, weight: &Param<Tensor<4>>, input: &Tensor<4>) -> Tensor<4> {
        let cast = || self.autocast(self.kernel(weight, input));
        match self.casts {
            // What is handed over belongs to this use alone.
            Some(casts) if self.exchange.is_none() => casts.once(weight.id, cast),
            _ => cast(),
        }
    }

    /// Where the gradient of this use of `weight` is awaited; nowhere if it has none.
    fn arrival<const D: usize>(
        &self,
        weight: &Param<Tensor<D>>,
        value: &Tensor<D>,
    ) -> Option<Arrival> {
        let exchange = self.exchange.filter(|_| value.is_require_grad())?;
        Some(exchange.expect(weight.id))
    }
}

/// Names the random numbers of a forward pass: equal noise, equal numbers, whatever was drawn before.
/// So a resumed run repeats the uninterrupted one, and a pass that is made twice repeats itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Noise {
    seed: u64,
    step: u64,
    part: u32,
    pass: u32,
    /// Where only a rank's share of the part passes: the first of its samples, how many they are, and how
    /// many the part has; nothing (no samples) for the whole part.
    share: [u32; 3],
}

impl Noise {
    /// The numbers of training step `step` of the run with this seed. `part` tells apart micro-batches,
    /// which are computed one after the other within the step.
    pub fn new(seed: u64, step: u64, part: u32) -> Self {
        Self {
            seed,
            step,
            part,
            pass: 0,
            share: [0; 3],
        }
    }

    /// For a pass of the samples `own` of a part of `total` samples, whose others pass on other ranks: each
    /// sample's numbers are those it has where all pass together.
    #[must_use]
    pub fn for_share(self, own: &Range<usize>, total: usize) -> Self {
        // Invariant: samples in a batch stay far below 2^32.
        let share = [own.start, own.len(), total].map(|count| count as u32);
        Self { share, ..self }
    }

    /// The numbers of the step's next pass through the same layers.
    #[must_use]
    pub fn next_pass(self) -> Self {
        Self {
            pass: self.pass + 1,
            ..self
        }
    }

    /// One number per row, of `rows` rows, views one after the other, made by `draw` from the stream of the
    /// layer with this number.
    pub(super) fn per_row<T: Copy>(
        &self,
        layer: usize,
        rows: usize,
        mut draw: impl FnMut(&mut Stream) -> T,
    ) -> Vec<T> {
        let mut stream = self.stream(layer);
        let [start, own, total] = self.share.map(|count| count as usize);
        if own == 0 {
            return (0..rows).map(|_| draw(&mut stream)).collect();
        }
        let all: Vec<T> = (0..rows / own * total).map(|_| draw(&mut stream)).collect();
        all.chunks(total)
            .flat_map(|view| &view[start..start + own])
            .copied()
            .collect()
    }

    /// The stream of the layer with this number.
    fn stream(&self, layer: usize) -> Stream {
        let place = (u64::from(self.part) << 32) | u64::from(self.pass);
        stream(
            self.seed,
            Purpose::DropPath,
            [self.step, place, layer as u64],
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::Rng;

    #[test]
    fn every_place_has_its_own_numbers() {
        let base = Noise::new(1, 2, 3);
        let first = |noise: Noise, layer| noise.stream(layer).next_u64();
        assert_eq!(first(base, 4), first(Noise::new(1, 2, 3), 4));
        let mut seen = vec![
            first(base, 4),
            first(base, 5),
            first(base.next_pass(), 4),
            first(Noise::new(2, 2, 3), 4),
            first(Noise::new(1, 3, 3), 4),
            first(Noise::new(1, 2, 4), 4),
        ];
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 6);
    }

    #[test]
    fn a_share_has_the_numbers_of_its_samples() {
        let noise = Noise::new(1, 2, 0);
        let draw = |noise: Noise, rows| noise.per_row(3, rows, |stream| stream.next_u64());
        // Three views of five samples.
        let all = draw(noise, 15);
        let first = draw(noise.for_share(&(0..3), 5), 9);
        let second = draw(noise.for_share(&(3..5), 5), 6);
        for view in 0..3 {
            assert_eq!(first[3 * view..3 * view + 3], all[5 * view..5 * view + 3]);
            assert_eq!(
                second[2 * view..2 * view + 2],
                all[5 * view + 3..5 * view + 5]
            );
        }
    }
}
