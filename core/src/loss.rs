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
//! Pairs of views are never formed: for each `pred` the targets it meets are summed first. Under autodiff
//! a head keeps a constant number (about ten) of tensors of views x batch x classes until its gradient is
//! taken. Training uses [`Loss::value_and_gradient`], which writes the gradient out and keeps fewer.
//!
//! # Groups
//! `loss.group` couples fewer samples than the batch: B above is then that number, and the loss is the mean
//! over groups ([`Loss::value_and_gradient_in_groups`]). The first arXiv version's code trained so, each
//! process on its own samples.
//!
//! # Several processes
//! Each keeps these tensors for its own samples only: [`Loss::value_and_gradient_across`] exchanges sums over
//! the batch instead of logits.

mod across;
mod gradient;
mod groups;

pub use groups::Groups;

use crate::config::LossConfig;
use crate::{Error, Result};
use burn::tensor::activation::{log_softmax, softmax};
use burn::tensor::{FloatDType, Tensor};

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
        let views = Views::new(views, globals)?;
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
        let sum = (views.met(&target) * log_pred).sum();
        Ok(sum / -((batch * views.pairs()) as f64))
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

    /// Divides by the sums along an axis, no less than eps (all entries are non-negative).
    fn normalise(&self, x: Tensor<3>, sums: Tensor<3>) -> Tensor<3> {
        x / sums.clamp_min(self.eps)
    }
}

/// Which views are compared: all ordered pairs of different ones, but not two local ones.
#[derive(Clone, Copy)]
struct Views {
    count: usize,
    globals: usize,
}

impl Views {
    fn new(count: usize, globals: usize) -> Result<Self> {
        if count < 2 || globals == 0 || globals > count {
            return Err(Error::Invalid(format!(
                "the loss compares views: {count} views of which {globals} are global make no pair"
            )));
        }
        Ok(Self { count, globals })
    }

    /// The number of pairs, at least one.
    fn pairs(self) -> usize {
        let locals = self.count - self.globals;
        self.count * (self.count - 1) - locals * locals.saturating_sub(1)
    }

    /// For each view the sum of `x` over the views that it is compared with, `[views, batch, classes]`.
    fn met(self, x: &Tensor<3>) -> Tensor<3> {
        let Self { count, globals } = self;
        let view = |v: usize| x.clone().slice(v..v + 1);
        let locals = (count > globals).then(|| x.clone().slice(globals..count).sum_dim(0));
        let mut sums: Vec<Tensor<3>> = (0..globals)
            .map(|j| {
                let others = (0..globals).filter(|&i| i != j).map(view);
                let sum = others.chain(locals.clone()).reduce(|a, b| a + b);
                // Invariant: there are at least two views, and every other one meets a global one.
                sum.expect("a view to meet")
            })
            .collect();
        if count > globals {
            let sum = x.clone().slice(0..globals).sum_dim(0);
            let [_, batch, classes] = sum.dims();
            sums.push(sum.expand([count - globals, batch, classes]));
        }
        Tensor::cat(sums, 0)
    }
}
