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

use super::{Loss, Views};
use crate::Result;
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
    fn new(softmax: Tensor<3>, axis: usize, eps: f64, normalise: bool) -> Self {
        if !normalise {
            return Self {
                values: softmax,
                sums: None,
            };
        }
        let sums = softmax.clone().sum_dim(axis);
        let above = sums.clone().greater_equal_elem(eps).float();
        let sums = sums.clamp_min(eps);
        Self {
            values: softmax / sums.clone(),
            sums: Some((sums, above)),
        }
    }

    /// From `weighted`, the values times their gradient, to the gradient of what the softmax was taken of.
    /// The softmax runs along `along`, the normalisation along `across`.
    fn backward(self, mut weighted: Tensor<3>, along: usize, across: usize) -> Tensor<3> {
        let mut softmax = self.values;
        if let Some((sums, above)) = self.sums {
            let shared = weighted.clone().sum_dim(across) * above;
            weighted = weighted - softmax.clone() * shared;
            softmax = softmax * sums;
        }
        let sum = weighted.clone().sum_dim(along);
        weighted - softmax * sum
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
        let [views, batch, classes] = logits.dims();
        let views = Views::new(views, globals)?;
        let kappa = batch as f64 / classes as f64;
        let scale = -1.0 / (batch * views.pairs()) as f64;
        let logits = logits.without_autodiff().cast(FloatDType::F32);

        let rows = logits.clone() / self.row_temperature;
        let by_batch = softmax(logits / self.col_temperature, BATCH);
        let target = Normalised::new(by_batch, CLASSES, self.eps, self.normalise_targets);
        let met = views.met(&target.values);

        let (pred, log_pred, of_pred) = if self.normalise_predictions {
            let pred = Normalised::new(softmax(rows, CLASSES), BATCH, self.eps, true);
            let scaled = pred.values.clone() * kappa;
            let shifted = scaled.clone() + self.eps;
            let log_pred = shifted.clone().log();
            (pred, log_pred, met.clone() * (scaled / shifted))
        } else {
            let log_pred = log_softmax(rows, CLASSES);
            let pred = Normalised::new(log_pred.clone().exp(), BATCH, self.eps, false);
            (pred, log_pred, met.clone())
        };
        let value = (met * log_pred.clone()).sum() * scale;
        let of_pred = pred.backward(of_pred, CLASSES, BATCH);

        let of_target = target.values.clone() * views.met(&log_pred);
        drop(log_pred);
        let of_target = target.backward(of_target, BATCH, CLASSES);
        let gradient =
            of_target * (scale / self.col_temperature) + of_pred * (scale / self.row_temperature);
        Ok((value, gradient))
    }
}
