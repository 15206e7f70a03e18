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

    /// Orthonormal rows, or columns where there are more rows than columns: a Gaussian matrix,
    /// orthonormalised (the Q of its QR decomposition, up to signs).
    pub fn orthogonal(&mut self, shape: [usize; 2]) -> Param<Tensor<2>> {
        let mut rng = self.stream();
        let [rows, columns] = shape;
        self.param(shape, move |device| {
            let (vectors, length) = (rows.min(columns), rows.max(columns));
            let basis = orthonormal(vectors, length, || rng.sample(StandardNormal));
            let entry = |i: usize| {
                let (row, column) = (i / columns, i % columns);
                if rows <= columns {
                    basis[row][column]
                } else {
                    basis[column][row]
                }
            };
            let values: Vec<f32> = (0..rows * columns).map(|i| entry(i) as f32).collect();
            Tensor::from_data(TensorData::new(values, shape), device)
        })
    }

    fn drawn<const D: usize>(
        &mut self,
        shape: [usize; D],
        draw: impl Fn(&mut Stream) -> f64 + Send + Sync + 'static,
    ) -> Param<Tensor<D>> {
        let mut rng = self.stream();
        self.param(shape, move |device| {
            let count = shape.iter().product();
            let values: Vec<f32> = (0..count).map(|_| draw(&mut rng) as f32).collect();
            Tensor::from_data(TensorData::new(values, shape), device)
        })
    }

    fn stream(&mut self) -> Stream {
        self.position += 1;
        stream(self.seed, Purpose::Weights, [self.position, 0, 0])
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

/// `count` random orthonormal vectors of `length >= count` values (modified Gram-Schmidt, each vector
/// projected twice: once leaves an error that grows with `count`).
fn orthonormal(count: usize, length: usize, mut draw: impl FnMut() -> f64) -> Vec<Vec<f64>> {
    let dot = |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
    let mut basis: Vec<Vec<f64>> = Vec::with_capacity(count);
    for _ in 0..count {
        let mut vector: Vec<f64> = (0..length).map(|_| draw()).collect();
        for _ in 0..2 {
            for other in &basis {
                let along = dot(&vector, other);
                for (x, y) in vector.iter_mut().zip(other) {
                    *x -= along * y;
                }
            }
        }
        let norm = dot(&vector, &vector).sqrt();
        vector.iter_mut().for_each(|x| *x /= norm);
        basis.push(vector);
    }
    basis
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gram_schmidt_makes_an_orthonormal_basis() {
        let mut rng = stream(0, Purpose::Weights, [1, 0, 0]);
        let basis = orthonormal(20, 20, || rng.sample(StandardNormal));
        for (i, a) in basis.iter().enumerate() {
            for (j, b) in basis.iter().enumerate() {
                let dot: f64 = a.iter().zip(b).map(|(a, b)| a * b).sum();
                let expected = f64::from(u8::from(i == j));
                assert!((dot - expected).abs() < 1e-12, "{i} {j}: {dot}");
            }
        }
    }
}
