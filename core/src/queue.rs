//! The queue of past embeddings, from which view 0 takes its nearest neighbour (authors' code).
//!
//! # Memory
//! The queue itself holds `length * (4 dim + 16)` bytes: 1,048,576 embeddings of 128 values are 528 MiB.
//! A look-up never forms the whole similarity matrix of batch x length, 4 GiB for a batch of 1024 and
//! that queue: it goes through the queue in blocks of [`SEARCH_VALUES`] / batch rows (at least
//! [`LEAST_ROWS`]) and keeps the best two so far. At any time it holds the block's rows, two similarity
//! matrices of the block and two masks of its shape, whatever the length: for batches up to
//! `SEARCH_VALUES / LEAST_ROWS` = 65,536 at most about `10 * SEARCH_VALUES` = 160 MiB, plus 4 dim bytes
//! per row of the block on backends that copy a slice.

use crate::checkpoint::QueueState;
use crate::{Error, Result};
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};

/// Values of a similarity matrix that the search holds at a time.
pub const SEARCH_VALUES: usize = 1 << 24;

/// Rows searched at a time, at least: below this a large batch would pay for many small products.
pub const LEAST_ROWS: usize = 256;

/// A ring of the last `length` unit embeddings with the index and label of the sample behind each.
#[derive(Debug, Clone)]
pub struct Queue {
    embeddings: Tensor<2>,
    indices: Tensor<1, Int>,
    labels: Tensor<1, Int>,
    next: usize,
    full: bool,
    /// Rows searched at a time; none: as many as the memory bound allows.
    block: Option<usize>,
}

/// The nearest neighbours of a batch.
#[derive(Debug, Clone)]
pub struct Neighbours {
    /// Their embeddings, `[batch, dim]`.
    pub embeddings: Tensor<2>,
    /// Their labels, `[batch]`; -1 where unknown.
    pub labels: Tensor<1, Int>,
}

impl Queue {
    /// An empty queue of `length` embeddings of `dim` values, on `device` without autodiff.
    pub fn new(length: usize, dim: usize, device: &Device) -> Self {
        let device = device.clone().without_autodiff();
        Self {
            embeddings: Tensor::zeros([length, dim], &device),
            indices: Tensor::zeros([length], &device),
            labels: Tensor::zeros([length], &device),
            next: 0,
            full: false,
            block: None,
        }
    }

    /// Searches `rows` rows at a time instead of choosing by itself; the result is the same.
    #[must_use]
    pub fn with_block(mut self, rows: usize) -> Self {
        self.block = Some(rows.max(1));
        self
    }

    /// Whether every row has been written: before, there are no neighbours.
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// Number of rows.
    pub fn length(&self) -> usize {
        self.embeddings.dims()[0]
    }

    /// Writes a batch `[n, dim]` with its sample indices and labels (-1: unknown) over the oldest rows.
    /// Of a batch longer than the queue the last rows stay.
    pub fn push(&mut self, embeddings: Tensor<2>, indices: Tensor<1, Int>, labels: Tensor<1, Int>) {
        let (n, length) = (embeddings.dims()[0], self.length());
        let skipped = n.saturating_sub(length);
        let mut row = (self.next + skipped) % length;
        let mut from = skipped;
        while from < n {
            let count = (n - from).min(length - row);
            let (source, target) = (from..from + count, row..row + count);
            let part = embeddings.clone().slice([source.clone()]);
            self.embeddings
                .inplace(|queue| queue.slice_assign([target.clone()], part));
            let part = indices.clone().slice([source.clone()]);
            self.indices
                .inplace(|queue| queue.slice_assign([target.clone()], part));
            let part = labels.clone().slice([source]);
            self.labels
                .inplace(|queue| queue.slice_assign([target], part));
            row = (row + count) % length;
            from += count;
        }
        self.full |= self.next + n >= length;
        self.next = (self.next + n) % length;
    }

    /// For each query `[batch, dim]` the most similar row (by dot product) that is not of the same sample:
    /// the second where the first has the query's own index, as happens early in an epoch. Of equally
    /// similar rows which one comes first is the backend's choice within a block, the earlier block's between
    /// blocks. Queries and result are without autodiff: neighbours are constants to the gradient.
    pub fn nearest(&self, queries: Tensor<2>, indices: Tensor<1, Int>) -> Neighbours {
        let (first, second) = self.top2(queries);
        let own = self.indices.clone().select(0, first.clone()).equal(indices);
        let rows = first.mask_where(own, second);
        Neighbours {
            embeddings: self.embeddings.clone().select(0, rows.clone()),
            labels: self.labels.clone().select(0, rows),
        }
    }

