//! Initial weights: PyTorch's formulas, drawn on the host from one stream per tensor.

use crate::random::{Purpose, stream};
use burn::module::Param;
use burn::tensor::{Device, Tensor, TensorData};
use rand::RngExt;
use rand_distr::StandardNormal;

/// Hands out initial tensors; the n-th tensor depends on the seed and n alone.
#[derive(Debug)]
pub struct Init<'a> {
    device: &'a Device,
    seed: u64,
    position: u64,
}

impl<'a> Init<'a> {
    /// Initial tensors on `device` from `seed`.
    pub fn new(device: &'a Device, seed: u64) -> Self {
        Self {
            device,
            seed,
            position: 0,
        }
    }

    /// The device tensors are made on.
    pub fn device(&self) -> &Device {
        self.device
    }

    /// All equal to `value`.
    pub fn constant<const D: usize>(&mut self, shape: [usize; D], value: f32) -> Param<Tensor<D>> {
        self.position += 1;
        Param::from_tensor(Tensor::full(shape, value, self.device))
    }

    /// `N(0, std^2)`.
    pub fn normal<const D: usize>(&mut self, shape: [usize; D], std: f64) -> Param<Tensor<D>> {
        let mut rng = self.stream();
        self.param(shape, || rng.sample::<f64, _>(StandardNormal) * std)
    }

    /// `U(-bound, bound)`.
    pub fn uniform<const D: usize>(&mut self, shape: [usize; D], bound: f64) -> Param<Tensor<D>> {
        let mut rng = self.stream();
        self.param(shape, || rng.random_range(-bound..=bound))
    }

    fn stream(&mut self) -> crate::random::Stream {
        self.position += 1;
        stream(self.seed, Purpose::Weights, [self.position, 0, 0])
    }

    fn param<const D: usize>(
        &self,
        shape: [usize; D],
        mut draw: impl FnMut() -> f64,
    ) -> Param<Tensor<D>> {
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| draw() as f32).collect();
        Param::from_tensor(Tensor::from_data(
            TensorData::new(values, shape),
            self.device,
        ))
    }
}
