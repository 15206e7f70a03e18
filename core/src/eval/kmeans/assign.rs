//! The nearest centre of each row, and the means of what is assigned.

use crate::products::dot_products;
use rayon::prelude::*;

/// Rows whose products with all centres are made at a time.
const TILE: usize = 256;
/// Columns whose sums a task makes over all rows.
const COLUMNS: usize = 64;

/// Rows and their centres.
pub(super) struct Assignment {
    /// Centre of each row.
    pub(super) nearest: Vec<usize>,
    /// Squared Euclidean distance to it.
    pub(super) distances: Vec<f32>,
}

impl Assignment {
    /// Sum of the distances.
    pub(super) fn total(&self) -> f64 {
        self.distances
            .iter()
            .map(|&distance| f64::from(distance))
            .sum()
    }
}

/// Assigns each of `rows` to the nearest of `centres`, the first of equals.
pub(super) fn assign(rows: &[f32], centres: &[f32], width: usize) -> Assignment {
    let clusters = centres.len() / width;
    let norms: Vec<f32> = centres.chunks_exact(width).map(squared).collect();
    let (nearest, distances) = rows
        .par_chunks(TILE * width)
        .flat_map_iter(|tile| {
            let mut products = vec![0.0; tile.len() / width * clusters];
            dot_products(tile, centres, width, &mut products);
            let found: Vec<(usize, f32)> = tile
                .chunks_exact(width)
                .zip(products.chunks_exact(clusters))
                .map(|(row, products)| {
                    let mut best = (0, f32::INFINITY);
                    for (cluster, (&norm, &product)) in norms.iter().zip(products).enumerate() {
                        let distance = norm - 2.0 * product;
                        if distance < best.1 {
                            best = (cluster, distance);
                        }
                    }
                    let centre = &centres[best.0 * width..(best.0 + 1) * width];
                    // From the differences: norms would cancel for rows near their centre.
                    let distance = row.iter().zip(centre).map(|(a, b)| (a - b) * (a - b));
                    (best.0, distance.sum())
                })
                .collect();
            found
        })
        .unzip();
    Assignment { nearest, distances }
}

/// Squared Euclidean distances of all `rows` to each of `centres`, `[rows, centres]`.
pub(super) fn distances(rows: &[f32], centres: &[f32], width: usize) -> Vec<f32> {
    let clusters = centres.len() / width;
    let norms: Vec<f32> = centres.chunks_exact(width).map(squared).collect();
    rows.par_chunks(TILE * width)
        .flat_map_iter(|tile| {
            let mut products = vec![0.0; tile.len() / width * clusters];
            dot_products(tile, centres, width, &mut products);
            for (row, products) in tile
                .chunks_exact(width)
                .zip(products.chunks_exact_mut(clusters))
            {
                let own = squared(row);
                for (product, &norm) in products.iter_mut().zip(&norms) {
                    *product = (own + norm - 2.0 * *product).max(0.0);
                }
            }
            products
        })
        .collect()
}

/// Number and sum of the rows of each cluster, `[clusters]` and `[clusters, width]`. The sums are made column by column in
/// the order of the rows, whatever the number of threads.
pub(super) fn sums(
    rows: &[f32],
    nearest: &[usize],
    clusters: usize,
    width: usize,
) -> (Vec<u64>, Vec<f64>) {
    let mut counts = vec![0u64; clusters];
    nearest.iter().for_each(|&cluster| counts[cluster] += 1);
    let blocks: Vec<(usize, usize, Vec<f64>)> = (0..width)
        .step_by(COLUMNS)
        .collect::<Vec<_>>()
        .into_par_iter()
        .map(|first| {
            let wide = COLUMNS.min(width - first);
            let mut block = vec![0f64; clusters * wide];
            for (row, &cluster) in rows.chunks_exact(width).zip(nearest) {
                let sums = &mut block[cluster * wide..(cluster + 1) * wide];
                for (sum, &value) in sums.iter_mut().zip(&row[first..first + wide]) {
                    *sum += f64::from(value);
                }
            }
            (first, wide, block)
        })
        .collect();
    let mut sums = vec![0f64; clusters * width];
    for (first, wide, block) in blocks {
        for (cluster, part) in block.chunks_exact(wide).enumerate() {
            sums[cluster * width + first..][..wide].copy_from_slice(part);
        }
    }
    (counts, sums)
}

/// Rows scaled to length 1; a row of zeros stays.
pub(super) fn unit_rows(mut rows: Vec<f32>, width: usize) -> Vec<f32> {
    rows.par_chunks_exact_mut(width).for_each(|row| {
        let norm = row
            .iter()
            .map(|&x| f64::from(x) * f64::from(x))
            .sum::<f64>()
            .sqrt();
        if norm > 0.0 {
            row.iter_mut()
                .for_each(|x| *x = (f64::from(*x) / norm) as f32);
        }
    });
    rows
}

fn squared(row: &[f32]) -> f32 {
    row.iter().map(|x| x * x).sum()
}
