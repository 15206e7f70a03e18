//! How far apart clusters lie in a space of embeddings; needs no labels.
//!
//! For embeddings of length 1 everything follows from the sum of each cluster's members, so that no pair of samples is
//! looked at: with s_k the sum of the n_k members of cluster k, the mean cosine distance of x to cluster k is
//! 1 - x . s_k / n_k.

use super::Label;
use super::knn::UnitEmbeddings;
use crate::products::dot_products;
use crate::{Error, Result};
use rayon::prelude::*;

/// Rows whose products with all centres are made at a time.
const TILE: usize = 256;

/// Clusters as clouds of unit embeddings.
#[derive(Debug, Clone, PartialEq)]
pub struct Separation {
    clusters: Vec<u64>,
    sizes: Vec<u64>,
    /// `[clusters, dim]`.
    centres: Vec<f32>,
    dim: usize,
    silhouettes: Vec<f64>,
}

/// Two clusters that lie close to each other.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SimilarPair {
    /// Id of the one, the lower.
    pub first: u64,
    /// Id of the other.
    pub second: u64,
    /// [`Separation::similar_pairs`].
    pub similarity: f64,
}

impl Separation {
    /// Measures the clusters of `embeddings`, one id for each.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there are none, or not one id for each.
    pub fn new<P: Label>(embeddings: &UnitEmbeddings, clusters: &[P]) -> Result<Self> {
        if embeddings.is_empty() || embeddings.len() != clusters.len() {
            return Err(Error::Invalid(format!(
                "{} embeddings and {} clusters; one of each per sample is needed",
                embeddings.len(),
                clusters.len()
            )));
        }
        let mut ids: Vec<u64> = clusters.iter().map(|cluster| cluster.id()).collect();
        ids.sort_unstable();
        ids.dedup();
        // Invariant: every id was collected above.
        let place = |cluster: &P| ids.binary_search(&cluster.id()).unwrap_or_default();
        let places: Vec<usize> = clusters.iter().map(place).collect();

        let dim = embeddings.dim();
        let mut sizes = vec![0u64; ids.len()];
        let mut sums = vec![0f64; ids.len() * dim];
        for (row, &place) in embeddings.data().chunks_exact(dim).zip(&places) {
            sizes[place] += 1;
            for (sum, &value) in sums[place * dim..(place + 1) * dim].iter_mut().zip(row) {
                *sum += f64::from(value);
            }
        }
        let centres: Vec<f32> = sums
            .chunks_exact(dim)
            .zip(&sizes)
            .flat_map(|(sum, &size)| sum.iter().map(move |sum| (sum / size as f64) as f32))
            .collect();
        let silhouettes = silhouettes(embeddings, &places, &sizes, &centres);
        Ok(Self {
            clusters: ids,
            sizes,
            centres,
            dim,
            silhouettes,
        })
    }

    /// The mean silhouette of the samples with cosine distances (Rousseeuw, J. Comput. Appl. Math. 20, 1987): for each
    /// sample (b - a) / max(a, b), where a is its mean distance to the others of its cluster and b the smallest mean
    /// distance to another cluster; 0 for a sample alone in its cluster. From -1 to 1; none for a single cluster.
    pub fn silhouette(&self) -> Option<f64> {
        if self.clusters.len() < 2 {
            return None;
        }
        let sum: f64 = self.silhouettes.iter().sum();
        Some(sum / self.silhouettes.len() as f64)
    }

