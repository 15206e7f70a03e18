//! What is constant once training is over and the image size known: normalisations, multiplied into the
//! weights beside them, and interpolated positions. The products are taken in f64 and rounded once, so
//! that folding costs no accuracy.

use super::weights::Weights;
use selfcls_core::positions::axis_weights;

/// PyTorch's default guard of the variance.
const BN_EPS: f64 = 1e-5;

/// Batch normalisation in evaluation mode: `y = scale * x + shift` per channel.
pub(super) struct Affine {
    scale: Vec<f64>,
    shift: Vec<f64>,
}

impl Affine {
    /// Reads the layer at `path` with its running statistics.
    pub(super) fn batch_norm(weights: &mut Weights<'_>, path: &str, channels: usize) -> Self {
        let gain = weights.take(&format!("{path}.weight"), &[channels]);
        let bias = weights.take(&format!("{path}.bias"), &[channels]);
        let mean = weights.take(&format!("{path}.running_mean"), &[channels]);
        let name = format!("{path}.running_var");
        let variance = weights.take(&name, &[channels]);
        if variance.iter().any(|&v| v < 0.0) {
            weights.refuse(format!("`{name}` has negative variances"));
        }
        let scale: Vec<f64> = gain
            .iter()
            .zip(variance.iter())
            .map(|(&g, &v)| f64::from(g) / (f64::from(v) + BN_EPS).sqrt())
            .collect();
        let shift = bias
            .iter()
            .zip(mean.iter())
            .zip(&scale)
            .map(|((&b, &m), s)| f64::from(b) - f64::from(m) * s)
            .collect();
        Self { scale, shift }
    }

    /// Weight `[out, ...]` and bias `[out]` (absent: zeros) of the layer that does the work of
    /// `weight`, then `self`.
    pub(super) fn fold(&self, weight: &[f32], bias: Option<&[f32]>) -> (Vec<f32>, Vec<f32>) {
        let per_channel = weight.len() / self.scale.len();
        let folded = weight
            .chunks_exact(per_channel)
            .zip(&self.scale)
            .flat_map(|(row, s)| row.iter().map(move |&w| (f64::from(w) * s) as f32))
            .collect();
        let shifted = self
            .scale
            .iter()
            .zip(&self.shift)
            .enumerate()
            .map(|(channel, (s, t))| {
                let own = bias.map_or(0.0, |bias| f64::from(bias[channel]));
                (own * s + t) as f32
            })
            .collect();
        (folded, shifted)
    }
}

/// The rows of a weight-normalised linear layer: `gain * direction / |direction|`, `[out, width]`.
/// `None` for a row without direction.
pub(super) fn weight_norm(gain: &[f32], direction: &[f32]) -> Option<Vec<f32>> {
    let width = direction.len() / gain.len();
    let mut rows = Vec::with_capacity(direction.len());
    for (row, &g) in direction.chunks_exact(width).zip(gain) {
        let norm = row
            .iter()
            .map(|&v| f64::from(v).powi(2))
            .sum::<f64>()
            .sqrt();
        if norm == 0.0 {
            return None;
        }
        rows.extend(
            row.iter()
                .map(|&v| (f64::from(g) * f64::from(v) / norm) as f32),
        );
    }
    Some(rows)
}

/// The position embedding of `grid` x `grid` patches, row-major with `dim` numbers each, for `patches` x
/// `patches`.
pub(super) fn interpolated(given: &[f32], grid: usize, patches: usize, dim: usize) -> Vec<f32> {
    if grid == patches {
        return given.to_vec();
    }
    let axis = axis_weights(grid, patches);
    let rows: Vec<&[f64]> = axis.chunks_exact(grid).collect();
    let mut result = Vec::with_capacity(patches * patches * dim);
    for down in &rows {
        for across in &rows {
            let mut sums = vec![0.0; dim];
            for (i, y) in down.iter().enumerate().filter(|(_, y)| **y != 0.0) {
                for (j, x) in across.iter().enumerate().filter(|(_, x)| **x != 0.0) {
                    let from = &given[(i * grid + j) * dim..][..dim];
                    for (sum, &value) in sums.iter_mut().zip(from) {
                        *sum += y * x * f64::from(value);
                    }
                }
            }
            result.extend(sums.into_iter().map(|sum| sum as f32));
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folding_equals_normalising_afterwards() {
        let norm = Affine {
            scale: vec![2.0, -0.5],
            shift: vec![1.0, 3.0],
        };
        let (weight, bias) = norm.fold(&[1.0, 2.0, 3.0, 4.0], Some(&[10.0, 20.0]));
        assert_eq!(weight, [2.0, 4.0, -1.5, -2.0]);
        assert_eq!(bias, [21.0, -7.0]);
        let (_, bias) = norm.fold(&[1.0, 2.0, 3.0, 4.0], None);
        assert_eq!(bias, [1.0, 3.0]);
    }

    #[test]
    fn normalised_rows_have_the_length_of_their_gain() {
        let rows = weight_norm(&[1.0, 10.0], &[3.0, 4.0, 0.0, -2.0]).expect("rows have directions");
        assert_eq!(rows, [0.6, 0.8, 0.0, -10.0]);
        assert_eq!(weight_norm(&[1.0], &[0.0, 0.0]), None);
    }
}
