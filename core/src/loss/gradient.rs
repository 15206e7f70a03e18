//! The gradient of the loss with respect to the logits, written out.
//!
//! With the notation of [`loss`](crate::loss), kappa = B/C, k = -1/(B P) for P pairs, and writing i ~ j for
//! pairs that are compared (different views, not both local):
//!
//! ```text
//! a = softmax over the batch (z / tc)     S = max(sum_c a, eps)     t = a / S          targets
//! q = softmax over classes   (z / tr)     R = max(sum_b q, eps)     p = q / R          predictions
//! l = log(kappa p + eps)
//! M[j] = sum_{i ~ j} t[i]                 N[i] = sum_{j ~ i} l[j]
//! L = k sum_j <M[j], l[j]>
//!
//! X = k t N                               Y = k M (kappa p) / (kappa p + eps)
//! X <- X - t sum_c X   where S > eps      Y <- Y - p sum_b Y   where R > eps           of the normalisations
//! dL/dz = (X - S t sum_b X) / tc  +  (Y - R p sum_c Y) / tr                            of the softmaxes
//! ```
//!
//! Without normalised targets t = a and S = 1, without normalised predictions l = log q, p = q, R = 1 and
//! Y = k M; either way the line of the normalisation is left out.
//!
//! No graph is kept: a few tensors of the size of the logits are alive at a time, and each is
//! worked on in place where the backend can.
//!
//! Sums over the batch are taken over the samples of all ranks ([`across`](super::across)).

use super::across::Batch;
use super::{Loss, Views};
use crate::Result;
use crate::collective::{Collective, SingleProcess};
use burn::tensor::activation::{log_softmax, softmax};
use burn::tensor::{FloatDType, Tensor};

/// A softmax divided by its sums along the other axis.
struct Normalised {
    /// `[views, batch, classes]`.
    values: Tensor<3>,
    /// The sums divided by, and 1 where they were above eps or 0 where eps stood for them; none if nothing
    /// was divided. One of the last two axes is 1.
    sums: Option<(Tensor<3>, Tensor<3>)>,
}

impl Normalised {
    /// `softmax` divided by `sums`; none: by nothing.
    fn new(softmax: Tensor<3>, sums: Option<Tensor<3>>, eps: f64) -> Self {
        let Some(sums) = sums else {
            return Self {
                values: softmax,
                sums: None,
            };
        };
        let above = sums.clone().greater_equal_elem(eps).float();
        let sums = sums.clamp_min(eps);
        Self {
            values: softmax / sums.clone(),
            sums: Some((sums, above)),
        }
    }

    /// From `weighted`, the values times their gradient, to the softmax times its gradient, and the softmax.
    /// `shared` sums `weighted` up as the softmax was to be divided.
    fn backward(
        self,
        weighted: Tensor<3>,
        shared: impl FnOnce(Tensor<3>) -> Tensor<3>,
    ) -> (Tensor<3>, Tensor<3>) {
        match self.sums {
            Some((sums, above)) => {
                let shared = shared(weighted.clone()) * above;
                let weighted = weighted - self.values.clone() * shared;
                (weighted, self.values * sums)
            }
            None => (weighted, self.values),
        }
    }
}

const BATCH: usize = 1;
const CLASSES: usize = 2;

impl Loss {
    /// The loss of one head, `[1]`, as [`head`](Self::head) has it, and its gradient with respect to the
    /// logits, `[views, batch, classes]`; neither is part of any graph.
    ///
    /// # Errors
    /// If there is no pair of views to compare.
    pub fn value_and_gradient(
        &self,
        logits: Tensor<3>,
        globals: usize,
    ) -> Result<(Tensor<1>, Tensor<3>)> {
        let batch = logits.dims()[BATCH];
        self.value_and_gradient_across(logits, globals, batch, &SingleProcess)
    }

    /// [`value_and_gradient`](Self::value_and_gradient) where `logits`, `[views, own batch, classes]`, are those of
    /// this rank's share of `batch` samples. All ranks call it together.
    ///
    /// The value is that of the terms of this rank's samples: their sum over ranks is the loss; times the number
    /// of ranks, they are what the authors' code calls the loss of a rank. The gradient is that of the whole
    /// loss.
    ///
    /// # Errors
    /// If there is no pair of views to compare, or a peer fails.
    pub fn value_and_gradient_across(
        &self,
        logits: Tensor<3>,
        globals: usize,
        batch: usize,
        peers: &dyn Collective,
    ) -> Result<(Tensor<1>, Tensor<3>)> {
        let [views, _, classes] = logits.dims();
        let views = Views::new(views, globals)?;
        let kappa = batch as f64 / classes as f64;
        let scale = -1.0 / (batch * views.pairs()) as f64;
        let batch = Batch(peers);
        let logits = logits.without_autodiff().cast(FloatDType::F32);

        let rows = logits.clone() / self.row_temperature;
        let (by_class, log_by_class) = if self.normalise_predictions {
            (softmax(rows, CLASSES), None)
        } else {
            let log = log_softmax(rows, CLASSES);
            (log.clone().exp(), Some(log))
        };
        let columns = logits / self.col_temperature;
        let by_batch = softmax(columns.clone(), BATCH);
        let counted = self.normalise_predictions.then_some(&by_class);
        let (by_batch, sums) = batch.softmax_and_sums(columns, by_batch, counted)?;

        let of_sample = self
            .normalise_targets
            .then(|| by_batch.clone().sum_dim(CLASSES));
        let target = Normalised::new(by_batch, of_sample, self.eps);
        let met = views.met(&target.values);
        let pred = Normalised::new(by_class, sums, self.eps);
        let (log_pred, of_pred) = match log_by_class {
            Some(log) => (log, met.clone()),
            None => {
                let scaled = pred.values.clone() * kappa;
                let shifted = scaled.clone() + self.eps;
                let log = shifted.clone().log();
                (log, met.clone() * (scaled / shifted))
            }
        };
        let value = (met * log_pred.clone()).sum() * scale;
        let of_target = target.values.clone() * views.met(&log_pred);
        drop(log_pred);

        let (of_target, by_batch) =
            target.backward(of_target, |weighted| weighted.sum_dim(CLASSES));
        let mut sums = vec![of_target.clone().sum_dim(BATCH)];
        if self.normalise_predictions {
            sums.push(of_pred.clone().sum_dim(BATCH));
        }
        let mut sums = batch.sums(sums)?.into_iter();
        // Invariant (twice): as many come back as were given.
        let of_columns = sums.next().expect("the first sum");
        let of_target = of_target - by_batch * of_columns;
        let (of_pred, by_class) = pred.backward(of_pred, |_| sums.next().expect("the second sum"));
        let of_rows = of_pred.clone().sum_dim(CLASSES);
        let of_pred = of_pred - by_class * of_rows;
        let gradient =
            of_target * (scale / self.col_temperature) + of_pred * (scale / self.row_temperature);
        Ok((value, gradient))
    }
}
