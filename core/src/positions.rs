//! A vision transformer's position embedding at another image size than it was made for: the resampling
//! weights, shared by the model and the exported file.

/// Sharpness of the cubic kernel (Keys 1981), as PyTorch has it.
const A: f64 = -0.75;

/// Weights of the `from` positions along an axis in each of the `to` new ones, row-major `[to, from]`:
/// PyTorch's bicubic `interpolate` with `scale_factor = (to + 0.1) / from`, not antialiased, positions
/// beyond the border equal to the outermost.
///
/// The 0.1 is the authors' (and DINO's) guard against an output one patch too small. It moves every sample
/// point, so a faithful reading of their weights needs it too.
pub fn axis_weights(from: usize, to: usize) -> Vec<f64> {
    let step = from as f64 / (to as f64 + 0.1);
    let mut weights = vec![0.0; to * from];
    for (index, row) in weights.chunks_exact_mut(from.max(1)).enumerate() {
        let centre = step * (index as f64 + 0.5) - 0.5;
        let before = centre.floor();
        for (offset, weight) in (-1..=2).zip(cubic(centre - before)) {
            let position = (before as i64 + offset).clamp(0, from as i64 - 1);
            row[position as usize] += weight;
        }
    }
    weights
}

/// Weights of the four positions around a point `t` beyond the second of them, `0 <= t < 1`.
fn cubic(t: f64) -> [f64; 4] {
    let near = |x: f64| ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0;
    let far = |x: f64| ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A;
    [far(t + 1.0), near(t), near(1.0 - t), far(2.0 - t)]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every new position is an average of old ones: a constant stays, whatever the size.
    #[test]
    fn weights_sum_to_one() {
        for (from, to) in [(14, 6), (14, 4), (14, 28), (7, 5), (1, 3), (3, 1)] {
            for row in axis_weights(from, to).chunks_exact(from) {
                let sum: f64 = row.iter().sum();
                assert!((sum - 1.0).abs() < 1e-12, "{from} to {to}: {sum}");
            }
        }
    }

    /// By hand: from 2 to 4 the step is 2 / 4.1; the first point lies at 1 / 4.1 - 0.5 = -0.256..., so
    /// three of its four neighbours are the border.
    #[test]
    fn first_point_of_a_small_axis() {
        let t = 1.0 / 4.1 - 0.5 + 1.0;
        let [_, _, _, last] = cubic(t);
        let weights = axis_weights(2, 4);
        assert!((weights[1] - last).abs() < 1e-15);
        assert!((weights[0] - (1.0 - last)).abs() < 1e-12);
    }

    #[test]
    fn kernel_meets_its_neighbours() {
        assert_eq!(cubic(0.0), [0.0, 1.0, 0.0, 0.0]);
        let [a, b, c, d] = cubic(0.5);
        assert_eq!((a, b), (d, c));
        assert_eq!((a, b), (-0.09375, 0.59375));
    }
}
