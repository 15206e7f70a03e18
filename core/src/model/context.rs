//! What a forward pass needs besides its input.

use crate::config::Precision;
use crate::kernels::Kernels;
use crate::random::{Purpose, Stream, stream};
use burn::tensor::{FloatDType, Tensor};

/// The operations and the mode of a forward pass.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The hot operations.
    pub kernels: &'a dyn Kernels,
    /// Whether batch normalisation uses, and records, the batch's statistics, and random layers draw.
    pub training: bool,
    /// What random layers draw from in training.
    pub noise: Noise,
}

impl<'a> Context<'a> {
    /// A pass for inference: running statistics, nothing random.
    pub fn evaluation(kernels: &'a dyn Kernels) -> Self {
        Self {
            kernels,
            training: false,
            noise: Noise::default(),
        }
    }

    /// A pass of a training step.
    pub fn training(kernels: &'a dyn Kernels, noise: Noise) -> Self {
        Self {
            kernels,
            training: true,
            noise,
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

/// Names the random numbers of a forward pass: equal noise, equal numbers, whatever was drawn before.
/// So a resumed run repeats the uninterrupted one, and a pass that is made twice repeats itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Noise {
    seed: u64,
    step: u64,
    part: u32,
    pass: u32,
}

impl Noise {
    /// The numbers of training step `step` of the run with this seed. `part` tells apart what is computed
    /// separately within the step: ranks and micro-batches.
    pub fn new(seed: u64, step: u64, part: u32) -> Self {
        Self {
            seed,
            step,
            part,
            pass: 0,
        }
    }

    /// The numbers of the step's next pass through the same layers.
    #[must_use]
    pub fn next_pass(self) -> Self {
        Self {
            pass: self.pass + 1,
            ..self
        }
    }

    /// The stream of the layer with this number.
    pub(super) fn stream(&self, layer: usize) -> Stream {
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
}
