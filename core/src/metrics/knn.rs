//! Weighted nearest-neighbour classification (Wu, Xiong, Yu, Lin: "Unsupervised feature learning via non-parametric
//! instance discrimination", CVPR 2018, section 3.4), the protocol of the authors' `knn_eval`.
//!
//! Each of the k reference samples most similar to a query votes for its class with weight exp(similarity / T);
//! similarity is the cosine. The search is exact, in tiles, so that memory does not grow with
//! queries x references.
//!
//! What the protocol leaves open is fixed here: among equally similar references the one that comes first is nearer;
//! among classes with equal votes the lowest id wins; a class without any vote is never among the top 5, however few
//! classes have votes.

use super::Label;
use crate::{Error, Result};
use rayon::prelude::*;
use std::cmp::Ordering;

/// Queries and references per tile; 256 x 1024 similarities take 1 MiB for each thread.
const QUERY_TILE: usize = 256;
const REFERENCE_TILE: usize = 1024;

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

/// A reference sample near a query.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Neighbour {
    /// Position of the sample among the references.
    pub index: u32,
    /// Cosine of the angle to the query.
    pub similarity: f32,
}

impl Neighbour {
    /// Nearer first; of equally near ones the one that comes first.
    fn order(&self, other: &Self) -> Ordering {
        other
            .similarity
            .total_cmp(&self.similarity)
            .then(self.index.cmp(&other.index))
    }
}

/// The `k` nearest references of every query, nearest first: one search serves every smaller k and any temperature.
#[derive(Debug, Clone)]
pub struct Neighbours {
    /// `[queries, k]`.
    data: Vec<Neighbour>,
    k: usize,
    references: usize,
}

impl Neighbours {
    /// Finds the `k` references most similar to each query, exactly, on all threads of the current rayon pool. The
    /// result does not depend on their number.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there are no queries, the widths differ, or `k` is 0 or more than the references.
    pub fn search(queries: &UnitEmbeddings, references: &UnitEmbeddings, k: usize) -> Result<Self> {
        if queries.is_empty() {
            return Err(Error::Invalid("there are no samples to classify".into()));
        }
        if queries.dim() != references.dim() {
            return Err(Error::Invalid(format!(
                "embeddings of width {} cannot be compared with embeddings of width {}",
                queries.dim(),
                references.dim()
            )));
        }
        check_k(k, references.len())?;
        if u32::try_from(references.len()).is_err() {
            return Err(Error::Invalid(format!(
                "{} reference samples are more than 4294967295",
                references.len()
            )));
        }
        let data = queries
            .data()
            .par_chunks(QUERY_TILE * queries.dim())
            .flat_map_iter(|tile| search_tile(tile, references, k))
            .collect();
        Ok(Self {
            data,
            k,
            references: references.len(),
        })
    }

    /// The neighbours of each query, nearest first, k of each.
    pub fn rows(&self) -> impl Iterator<Item = &[Neighbour]> {
        self.data.chunks_exact(self.k)
    }

    /// Classifies every query by its `k` nearest references, of classes `labels`, and compares with `targets`.
    ///
    /// # Errors
    /// [`Error::Invalid`] if `k` is 0 or more than what was searched, a length does not fit, or the temperature is not
    /// a positive number.
    pub fn score<R: Label, T: Label>(
        &self,
        labels: &[R],
        targets: &[T],
        k: usize,
        temperature: f64,
    ) -> Result<KnnScore> {
        check_k(k, self.k)?;
        if labels.len() != self.references {
            return Err(Error::Invalid(format!(
                "{} labels for {} reference samples",
                labels.len(),
                self.references
            )));
        }
        if targets.len() * self.k != self.data.len() {
            return Err(Error::Invalid(format!(
                "{} targets for {} classified samples",
                targets.len(),
                self.data.len() / self.k
            )));
        }
        if !(temperature > 0.0 && temperature.is_finite()) {
            return Err(Error::Invalid(format!(
                "the temperature {temperature} must be a positive number"
            )));
        }
        let (mut top1, mut top5) = (0usize, 0usize);
        let mut votes = Vec::new();
        for (row, target) in self.rows().zip(targets) {
            count_votes(&row[..k], labels, temperature, &mut votes);
            let place = votes.iter().position(|vote| vote.class == target.id());
            top1 += usize::from(place == Some(0));
            top5 += usize::from(place.is_some_and(|place| place < 5));
        }
        let fraction = |count: usize| count as f64 / targets.len() as f64;
        Ok(KnnScore {
            top1: fraction(top1),
            top5: fraction(top5),
            samples: targets.len(),
        })
    }
}