    /// Pairs of clusters whose similarity is at least `least`, most similar first.
    ///
    /// The similarity is that of Davies and Bouldin (IEEE TPAMI 1, 1979), (S_i + S_j) / M_ij, with S the root mean square
    /// distance of a cluster's samples to their centre and M the distance of the two centres, Euclidean. At 3 the
    /// centres are nearer to each other than two thirds of what the samples are to their own. Clusters of one sample are left
    /// out: nothing is known about their spread.
    pub fn similar_pairs(&self, least: f64) -> Vec<SimilarPair> {
        let centre = |place: usize| &self.centres[place * self.dim..(place + 1) * self.dim];
        let squared = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>();
        let spread: Vec<f64> = (0..self.clusters.len())
            .map(|place| {
                // The mean of |x - c|^2 is 1 - |c|^2 for x of length 1.
                (1.0 - squared(&mut centre(place).iter().map(|&x| f64::from(x))))
                    .max(0.0)
                    .sqrt()
            })
            .collect();
        let mut pairs: Vec<SimilarPair> = (0..self.clusters.len())
            .into_par_iter()
            .flat_map_iter(|first| {
                let rest = first + 1..self.clusters.len();
                let pair = |second: usize| {
                    let mut differences = centre(first)
                        .iter()
                        .zip(centre(second))
                        .map(|(&a, &b)| f64::from(a) - f64::from(b));
                    let distance = squared(&mut differences).sqrt();
                    let similarity = if distance > 0.0 {
                        (spread[first] + spread[second]) / distance
                    } else {
                        f64::INFINITY
                    };
                    let known = self.sizes[first] > 1 && self.sizes[second] > 1;
                    (known && similarity >= least).then_some(SimilarPair {
                        first: self.clusters[first],
                        second: self.clusters[second],
                        similarity,
                    })
                };
                rest.filter_map(pair).collect::<Vec<_>>()
            })
            .collect();
        pairs.sort_by(|a, b| {
            let ids = (a.first, a.second).cmp(&(b.first, b.second));
            b.similarity.total_cmp(&a.similarity).then(ids)
        });
        pairs
    }
}

/// Silhouette of each sample.
fn silhouettes(
    embeddings: &UnitEmbeddings,
    places: &[usize],
    sizes: &[u64],
    centres: &[f32],
) -> Vec<f64> {
    let (dim, clusters) = (embeddings.dim(), sizes.len());
    embeddings
        .data()
        .par_chunks(TILE * dim)
        .zip(places.par_chunks(TILE))
        .flat_map_iter(|(rows, places)| {
            let mut products = vec![0.0; places.len() * clusters];
            dot_products(rows, centres, dim, &mut products);
            let rows: Vec<f64> = products
                .chunks_exact(clusters)
                .zip(rows.chunks_exact(dim))
                .zip(places)
                .map(|((products, row), &own)| silhouette(products, row, own, sizes))
                .collect();
            rows
        })
        .collect()
}

