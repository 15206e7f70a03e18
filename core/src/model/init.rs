//! Initial weights: PyTorch's formulas, drawn on the host from one stream per tensor.
//!
//! They are drawn when first looked at: a model that is made only to be filled from a checkpoint costs
//! neither the time nor the memory.

use crate::random::{Purpose, Stream, stream};
use burn::module::{Param, ParamId};
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
        self.param(shape, move |device| Tensor::full(shape, value, device))
    }

    /// `N(0, std^2)`.
    pub fn normal<const D: usize>(&mut self, shape: [usize; D], std: f64) -> Param<Tensor<D>> {
        self.drawn(shape, move |rng| rng.sample::<f64, _>(StandardNormal) * std)
    }

    /// `U(-bound, bound)`.
    pub fn uniform<const D: usize>(&mut self, shape: [usize; D], bound: f64) -> Param<Tensor<D>> {
        self.drawn(shape, move |rng| rng.random_range(-bound..=bound))
    }

    fn drawn<const D: usize>(
        &mut self,
        shape: [usize; D],
        draw: impl Fn(&mut Stream) -> f64 + Send + Sync + 'static,
    ) -> Param<Tensor<D>> {
        self.position += 1;
        let mut rng = stream(self.seed, Purpose::Weights, [self.position, 0, 0]);
        self.param(shape, move |device| {
            let count = shape.iter().product();
            let values: Vec<f32> = (0..count).map(|_| draw(&mut rng) as f32).collect();
            Tensor::from_data(TensorData::new(values, shape), device)
        })
    }

    fn param<const D: usize>(
        &self,
        shape: [usize; D],
        make: impl FnOnce(&Device) -> Tensor<D> + Send + Sync + 'static,
    ) -> Param<Tensor<D>> {
        Param::uninitialized(
            ParamId::new(),
            move |device, require_grad| make(device).set_require_grad(require_grad),
            self.device.clone(),
            true,
            shape.into(),
        )
    }
}
