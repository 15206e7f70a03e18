//! k-means++: centres far from each other to start from.

use super::assign::distances;
use crate::random::{Draw, Stream};

/// Draws `clusters` of `rows`, each with a probability in proportion to its squared distance from those drawn before; of
/// 2 + ln(clusters) candidates each time the one that leaves the least distance in sum.
pub(super) fn plus_plus(
    rows: &[f32],
    width: usize,
    clusters: usize,
    random: &mut Stream,
) -> Vec<f32> {
    let count = rows.len() / width;
    let row = |index: usize| &rows[index * width..(index + 1) * width];
    let trials = 2 + (clusters as f64).ln() as usize;
    let mut centres = row(random.below(count)).to_vec();
    let mut nearest = distances(rows, &centres, width);
    while centres.len() < clusters * width {
        let chosen: Vec<usize> = draw(&nearest, trials, random);
        let candidates: Vec<f32> = chosen
            .iter()
            .flat_map(|&index| row(index))
            .copied()
            .collect();
        let to_candidates = distances(rows, &candidates, width);
        let left = |trial: usize| -> f64 {
            let pairs = nearest.iter().zip(to_candidates.chunks_exact(trials));
            pairs
                .map(|(&old, new)| f64::from(old.min(new[trial])))
                .sum()
        };
        let best = (0..trials)
            .map(|trial| (left(trial), trial))
            .min_by(|a, b| a.0.total_cmp(&b.0))
            .map_or(0, |(_, trial)| trial);
        centres.extend_from_slice(row(chosen[best]));
        for (old, new) in nearest.iter_mut().zip(to_candidates.chunks_exact(trials)) {
            *old = old.min(new[best]);
        }
    }
    centres
}

/// `count` positions, each with a probability in proportion to its weight; uniform if all weights are 0 (fewer distinct
/// rows than clusters).
fn draw(weights: &[f32], count: usize, random: &mut Stream) -> Vec<usize> {
    let mut sum = 0.0;
    let cumulative: Vec<f64> = weights
        .iter()
        .map(|&weight| {
            sum += f64::from(weight);
            sum
        })
        .collect();
    (0..count)
        .map(|_| {
            if sum > 0.0 {
                let aim = random.uniform(0.0, sum);
                cumulative
                    .partition_point(|&reached| reached <= aim)
                    .min(weights.len() - 1)
            } else {
                random.below(weights.len())
            }
        })
        .collect()
}
