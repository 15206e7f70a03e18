//! Nearest neighbours among features that need not fit into memory.

use super::features::FeatureTable;
use crate::Result;
use crate::metrics::knn::{Neighbours, Search, UnitEmbeddings};

/// Memory that a part of the references takes, as f32.
const PART_BYTES: usize = 256 << 20;

/// The `k` references most similar to each query, exactly, part by part. `progress` is told how many references are done.
///
/// # Memory
/// With Q queries of d values, whatever the number of references: the queries (4 Q d bytes); a part of the references,
/// 256 MiB as f32 and as much again while it is read; the candidates, 8 bytes each, of which a query has room for the
/// power of two that holds 2 k; the result (8 k Q); and 1 MiB for each thread. For 50,000 queries of 2048 values and
/// k = 200 that is 410 + 537 + 205 + 80 MB, 1.2 GB, for ImageNet's 1,281,167 references as for any other number. In a file
/// of 16-bit features those take 5.2 GB of disk.
///
/// # Errors
/// As [`Search::new`], [`Search::add`] and [`FeatureTable::read`].
pub fn nearest(
    queries: &UnitEmbeddings,
    references: &FeatureTable,
    k: usize,
    progress: &mut dyn FnMut(usize),
) -> Result<Neighbours> {
    let mut search = Search::new(queries, k)?;
    let rows = (PART_BYTES / (4 * references.width().max(1))).max(1);
    for part in references.parts(rows) {
        let (first, values) = part?;
        let part = UnitEmbeddings::new(values, references.width())?;
        search.add(&part)?;
        progress(first + part.len());
    }
    search.finish()
}
