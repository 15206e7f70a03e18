//! The loss over the samples of several ranks, without gathering their logits.
//!
//! The loss couples samples only through sums over the batch, one number per view and class. So ranks
//! exchange these, `[views, classes]`, instead of logits, `[views, batch, classes]`: with 4096 samples the
//! 4096th part. It is the same function and the same gradient, not an approximation.
//!
//! In the notation of [`gradient`](super::gradient), the sums over the batch are the denominators of the softmax
//! `a` (and the maxima that keep it finite), `sum_b q`, `sum_b X` and `sum_b Y`. Everything else belongs to
//! one sample. That is three messages per head.

use crate::Result;
use crate::collective::{Collective, Reduction};
use burn::tensor::Tensor;

/// A batch of which each of these ranks holds some samples.
pub(super) struct Batch<'a>(pub(super) &'a dyn Collective);

const OWN: usize = 1;

impl Batch<'_> {
    /// The softmax over all ranks' samples, and the sums over them of `rows`, from this rank's: `columns` is
    /// what the softmax is taken of, `own` the softmax over this rank's samples, all `[views, own, classes]`.
    ///
    /// # Errors
    /// If a peer fails.
    pub(super) fn softmax_and_sums(
        &self,
        columns: Tensor<3>,
        own: Tensor<3>,
        rows: Option<&Tensor<3>>,
    ) -> Result<(Tensor<3>, Option<Tensor<3>>)> {
        let rows = rows.map(|rows| rows.clone().sum_dim(OWN));
        if self.0.world_size() == 1 {
            return Ok((own, rows));
        }
        let largest = columns.max_dim(OWN);
        let shape = largest.dims();
        let length = shape.iter().product::<usize>();
        let of_all = self
            .0
            .all_reduce(largest.clone().reshape([length]), Reduction::Max)?;
        // A softmax is largest where its exponential is 1: there it is the inverse of its denominator.
        let sum = own.clone().max_dim(OWN).recip() * (largest - of_all.reshape(shape)).exp();
        let mut sums = vec![sum.clone()];
        sums.extend(rows);
        let mut sums = self.sums(sums)?.into_iter();
        // Invariant: as many come back as were given.
        let total = sums.next().expect("the first sum");
        Ok((own * (sum / total), sums.next()))
    }

    /// The sums over ranks of tensors `[views, 1, classes]`, in one message.
    ///
    /// # Errors
    /// If a peer fails.
    pub(super) fn sums(&self, own: Vec<Tensor<3>>) -> Result<Vec<Tensor<3>>> {
        if self.0.world_size() == 1 {
            return Ok(own);
        }
        let shapes: Vec<[usize; 3]> = own.iter().map(Tensor::dims).collect();
        let flat = own
            .into_iter()
            .zip(&shapes)
            .map(|(sums, shape)| sums.reshape([shape.iter().product::<usize>()]))
            .collect();
        let flat = self.0.all_reduce(Tensor::cat(flat, 0), Reduction::Sum)?;
        let mut start = 0;
        Ok(shapes
            .into_iter()
            .map(|shape| {
                let range = start..start + shape.iter().product::<usize>();
                start = range.end;
                flat.clone().slice(range).reshape(shape)
            })
            .collect())
    }
}
