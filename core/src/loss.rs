//! The Self-Classifier loss (arXiv 2103.10994v3, section 3; in detail the authors' code).
//!
//! For one head with logits `z[v]` of view v, `[batch, classes]`, B samples and C classes:
//!
//! ```text
//! target[v] = normalise over classes ( softmax over the batch  ( z[v] / col_temperature ) )
//! pred[v]   = normalise over the batch ( softmax over classes ( z[v] / row_temperature ) )
//! loss      = mean over ordered pairs (i, j) of  -1/B sum_b sum_c target[i] log(B/C pred[j] + eps)
//! ```
//!
//! with i != j and not both local. The uniform prior over classes is the softmax over the batch and the
//! factor B/C. Gradients flow through both factors. Identical views, and equal logits everywhere, both
//! give exactly ln C: a loss stuck there is a collapsed model.
//!
//! Two switches lead back to the first arXiv version: without `normalise_predictions` the second factor
//! is the plain `log softmax` over classes, without `normalise_targets` the targets keep their sum over
//! the batch.
//!
//! Everything is computed in f32 whatever the logits are. Both softmaxes subtract the maximum first, so
//! logits of magnitude 100 at a temperature of 0.03 give finite losses and gradients.
//!
//! # Memory
//! A head keeps a constant number (about ten) of tensors of views x batch x classes until its gradient
//! is taken. Pairs of views are never formed: for each `pred` the targets it meets are summed first.
//!
//! # Several processes
//! Each keeps these tensors for its own samples only: [`Loss::head_across`] exchanges sums over the batch
//! instead of logits.

mod across;

use crate::config::LossConfig;
use crate::{Error, Result};
use burn::tensor::activation::{log_softmax, softmax};
use burn::tensor::{FloatDType, Tensor};

pub use across::Contribution;

/// The loss with its temperatures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Loss {
    row_temperature: f64,
    col_temperature: f64,
    eps: f64,
    normalise_targets: bool,
    normalise_predictions: bool,
}

impl LossConfig {
    /// The loss with these temperatures.
    pub fn init(&self) -> Loss {
        Loss {
            row_temperature: self.row_temperature,
            col_temperature: self.col_temperature,
            eps: self.eps,
            normalise_targets: self.normalise_targets,
            normalise_predictions: self.normalise_predictions,
        }
    }
}

impl Loss {
    /// The mean over heads, `[1]`. `logits` holds `[views, batch, classes]` per head; the first
    /// `globals` views are global, the others local.
    ///
    /// # Errors
    /// If there is no head, or no pair of views to compare.
    pub fn forward(&self, logits: &[Tensor<3>], globals: usize) -> Result<Tensor<1>> {
        let mut total: Option<Tensor<1>> = None;
        for head in logits {
            let loss = self.head(head.clone(), globals)?;
            total = Some(match total {
                Some(sum) => sum + loss,
                None => loss,
            });
        }
        total
            .map(|sum| sum / logits.len() as f64)
            .ok_or_else(|| Error::Invalid("the loss needs the logits of at least one head".into()))
    }

    /// The loss of one head, `[views, batch, classes]` to `[1]`.
    ///
    /// # Errors
    /// If there is no pair of views to compare.
    pub fn head(&self, logits: Tensor<3>, globals: usize) -> Result<Tensor<1>> {
        let [views, batch, _] = logits.dims();
        let pairs = Self::pairs(views, globals)?;
        let logits = logits.cast(FloatDType::F32);
        let target = self.target(softmax(logits.clone() / self.col_temperature, 1));
        let rows = logits / self.row_temperature;
        let log_pred = if self.normalise_predictions {
            let pred = softmax(rows, 2);
            let sums = pred.clone().sum_dim(1);
            self.log_pred(pred, sums, batch)
        } else {
            log_softmax(rows, 2)
        };
        Ok(Self::compare(&target, &log_pred, globals) / -((batch * pairs) as f64))
    }

    /// Ordered pairs of different views of which one is global.
    fn pairs(views: usize, globals: usize) -> Result<usize> {
        if views < 2 || globals == 0 || globals > views {
            return Err(Error::Invalid(format!(
                "the loss compares views: {views} views of which {globals} are global make no pair"
            )));
        }
        let locals = views - globals;
        Ok(views * (views - 1) - locals * locals.saturating_sub(1))
    }

    /// The first factor, from the softmax over the batch.
    fn target(&self, by_batch: Tensor<3>) -> Tensor<3> {
        if !self.normalise_targets {
            return by_batch;
        }
        let sums = by_batch.clone().sum_dim(2);
        self.normalise(by_batch, sums)
    }

    /// The logarithm of the second factor, from the softmax over classes and its sums over the batch.
    fn log_pred(&self, by_class: Tensor<3>, sums: Tensor<3>, batch: usize) -> Tensor<3> {
        let classes = by_class.dims()[2];
        let pred = self.normalise(by_class, sums);
        (pred * (batch as f64 / classes as f64) + self.eps).log()
    }

    /// The sum over samples, classes and pairs of views of `target[i] * log_pred[j]`, `[1]`.
    fn compare(target: &Tensor<3>, log_pred: &Tensor<3>, globals: usize) -> Tensor<1> {
        let views = target.dims()[0];
        let locals = views - globals;
        let view = |tensor: &Tensor<3>, v: usize| tensor.clone().slice(v..v + 1);
        let local_sum = |tensor: &Tensor<3>| tensor.clone().slice(globals..views).sum_dim(0);
        let mut terms: Vec<Tensor<1>> = Vec::with_capacity(globals + 1);
        let local_targets = (locals > 0).then(|| local_sum(target));
        for j in 0..globals {
            let others = (0..globals).filter(|&i| i != j).map(|i| view(target, i));
            let met = others.chain(local_targets.clone()).reduce(|a, b| a + b);
            if let Some(met) = met {
                terms.push((met * view(log_pred, j)).sum());
            }
        }
        if locals > 0 {
            let global_targets = target.clone().slice(0..globals).sum_dim(0);
            terms.push((global_targets * local_sum(log_pred)).sum());
        }
        let sum = terms.into_iter().reduce(|a, b| a + b);
        // Invariant: only view counts were admitted that make at least one pair, hence one term.
        sum.expect("at least one pair of views")
    }

    /// Divides by the sums along an axis, no less than eps (all entries are non-negative).
    fn normalise(&self, x: Tensor<3>, sums: Tensor<3>) -> Tensor<3> {
        x / sums.clamp_min(self.eps)
    }
}
