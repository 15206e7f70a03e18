//! One run from one start.

use super::assign::{assign, sums, unit_rows};
use super::start::plus_plus;
use super::{Fit, Geometry, KMeans, KMeansConfig};
use crate::random::{Draw, Purpose, Stream, stream};

/// Rows that a mini-batch run looks at for its start, as a multiple of the batch and of the clusters.
const START: usize = 3;

pub(super) fn run(config: &KMeansConfig, rows: &[f32], width: usize, restart: u64) -> Fit {
    let mut random = stream(config.seed, Purpose::Evaluation, [restart, 2, 0]);
    let run = Run {
        config,
        rows,
        width,
    };
    let count = rows.len() / width;
    let (mut centres, passes, converged) = if config.batch == 0 || config.batch >= count {
        let centres = plus_plus(rows, width, config.clusters, &mut random);
        run.lloyd(centres)
    } else {
        run.mini_batches(&mut random)
    };
    centres = run.finished(centres);
    let found = assign(rows, &centres, width);
    Fit {
        inertia: config.geometry.scale() * found.total(),
        passes,
        converged,
        inertias: Vec::new(),
        model: KMeans {
            geometry: config.geometry,
            width,
            centres,
        },
    }
}

struct Run<'a> {
    config: &'a KMeansConfig,
    rows: &'a [f32],
    width: usize,
}

impl Run<'_> {
    fn lloyd(&self, mut centres: Vec<f32>) -> (Vec<f32>, usize, bool) {
        let (width, clusters) = (self.width, self.config.clusters);
        let still = self.config.tolerance * mean_variance(self.rows, width);
        let mut before = Vec::new();
        for pass in 1..=self.config.max_passes {
            let mut found = assign(self.rows, &centres, width);
            if found.nearest == before {
                return (centres, pass, true);
            }
            self.fill_empty(&mut found.nearest, &found.distances);
            let (counts, sums) = sums(self.rows, &found.nearest, clusters, width);
            let means = sums
                .chunks_exact(width)
                .zip(&counts)
                .zip(centres.chunks_exact(width));
            let next: Vec<f32> = means
                .flat_map(|((sum, &count), old)| {
                    let mean = move |(sum, old): (&f64, &f32)| {
                        if count > 0 {
                            (sum / count as f64) as f32
                        } else {
                            *old
                        }
                    };
                    sum.iter().zip(old).map(mean)
                })
                .collect();
            let next = self.finished(next);
            let moved: f64 = next
                .iter()
                .zip(&centres)
                .map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2))
                .sum();
            (centres, before) = (next, found.nearest);
            if moved <= still {
                return (centres, pass, true);
            }
        }
        (centres, self.config.max_passes, false)
    }

    /// Moves the rows that are farthest from their centres into the clusters that have none, one each.
    fn fill_empty(&self, nearest: &mut [usize], distances: &[f32]) {
        let mut counts = vec![0usize; self.config.clusters];
        nearest.iter().for_each(|&cluster| counts[cluster] += 1);
        let empty: Vec<usize> = (0..counts.len())
            .filter(|&cluster| counts[cluster] == 0)
            .collect();
        if empty.is_empty() {
            return;
        }
        let mut far: Vec<usize> = (0..nearest.len()).collect();
        far.sort_by(|&a, &b| distances[b].total_cmp(&distances[a]).then(a.cmp(&b)));
        let mut far = far.into_iter();
        for cluster in empty {
            // There are at least as many rows as clusters, so one with company is left.
            if let Some(row) = far.find(|&row| counts[nearest[row]] > 1) {
                counts[nearest[row]] -= 1;
                counts[cluster] += 1;
                nearest[row] = cluster;
            }
        }
    }

    fn mini_batches(&self, random: &mut Stream) -> (Vec<f32>, usize, bool) {
        let (config, width) = (self.config, self.width);
        let mut order: Vec<usize> = (0..self.rows.len() / width).collect();
        random.shuffle(&mut order);
        let look = (START * config.batch.max(config.clusters)).min(order.len());
        let mut centres = plus_plus(&self.gather(&order[..look]), width, config.clusters, random);
        let mut seen = vec![0u64; config.clusters];
        let mut before = f64::INFINITY;
        for pass in 1..=config.max_passes {
            random.shuffle(&mut order);
            let mut total = 0.0;
            for batch in order.chunks(config.batch) {
                let rows = self.gather(batch);
                let found = assign(&rows, &centres, width);
                total += found.total();
                let (counts, sums) = sums(&rows, &found.nearest, config.clusters, width);
                for (cluster, &count) in counts.iter().enumerate().filter(|&(_, &count)| count > 0)
                {
                    // A centre is the mean of all rows that it ever got.
                    seen[cluster] += count;
                    let places = cluster * width..(cluster + 1) * width;
                    for (centre, sum) in centres[places.clone()].iter_mut().zip(&sums[places]) {
                        let step = (sum - count as f64 * f64::from(*centre)) / seen[cluster] as f64;
                        *centre = (f64::from(*centre) + step) as f32;
                    }
                }
            }
            if before - total <= config.tolerance * total {
                return (centres, pass, true);
            }
            before = total;
        }
        (centres, config.max_passes, false)
    }

    fn gather(&self, rows: &[usize]) -> Vec<f32> {
        let width = self.width;
        let row = |&row: &usize| &self.rows[row * width..(row + 1) * width];
        rows.iter().flat_map(row).copied().collect()
    }

    /// Centres as the geometry wants them.
    fn finished(&self, centres: Vec<f32>) -> Vec<f32> {
        match self.config.geometry {
            Geometry::Euclidean => centres,
            Geometry::Spherical => unit_rows(centres, self.width),
        }
    }
}

/// Mean over the columns of their variance.
fn mean_variance(rows: &[f32], width: usize) -> f64 {
    let count = (rows.len() / width) as f64;
    let (_, sums) = sums(rows, &vec![0; rows.len() / width], 1, width);
    let squares: f64 = rows.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    let means: f64 = sums.iter().map(|sum| (sum / count).powi(2)).sum();
    ((squares / count - means) / width as f64).max(0.0)
}