    /// Rows with the largest and second largest similarity, `[batch]` each; block by block.
    fn top2(&self, queries: Tensor<2>) -> (Tensor<1, Int>, Tensor<1, Int>) {
        let length = self.length();
        let automatic = (SEARCH_VALUES / queries.dims()[0].max(1)).max(LEAST_ROWS);
        let rows = self.block.unwrap_or(automatic);
        let mut best: Option<(Top, Top)> = None;
        for start in (0..length).step_by(rows) {
            let end = (start + rows).min(length);
            let block = self.embeddings.clone().slice(start..end);
            let similarity = queries.clone().matmul(block.transpose());
            let first = Top::of(similarity.clone(), start);
            let columns = Tensor::<1, Int>::arange(start as i64..end as i64, &similarity.device());
            let taken: Tensor<2, Bool> = columns
                .unsqueeze_dim::<2>(0)
                .equal(first.row.clone().unsqueeze_dim::<2>(1));
            // A one-row block has no second; -infinity loses to anything real later.
            let second = Top::of(similarity.mask_fill(taken, f32::NEG_INFINITY), start);
            best = Some(match best {
                None => (first, second),
                Some((one, two)) => {
                    let (winner, loser) = one.max_min(first);
                    // The second best is the better of the loser and both seconds.
                    let (runner_up, _) = two.max_min(second);
                    let (runner_up, _) = loser.max_min(runner_up);
                    (winner, runner_up)
                }
            });
        }
        // Invariant: a queue has at least two rows (`Config::validate`), so the loop ran.
        let (first, second) = best.expect("a queue is not empty");
        (first.row, second.row)
    }

    /// The queue as plain data.
    pub fn state(&self) -> QueueState {
        let ints = |tensor: &Tensor<1, Int>| -> Vec<i64> {
            tensor
                .to_data()
                .convert::<i64>()
                .try_into_vec::<i64>()
                .expect("i64 data")
        };
        QueueState {
            embeddings: crate::model::to_array(self.embeddings.clone()).data,
            indices: ints(&self.indices),
            labels: ints(&self.labels),
            next: self.next,
            full: self.full,
        }
    }

    /// A queue of `dim`-wide embeddings from plain data.
    ///
    /// # Errors
    /// If the lengths disagree.
    pub fn from_state(state: QueueState, dim: usize, device: &Device) -> Result<Self> {
        let length = state.indices.len();
        if state.embeddings.len() != length * dim
            || state.labels.len() != length
            || state.next >= length
        {
            return Err(Error::Checkpoint(format!(
                "the queue has {} values, {length} indices and {} labels at position {}; they must agree for embeddings of width {dim}",
                state.embeddings.len(),
                state.labels.len(),
                state.next
            )));
        }
        let device = device.clone().without_autodiff();
        Ok(Self {
            embeddings: Tensor::from_data(
                TensorData::new(state.embeddings, [length, dim]),
                &device,
            ),
            indices: Tensor::from_data(TensorData::new(state.indices, [length]), &device),
            labels: Tensor::from_data(TensorData::new(state.labels, [length]), &device),
            next: state.next,
            full: state.full,
            block: None,
        })
    }
}

/// The largest similarity of each query so far, and the row it is in.
#[derive(Clone)]
struct Top {
    similarity: Tensor<1>,
    row: Tensor<1, Int>,
}

impl Top {
    /// Of a block `[batch, rows]` that starts at queue row `start`.
    fn of(block: Tensor<2>, start: usize) -> Self {
        let batch = block.dims()[0];
        let (similarity, row) = block.max_dim_with_indices(1);
        Self {
            similarity: similarity.reshape([batch]),
            row: row.reshape([batch]).add_scalar(start as i64),
        }
    }

    /// Query by query, the larger and the smaller of two.
    fn max_min(self, other: Self) -> (Self, Self) {
        let swap = other.similarity.clone().greater(self.similarity.clone());
        let pick = |a: &Self, b: &Self| Self {
            similarity: a
                .similarity
                .clone()
                .mask_where(swap.clone(), b.similarity.clone()),
            row: a.row.clone().mask_where(swap.clone(), b.row.clone()),
        };
        (pick(&self, &other), pick(&other, &self))
    }
}
