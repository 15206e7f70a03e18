//! The contingency table: how many samples of each class fell into each cluster.

use crate::{Error, Result};

/// An integer that names a class or a cluster.
pub trait Label: Copy {
    /// The id; equal ids are the same class or cluster.
    fn id(self) -> u64;
}

macro_rules! label {
    ($($integer:ty),+) => {
        $(impl Label for $integer {
            fn id(self) -> u64 {
                // Lossless: every listed type has at most 64 bits.
                self as u64
            }
        })+
    };
}

label!(u8, u16, u32, u64, usize);

/// The largest number of samples; keeps every intermediate of the exact integer arithmetic in range
/// (squares of it in `i64`, fourth powers in `i128`).
pub const MAX_SAMPLES: usize = 1 << 30;

/// One occupied cell of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell {
    /// Position in [`Contingency::clusters`].
    pub cluster: usize,
    /// Position in [`Contingency::classes`].
    pub class: usize,
    /// Samples of this class in this cluster; at least 1.
    pub count: u64,
}

/// A sparse table of classes against clusters; only ids that occur have a row or column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contingency {
    classes: Vec<u64>,
    clusters: Vec<u64>,
    class_sizes: Vec<u64>,
    cluster_sizes: Vec<u64>,
    cells: Vec<Cell>,
    /// `cells[starts[k]..starts[k + 1]]` belong to cluster `k`.
    starts: Vec<usize>,
    samples: u64,
}

impl Contingency {
    /// Counts the pairs `(targets[i], predictions[i])`. Takes O(n log n) time for n samples.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the lengths differ, if there is no sample, or if there are more than
    /// [`MAX_SAMPLES`].
    pub fn new<T: Label, P: Label>(targets: &[T], predictions: &[P]) -> Result<Self> {
        if targets.len() != predictions.len() {
            return Err(Error::Invalid(format!(
                "{} targets and {} predictions cannot be compared; there must be one of each per sample",
                targets.len(),
                predictions.len()
            )));
        }
        if targets.is_empty() {
            return Err(Error::Invalid(
                "there are no samples to evaluate: targets and predictions are empty".into(),
            ));
        }
        if targets.len() > MAX_SAMPLES {
            return Err(Error::Invalid(format!(
                "{} samples are more than the {MAX_SAMPLES} that can be counted exactly",
                targets.len()
            )));
        }
        let classes = distinct(targets);
        let clusters = distinct(predictions);
        let mut pairs: Vec<(usize, usize)> = targets
            .iter()
            .zip(predictions)
            .map(|(&t, &p)| (position(&clusters, p.id()), position(&classes, t.id())))
            .collect();
        pairs.sort_unstable();

        let mut class_sizes = vec![0; classes.len()];
        let mut cluster_sizes = vec![0; clusters.len()];
        let mut cells: Vec<Cell> = Vec::new();
        let mut starts = vec![0; clusters.len() + 1];
        for (cluster, class) in pairs {
            class_sizes[class] += 1;
            cluster_sizes[cluster] += 1;
            match cells.last_mut() {
                Some(last) if last.cluster == cluster && last.class == class => last.count += 1,
                _ => cells.push(Cell {
                    cluster,
                    class,
                    count: 1,
                }),
            }
            starts[cluster + 1] = cells.len();
        }
        Ok(Self {
            classes,
            clusters,
            class_sizes,
            cluster_sizes,
            cells,
            starts,
            samples: targets.len() as u64,
        })
    }

    /// Number of samples.
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// Ids of the classes that occur, rising.
    pub fn classes(&self) -> &[u64] {
        &self.classes
    }

    /// Ids of the clusters that occur (the unique assignments), rising.
    pub fn clusters(&self) -> &[u64] {
        &self.clusters
    }

    /// Samples of each class, in the order of [`Self::classes`].
    pub fn class_sizes(&self) -> &[u64] {
        &self.class_sizes
    }

    /// Samples in each cluster, in the order of [`Self::clusters`].
    pub fn cluster_sizes(&self) -> &[u64] {
        &self.cluster_sizes
    }

    /// The occupied cells, sorted by cluster, then class.
    pub fn cells(&self) -> &[Cell] {
        &self.cells
    }

    /// The occupied cells of the cluster at position `cluster`, sorted by class.
    pub fn cluster_cells(&self, cluster: usize) -> &[Cell] {
        &self.cells[self.starts[cluster]..self.starts[cluster + 1]]
    }
}

fn distinct<L: Label>(labels: &[L]) -> Vec<u64> {
    let mut ids: Vec<u64> = labels.iter().map(|label| label.id()).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

fn position(ids: &[u64], id: u64) -> usize {
    // Invariant: `ids` was made from the labels that are looked up.
    ids.binary_search(&id).expect("the id occurs")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_with_gaps_and_large_ids() {
        let table = Contingency::new(&[7u64, 7, u64::MAX, 0], &[3u8, 200, 3, 3]).expect("counts");
        assert_eq!(table.classes(), [0, 7, u64::MAX]);
        assert_eq!(table.clusters(), [3, 200]);
        assert_eq!(table.class_sizes(), [1, 2, 1]);
        assert_eq!(table.cluster_sizes(), [3, 1]);
        let of = |cluster| -> Vec<(usize, u64)> {
            table
                .cluster_cells(cluster)
                .iter()
                .map(|cell| (cell.class, cell.count))
                .collect()
        };
        assert_eq!(of(0), [(0, 1), (1, 1), (2, 1)]);
        assert_eq!(of(1), [(1, 1)]);
    }

    #[test]
    fn impossible_input_is_refused_with_the_numbers() {
        let error = Contingency::new(&[1u32, 2], &[1u32]).expect_err("lengths differ");
        assert!(error.to_string().contains("2 targets and 1 predictions"));
        let error = Contingency::new::<u32, u32>(&[], &[]).expect_err("empty");
        assert!(error.to_string().contains("no samples"));
    }
}
