//! Stochastic depth (Huang et al. 2016): a sample skips a branch now and then.

use crate::kernels::Kernels;
use crate::model::Noise;
use crate::random::Draw;
use burn::tensor::Tensor;

/// Zeroes the branch of each sample with probability `rate` and divides the others by `1 - rate`, so that
/// the expectation stays: `[batch, tokens, dim]` to the same shape. `layer` numbers the branch.
pub(super) fn drop_path(
    branch: Tensor<3>,
    rate: f64,
    noise: Noise,
    layer: usize,
    kernels: &dyn Kernels,
) -> Tensor<3> {
    if rate == 0.0 {
        return branch;
    }
    let [batch, ..] = branch.dims();
    let factors = kernels.upload(factors(rate, batch, noise, layer), &branch.device());
    branch * factors.reshape([batch, 1, 1])
}

/// The probability with which a sample skips a branch of block `index` of `depth`: `last` at the last block, rising
/// linearly from 0 at the first.
pub(super) fn rate(last: f64, index: usize, depth: usize) -> f64 {
    last * index as f64 / depth.saturating_sub(1).max(1) as f64
}

fn factors(rate: f64, batch: usize, noise: Noise, layer: usize) -> Vec<f32> {
    let kept = (1.0 / (1.0 - rate)) as f32;
    noise.per_row(
        layer,
        batch,
        |stream| {
            if stream.chance(rate) { 0.0 } else { kept }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `torch.linspace(0, 0.1, 12)` and the like, which the authors' code takes.
    #[test]
    fn rates_rise_linearly() {
        let rates =
            |last, depth| -> Vec<f64> { (0..depth).map(|i| rate(last, i, depth)).collect() };
        assert_eq!(rates(0.5, 5), [0.0, 0.125, 0.25, 0.375, 0.5]);
        assert_eq!(rates(0.5, 1), [0.0]);
        let twelve = rates(0.1, 12);
        assert!((twelve[1] - 0.009_090_909).abs() < 1e-8 && twelve[11] == 0.1);
    }

    /// 20,000 draws at rate 0.25: the share within four standard deviations, the mean kept.
    #[test]
    fn keeps_the_expectation() {
        let count = 20_000;
        let noise = Noise::new(1, 2, 0);
        let drawn = factors(0.25, count, noise, 3);
        assert_eq!(drawn, factors(0.25, count, noise, 3));
        let dropped = drawn.iter().filter(|&&x| x == 0.0).count() as f64 / count as f64;
        let deviation = (0.25_f64 * 0.75 / count as f64).sqrt();
        assert!((dropped - 0.25).abs() < 4.0 * deviation, "{dropped}");
        assert!(drawn.iter().all(|&x| x == 0.0 || x == 4.0 / 3.0));
        assert_ne!(drawn, factors(0.25, count, Noise::new(1, 3, 0), 3));
    }
}
