//! The loss over the samples of several ranks, without gathering their logits.
//!
//! The loss couples samples only through sums over the batch, one number per view and class: the
//! denominators of the softmax over the batch (and the maxima that keep it finite), and those of the
//! predictions. So ranks exchange these, `[views, classes]`, instead of logits, `[views, batch, classes]`:
//! with 4096 samples the 4096th part. It is the same function, not an approximation.
//!
//! With E = exp(z / col_temperature - max), P = softmax(z / row_temperature), S and N their sums over all
//! samples, and l the terms of this rank's samples, the gradient with respect to this rank's values is
//!
//! ```text
//! dL/dE = dl/dE + sum over ranks (dl/dS)        dL/dP = dl/dP + sum over ranks (dl/dN)
//! ```
//!
//! for S and N move with every sample and are met by all ranks. So the graph is cut at E, P, S and N: one
//! backward pass of l gives the four derivatives, one reduction the two sums, and what is then left to
//! follow is from E and P back to the logits.

use super::{Loss, Views};
use crate::Result;
use crate::collective::{Collective, Reduction};
use burn::tensor::activation::{log_softmax, softmax};
use burn::tensor::{FloatDType, Tensor};

/// A rank's part in the loss of all ranks' samples.
#[derive(Debug)]
pub struct Contribution {
    /// The terms of this rank's samples, `[1]`, without autodiff. Their sum over ranks is the loss; times
    /// the number of ranks, they are what the authors' code calls the loss of a rank.
    pub loss: Tensor<1>,
    /// A value, `[1]`, whose gradient with respect to this rank's logits is that of the whole loss. The value
    /// itself means nothing.
    pub pull: Tensor<1>,
}

impl Loss {
    /// [`head`](Self::head) where `logits`, `[views, own batch, classes]`, are those of this rank's share of
    /// `batch` samples. All ranks call it together.
    ///
    /// # Errors
    /// If there is no pair of views to compare, or a peer fails.
    pub fn head_across(
        &self,
        logits: Tensor<3>,
        globals: usize,
        batch: usize,
        peers: &dyn Collective,
    ) -> Result<Contribution> {
        let [views, _, classes] = logits.dims();
        let compared = Views::new(views, globals)?;
        let logits = logits.cast(FloatDType::F32);
        let per_class = |flat: Tensor<1>| flat.reshape([views, 1, classes]);

        let columns = logits.clone() / self.col_temperature;
        let maximum = columns.clone().without_autodiff().max_dim(1);
        let maximum = peers.all_reduce(maximum.reshape([views * classes]), Reduction::Max)?;
        let exponentials = (columns - per_class(maximum).autodiff()).exp();
        let rows = logits / self.row_temperature;
        let predictions = if self.normalise_predictions {
            softmax(rows, 2)
        } else {
            log_softmax(rows, 2)
        };

        let mut sums = vec![column_sums(&exponentials)];
        if self.normalise_predictions {
            sums.push(column_sums(&predictions));
        }
        let sums = leaf(peers.all_reduce(Tensor::cat(sums, 0), Reduction::Sum)?);
        let sum_of = |number: usize| {
            let range = number * views * classes..(number + 1) * views * classes;
            per_class(sums.clone().slice(range))
        };

        let (met_exponentials, met_predictions) = (
            leaf(exponentials.clone().without_autodiff()),
            leaf(predictions.clone().without_autodiff()),
        );
        let target = self.target(met_exponentials.clone() / sum_of(0));
        let log_pred = if self.normalise_predictions {
            self.log_pred(met_predictions.clone(), sum_of(1), batch)
        } else {
            met_predictions.clone()
        };
        let sum = (compared.met(&target) * log_pred).sum();
        let loss = sum / -((batch * compared.pairs()) as f64);

        let mut grads = loss.backward();
        let mut gradient_of = |values: &Tensor<3>| {
            // Invariant: the loss is made of both, so there are gradients.
            values.grad_remove(&mut grads).expect("a gradient")
        };
        let (of_exponentials, of_predictions) = (
            gradient_of(&met_exponentials),
            gradient_of(&met_predictions),
        );
        // Invariant: as above.
        let of_sums = sums.grad_remove(&mut grads).expect("a gradient");
        let of_sums = peers.all_reduce(of_sums, Reduction::Sum)?;
        let through_sum = |number: usize| {
            let range = number * views * classes..(number + 1) * views * classes;
            per_class(of_sums.clone().slice(range))
        };
        let mut pull = along(exponentials, of_exponentials + through_sum(0));
        let of_predictions = match self.normalise_predictions {
            true => of_predictions + through_sum(1),
            false => of_predictions,
        };
        pull = pull + along(predictions, of_predictions);
        Ok(Contribution {
            loss: loss.without_autodiff(),
            pull,
        })
    }
}

/// Where a gradient arrives.
fn leaf<const D: usize>(values: Tensor<D>) -> Tensor<D> {
    values.autodiff().require_grad()
}

/// Sums over this rank's samples, `[views, batch, classes]` to `[views * classes]`.
fn column_sums(values: &Tensor<3>) -> Tensor<1> {
    let [views, _, classes] = values.dims();
    let sums = values.clone().without_autodiff().sum_dim(1);
    sums.reshape([views * classes])
}

/// A value, `[1]`, whose gradient with respect to `values` is `gradient`.
fn along(values: Tensor<3>, gradient: Tensor<3>) -> Tensor<1> {
    (values * gradient.autodiff()).sum()
}
