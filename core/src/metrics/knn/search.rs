//! Exact search of the nearest embeddings, in tiles, so that memory does not grow with queries x references.

use super::UnitEmbeddings;
use crate::products::dot_products;
use crate::{Error, Result};
use rayon::prelude::*;
use std::cmp::Ordering;

/// Queries and references per tile; 256 x 1024 similarities take 1 MiB for each thread.
const QUERY_TILE: usize = 256;
const REFERENCE_TILE: usize = 1024;

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
    pub(super) data: Vec<Neighbour>,
    pub(super) k: usize,
    pub(super) references: usize,
}

impl Neighbours {
    /// Finds the `k` references most similar to each query, exactly, on all threads of the current rayon pool. The
    /// result does not depend on their number.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there are no queries, the widths differ, or `k` is 0 or more than the references.
    pub fn search(queries: &UnitEmbeddings, references: &UnitEmbeddings, k: usize) -> Result<Self> {
        // Before the search, which takes a while.
        check_k(k, references.len())?;
        let mut search = Search::new(queries, k)?;
        search.add(references)?;
        search.finish()
    }

    /// As [`Self::search`] among the samples themselves, leaving out each sample as its own neighbour.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there is no sample, or `k` is 0 or not less than the samples.
    pub fn search_others(samples: &UnitEmbeddings, k: usize) -> Result<Self> {
        check_k(k, samples.len().saturating_sub(1))?;
        let mut search = Search::new(samples, k)?;
        search.skip_itself = true;
        search.add(samples)?;
        search.finish()
    }

    /// How many references were searched.
    pub fn references(&self) -> usize {
        self.references
    }

    /// The neighbours of each query, nearest first, k of each.
    pub fn rows(&self) -> impl Iterator<Item = &[Neighbour]> {
        self.data.chunks_exact(self.k)
    }
}

/// A search among references that come in parts, so that not all of them need to be in memory. Beside the queries and
/// the current part it holds 16 k bytes per query and 1 MiB per thread.
#[derive(Debug)]
pub struct Search<'q> {
    queries: &'q UnitEmbeddings,
    k: usize,
    nearest: Vec<Nearest>,
    /// References seen.
    seen: usize,
    skip_itself: bool,
}

impl<'q> Search<'q> {
    /// A search for the `k` nearest of each query.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there are no queries or `k` is 0.
    pub fn new(queries: &'q UnitEmbeddings, k: usize) -> Result<Self> {
        if queries.is_empty() {
            return Err(Error::Invalid("there are no samples to classify".into()));
        }
        check_k(k, usize::MAX)?;
        Ok(Self {
            queries,
            k,
            nearest: (0..queries.len()).map(|_| Nearest::new(k)).collect(),
            seen: 0,
            skip_itself: false,
        })
    }

    /// Adds references after those that came before.
    ///
    /// # Errors
    /// [`Error::Invalid`] if their width is not the queries', or there are more than 2^32 in all.
    pub fn add(&mut self, references: &UnitEmbeddings) -> Result<()> {
        let dim = self.queries.dim();
        if dim != references.dim() {
            return Err(Error::Invalid(format!(
                "embeddings of width {dim} cannot be compared with embeddings of width {}",
                references.dim()
            )));
        }
        let all = self.seen.saturating_add(references.len());
        if u32::try_from(all).is_err() {
            return Err(Error::Invalid(format!(
                "{all} reference samples are more than 4294967295"
            )));
        }
        let (first, skip_itself) = (self.seen, self.skip_itself);
        self.nearest
            .par_chunks_mut(QUERY_TILE)
            .zip(self.queries.data().par_chunks(QUERY_TILE * dim))
            .enumerate()
            .for_each(|(number, (nearest, tile))| {
                let skip_from = skip_itself.then_some(number * QUERY_TILE);
                search_tile(tile, references, first, nearest, skip_from);
            });
        self.seen = all;
        Ok(())
    }