fn silhouette(products: &[f32], row: &[f32], own: usize, sizes: &[u64]) -> f64 {
    let size = sizes[own] as f64;
    if sizes[own] < 2 || sizes.len() < 2 {
        return 0.0;
    }
    let distance = |place: usize| 1.0 - f64::from(products[place]);
    // The sample is among its cluster's members, at a distance that rounding need not make zero.
    let itself = 1.0
        - row
            .iter()
            .map(|&x| f64::from(x) * f64::from(x))
            .sum::<f64>();
    let within = ((distance(own) * size - itself) / (size - 1.0)).max(0.0);
    let others = (0..sizes.len()).filter(|&place| place != own);
    let between = others.map(distance).fold(f64::INFINITY, f64::min).max(0.0);
    let largest = within.max(between);
    if largest > 0.0 {
        (between - within) / largest
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three blobs on a circle, the last two close together, and a lone sample.
    fn blobs() -> (UnitEmbeddings, Vec<u32>) {
        let mut data = Vec::new();
        let mut clusters = Vec::new();
        for (cluster, angle) in [(4u32, 0.0f32), (7, 2.0), (9, 2.1)] {
            for step in 0..20 {
                let angle = angle + (step as f32 - 9.5) * 0.03;
                data.extend([angle.cos(), angle.sin(), 0.1]);
                clusters.push(cluster);
            }
        }
        data.extend([0.0, 0.0, -1.0]);
        clusters.push(11);
        (UnitEmbeddings::new(data, 3).expect("rows"), clusters)
    }

    #[test]
    fn silhouettes_equal_the_definition_over_all_pairs() {
        let (embeddings, clusters) = blobs();
        let rows: Vec<&[f32]> = embeddings.data().chunks_exact(3).collect();
        let distance = |a: usize, b: usize| -> f64 {
            let dot: f64 = rows[a]
                .iter()
                .zip(rows[b])
                .map(|(&x, &y)| f64::from(x) * f64::from(y))
                .sum();
            1.0 - dot
        };
        let mean = |i: usize, cluster: u32| {
            let of = (0..rows.len()).filter(|&j| j != i && clusters[j] == cluster);
            let distances: Vec<f64> = of.map(|j| distance(i, j)).collect();
            distances.iter().sum::<f64>() / distances.len() as f64
        };
        let expected: f64 = (0..rows.len())
            .map(|i| {
                if clusters[i] == 11 {
                    return 0.0;
                }
                let a = mean(i, clusters[i]);
                let others = [4, 7, 9, 11]
                    .into_iter()
                    .filter(|&other| other != clusters[i]);
                let b = others
                    .map(|other| mean(i, other))
                    .fold(f64::INFINITY, f64::min);
                (b - a) / a.max(b)
            })
            .sum::<f64>()
            / rows.len() as f64;
        let found = Separation::new(&embeddings, &clusters).expect("measured");
        let silhouette = found.silhouette().expect("four clusters");
        assert!(
            (silhouette - expected).abs() < 1e-5,
            "{silhouette} {expected}"
        );
    }

    #[test]
    fn only_close_clusters_are_similar() {
        let (embeddings, clusters) = blobs();
        let found = Separation::new(&embeddings, &clusters).expect("measured");
        let pairs = found.similar_pairs(2.0);
        assert_eq!(pairs.len(), 1);
        assert_eq!((pairs[0].first, pairs[0].second), (7, 9));
        // Uniform over 0.6 radians: a spread of 0.17 each, and centres 0.1 apart.
        assert!((pairs[0].similarity - 3.5).abs() < 0.05, "{:?}", pairs[0]);
        assert_eq!(found.similar_pairs(0.0).len(), 3);
    }

    /// What the threshold of near-duplicates lies between: halves of a cloud that nothing tells apart, and two clouds.
    #[test]
    fn halves_of_a_cloud_are_more_alike_than_clouds() {
        use crate::random::{Draw, Purpose, stream};
        let mut draw = stream(3, Purpose::Evaluation, [7, 7, 7]);
        let mut data = Vec::new();
        for sample in 0..600 {
            for place in 0..16 {
                let centre = if place == sample % 3 { 1.0 } else { 0.0 };
                data.push((centre + draw.uniform(-0.4, 0.4)) as f32);
            }
        }
        let embeddings = UnitEmbeddings::new(data, 16).expect("rows");
        // Clouds 0, 1 and 2; the first in two halves, 0 and 3.
        let clusters: Vec<usize> = (0..600)
            .map(|sample| {
                let half = sample % 3 == 0 && draw.chance(0.5);
                if half { 3 } else { sample % 3 }
            })
            .collect();
        let pairs = Separation::new(&embeddings, &clusters)
            .expect("measured")
            .similar_pairs(0.0);
        assert_eq!((pairs[0].first, pairs[0].second), (0, 3));
        assert!(pairs[0].similarity > 4.0, "{pairs:?}");
        assert!(pairs[1].similarity < 2.0, "{pairs:?}");
    }

    #[test]
    fn special_cases() {
        let same = UnitEmbeddings::new([1.0, 0.0].repeat(4), 2).expect("rows");
        let one = Separation::new(&same, &[3u8; 4]).expect("measured");
        assert_eq!(one.silhouette(), None);
        // All in one place: nothing separates, and the centres coincide.
        let two = Separation::new(&same, &[0u8, 0, 1, 1]).expect("measured");
        assert!(two.silhouette().expect("two clusters").abs() < 1e-6);
        assert_eq!(two.similar_pairs(4.0)[0].similarity, f64::INFINITY);
        assert!(Separation::new(&same, &[0u8]).is_err());
    }
}