/// Accuracy of nearest-neighbour classification.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KnnScore {
    /// Fraction of samples whose class has the most votes.
    pub top1: f64,
    /// Fraction of samples whose class is among the five with the most votes and has at least one.
    pub top5: f64,
    /// Number of samples classified.
    pub samples: usize,
}

#[derive(Debug, Clone, Copy)]
struct Vote {
    class: u64,
    weight: f64,
}

/// Votes by class, most first; of equal votes the lowest class first.
fn count_votes<R: Label>(
    neighbours: &[Neighbour],
    labels: &[R],
    temperature: f64,
    votes: &mut Vec<Vote>,
) {
    votes.clear();
    // Relative to the nearest, so that a small temperature cannot overflow; the order stays.
    let nearest = f64::from(neighbours[0].similarity);
    for neighbour in neighbours {
        let class = labels[neighbour.index as usize].id();
        let weight = ((f64::from(neighbour.similarity) - nearest) / temperature).exp();
        match votes.iter_mut().find(|vote| vote.class == class) {
            Some(vote) => vote.weight += weight,
            None => votes.push(Vote { class, weight }),
        }
    }
    votes.sort_by(|a, b| b.weight.total_cmp(&a.weight).then(a.class.cmp(&b.class)));
}

fn check_k(k: usize, available: usize) -> Result<()> {
    if k == 0 || k > available {
        return Err(Error::Invalid(format!(
            "{k} nearest neighbours cannot be taken from {available} samples; ask for 1 to {available}"
        )));
    }
    Ok(())
}

/// The `k` nearest references of each query of a tile, concatenated.
fn search_tile(queries: &[f32], references: &UnitEmbeddings, k: usize) -> Vec<Neighbour> {
    let dim = references.dim();
    let rows = queries.len() / dim;
    let mut nearest: Vec<Nearest> = (0..rows).map(|_| Nearest::new(k)).collect();
    let mut similarities = vec![0.0; rows * REFERENCE_TILE];
    for (tile, references) in references.data().chunks(REFERENCE_TILE * dim).enumerate() {
        let columns = references.len() / dim;
        let similarities = &mut similarities[..rows * columns];
        dot_products(queries, references, dim, similarities);
        let first = tile * REFERENCE_TILE;
        for (nearest, row) in nearest.iter_mut().zip(similarities.chunks_exact(columns)) {
            for (column, &similarity) in row.iter().enumerate() {
                nearest.offer(Neighbour {
                    // Lossless: checked in `search`.
                    index: (first + column) as u32,
                    // Turns -0 into 0, which `order` would otherwise tell apart.
                    similarity: similarity + 0.0,
                });
            }
        }
    }
    nearest.into_iter().flat_map(Nearest::finish).collect()
}

/// Keeps the best `k` of what it is offered, in amortised constant time each: candidates gather until there are 2k,
/// then the better half stays and its worst becomes the bar.
struct Nearest {
    k: usize,
    candidates: Vec<Neighbour>,
    /// Similarity that a candidate must exceed. Offers come by rising index, so an equal one loses.
    bar: f32,
}

impl Nearest {
    fn new(k: usize) -> Self {
        Self {
            k,
            candidates: Vec::with_capacity(2 * k),
            bar: f32::NEG_INFINITY,
        }
    }

    fn offer(&mut self, candidate: Neighbour) {
        if candidate.similarity > self.bar {
            self.candidates.push(candidate);
            if self.candidates.len() == 2 * self.k {
                self.shrink();
            }
        }
    }

    fn shrink(&mut self) {
        let (_, worst, _) = self
            .candidates
            .select_nth_unstable_by(self.k - 1, Neighbour::order);
        self.bar = worst.similarity;
        self.candidates.truncate(self.k);
    }

    fn finish(mut self) -> Vec<Neighbour> {
        self.candidates.sort_unstable_by(Neighbour::order);
        self.candidates.truncate(self.k);
        self.candidates
    }
}