    /// The neighbours found.
    ///
    /// # Errors
    /// [`Error::Invalid`] if fewer than `k` references came.
    pub fn finish(self) -> Result<Neighbours> {
        check_k(self.k, self.seen)?;
        Ok(Neighbours {
            data: self
                .nearest
                .into_par_iter()
                .flat_map_iter(Nearest::finish)
                .collect(),
            k: self.k,
            references: self.seen,
        })
    }
}

pub(super) fn check_k(k: usize, available: usize) -> Result<()> {
    if k == 0 || k > available {
        return Err(Error::Invalid(format!(
            "{k} nearest neighbours cannot be taken from {available} samples; ask for 1 to {available}"
        )));
    }
    Ok(())
}

/// Offers `references`, of which the first is number `first`, to the queries of a tile. With `skip_from`, the first query
/// is that reference, the second the next, and so on, and none is its own neighbour.
fn search_tile(
    queries: &[f32],
    references: &UnitEmbeddings,
    first: usize,
    nearest: &mut [Nearest],
    skip_from: Option<usize>,
) {
    let dim = references.dim();
    let rows = nearest.len();
    let mut similarities = vec![0.0; rows * REFERENCE_TILE];
    for (tile, references) in references.data().chunks(REFERENCE_TILE * dim).enumerate() {
        let columns = references.len() / dim;
        let similarities = &mut similarities[..rows * columns];
        dot_products(queries, references, dim, similarities);
        let first = first + tile * REFERENCE_TILE;
        let rows = similarities.chunks_exact(columns);
        for (query, (nearest, row)) in nearest.iter_mut().zip(rows).enumerate() {
            let itself = skip_from.map(|from| from + query);
            for (index, &similarity) in (first..).zip(row) {
                if Some(index) == itself {
                    continue;
                }
                nearest.offer(Neighbour {
                    // Lossless: checked in `Search::add`.
                    index: index as u32,
                    // Turns -0 into 0, which `order` would otherwise tell apart.
                    similarity: similarity + 0.0,
                });
            }
        }
    }
}

/// Keeps the best `k` of what it is offered, in amortised constant time each: candidates gather until there are 2k,
/// then the better half stays and its worst becomes the bar.
#[derive(Debug)]
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
            // Grows to 2k, where there are as many references.
            candidates: Vec::new(),
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
                UnitEmbeddings::unscaled(values.iter().map(|&x| f32::from(x)).collect(), 3)
            };
            let (references, queries) = (make(&references), make(&queries));
            let k = k.min(references.len());
            let found = Neighbours::search(&queries, &references, k).expect("searches");
            check_rows(&found, &queries, &references, |_, _| true)?;
            // In parts of any size, the last one small.
            let mut search = Search::new(&queries, k).expect("a search");
            for part in references.data().chunks(3 * (k * 37 % 700 + 1)) {
                let part = UnitEmbeddings::unscaled(part.to_vec(), 3);
                search.add(&part).expect("added");
            }
            prop_assert_eq!(search.finish().expect("found").data, found.data);
            if k < references.len() {
                let found = Neighbours::search_others(&references, k).expect("searches");
                check_rows(&found, &references, &references, |query, index| query != index)?;
            }
        }
    }

    fn check_rows(
        found: &Neighbours,
        queries: &UnitEmbeddings,
        references: &UnitEmbeddings,
        allowed: fn(usize, usize) -> bool,
    ) -> Result<(), TestCaseError> {
        prop_assert_eq!(found.rows().count(), queries.len());
        for (number, (row, query)) in found.rows().zip(queries.data().chunks_exact(3)).enumerate() {
            let mut all: Vec<Neighbour> = references
                .data()
                .chunks_exact(3)
                .enumerate()
                .filter(|(index, _)| allowed(number, *index))
                .map(|(index, reference)| Neighbour {
                    index: index as u32,
                    similarity: query.iter().zip(reference).map(|(a, b)| a * b).sum::<f32>() + 0.0,
                })
                .collect();
            all.sort_by(Neighbour::order);
            prop_assert_eq!(row, &all[..row.len()]);
        }
        Ok(())
    }
}
