//! Embeddings of length 1, whose dot product is the cosine.

use crate::{Error, Result};

/// Embeddings scaled to length 1, `[samples, dim]`, row-major.
#[derive(Debug, Clone)]
pub struct UnitEmbeddings {
    data: Vec<f32>,
    dim: usize,
}

impl UnitEmbeddings {
    /// Scales each row of `data`, `[samples, dim]`, to Euclidean length 1. A row of zeros stays as it is: it is equally
    /// similar to everything.
    ///
    /// # Errors
    /// [`Error::Invalid`] if `dim` is 0, does not divide the length of `data`, or a value is not finite.
    pub fn new(mut data: Vec<f32>, dim: usize) -> Result<Self> {
        if dim == 0 || !data.len().is_multiple_of(dim) {
            return Err(Error::Invalid(format!(
                "{} values do not make rows of {dim}",
                data.len()
            )));
        }
        for (sample, row) in data.chunks_exact_mut(dim).enumerate() {
            if let Some(value) = row.iter().find(|value| !value.is_finite()) {
                return Err(Error::Invalid(format!(
                    "the embedding of sample {sample} contains {value}"
                )));
            }
            let norm = row
                .iter()
                .map(|&x| f64::from(x) * f64::from(x))
                .sum::<f64>()
                .sqrt();
            if norm > 0.0 {
                for x in row {
                    *x = (f64::from(*x) / norm) as f32;
                }
            }
        }
        Ok(Self { data, dim })
    }

    /// Rows taken as they are, for exact comparisons.
    #[cfg(test)]
    pub(super) fn unscaled(data: Vec<f32>, dim: usize) -> Self {
        Self { data, dim }
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.data.len() / self.dim
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// Length of an embedding.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// The values, `[samples, dim]`.
    pub fn data(&self) -> &[f32] {
        &self.data
    }
}