/// `out[i, j] = sum_d left[i, d] * right[j, d]`; `left` is `[m, dim]`, `right` `[n, dim]`, `out` `[m, n]`.
#[allow(unsafe_code)]
fn dot_products(left: &[f32], right: &[f32], dim: usize, out: &mut [f32]) {
    let (m, n) = (left.len() / dim, right.len() / dim);
    assert!(left.len() == m * dim && right.len() == n * dim && out.len() == m * n);
    let stride = |length: usize| length as isize;
    // SAFETY: the strides describe row-major matrices of the lengths asserted above, and `out` overlaps neither input.
    unsafe {
        gemm::gemm(
            m,
            n,
            dim,
            out.as_mut_ptr(),
            1,
            stride(n),
            false,
            left.as_ptr(),
            1,
            stride(dim),
            right.as_ptr(),
            stride(dim),
            1,
            0.0f32,
            1.0f32,
            false,
            false,
            false,
            // Threads share out the tiles; one more level would only contend.
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn unit(rows: &[[f32; 2]]) -> UnitEmbeddings {
        UnitEmbeddings::new(rows.concat(), 2).expect("finite rows")
    }

    #[test]
    fn ties_go_to_the_first_reference_and_the_lowest_class() {
        let references = unit(&[[0.0, 1.0], [1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]]);
        let queries = unit(&[[2.0, 0.0]]);
        let found = Neighbours::search(&queries, &references, 2).expect("searches");
        let indices: Vec<u32> = found.rows().flatten().map(|n| n.index).collect();
        assert_eq!(indices, [1, 2]);
        // One vote each for classes 9 and 4.
        let labels = [0u8, 9, 4, 9];
        let top1 = |target: u8, k| {
            found
                .score(&labels, &[target], k, 0.1)
                .expect("scores")
                .top1
        };
        assert_eq!((top1(4, 2), top1(9, 2)), (1.0, 0.0));
        assert_eq!((top1(4, 1), top1(9, 1)), (0.0, 1.0));
    }

    #[test]
    fn a_class_without_votes_is_not_among_the_top_five() {
        let references = unit(&[[1.0, 0.0], [0.0, 1.0]]);
        let queries = unit(&[[1.0, 0.1], [1.0, 0.1]]);
        let found = Neighbours::search(&queries, &references, 2).expect("searches");
        let score = |k| found.score(&[0u8, 1], &[0u8, 1], k, 0.1).expect("scores");
        assert_eq!((score(1).top1, score(1).top5), (0.5, 0.5));
        assert_eq!((score(2).top1, score(2).top5), (0.5, 1.0));
    }

    #[test]
    fn tiny_temperatures_do_not_overflow() {
        let references = unit(&[[1.0, 0.0], [1.0, 0.1], [1.0, 0.1]]);
        let found = Neighbours::search(&unit(&[[1.0, 0.0]]), &references, 3).expect("searches");
        let score = found.score(&[5u8, 6, 6], &[5u8], 3, 1e-6).expect("scores");
        assert_eq!(score.top1, 1.0);
    }

    #[test]
    fn impossible_requests_are_refused() {
        let references = unit(&[[1.0, 0.0], [0.0, 1.0]]);
        let search = |queries: &UnitEmbeddings, k| {
            Neighbours::search(queries, &references, k)
                .expect_err("refused")
                .to_string()
        };
        assert!(search(&references, 3).contains("3 nearest neighbours cannot be taken from 2"));
        assert!(search(&references, 0).contains("ask for 1 to 2"));
        assert!(
            search(&UnitEmbeddings::new(vec![1.0; 3], 3).expect("a row"), 1).contains("width 3")
        );
        assert!(search(&UnitEmbeddings::new(vec![], 2).expect("no row"), 1).contains("no samples"));
        let nan = UnitEmbeddings::new(vec![1.0, 0.0, f32::NAN, 0.0], 2).expect_err("refused");
        assert!(nan.to_string().contains("sample 1 contains NaN"));
        let found = Neighbours::search(&references, &references, 1).expect("searches");
        assert!(found.score(&[0u8], &[0u8, 1], 1, 0.1).is_err());
        assert!(found.score(&[0u8, 1], &[0u8], 1, 0.1).is_err());
        assert!(found.score(&[0u8, 1], &[0u8, 1], 2, 0.1).is_err());
        assert!(found.score(&[0u8, 1], &[0u8, 1], 1, 0.0).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Small integer coordinates have many exact ties and exact dot products; sizes cross the tile borders.
        #[test]
        fn the_search_equals_a_full_sort(
            references in prop::collection::vec(-2i8..=2, 3..3 * 2300),
            queries in prop::collection::vec(-2i8..=2, 3..3 * 300),
            k in 1usize..40,
        ) {
            let make = |values: &[i8]| {
                let values = &values[..values.len() / 3 * 3];
                UnitEmbeddings { data: values.iter().map(|&x| f32::from(x)).collect(), dim: 3 }
            };
            let (references, queries) = (make(&references), make(&queries));
            let k = k.min(references.len());
            let found = Neighbours::search(&queries, &references, k).expect("searches");
            for (row, query) in found.rows().zip(queries.data().chunks_exact(3)) {
                let mut all: Vec<Neighbour> = references
                    .data()
                    .chunks_exact(3)
                    .enumerate()
                    .map(|(index, reference)| Neighbour {
                        index: index as u32,
                        similarity: query.iter().zip(reference).map(|(a, b)| a * b).sum::<f32>() + 0.0,
                    })
                    .collect();
                all.sort_by(Neighbour::order);
                prop_assert_eq!(row, &all[..k]);
            }
        }
    }
}
