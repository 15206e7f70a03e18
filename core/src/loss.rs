//! The Self-Classifier loss (arXiv 2103.10994v3, section 3).
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

use crate::config::LossConfig;
use crate::{Error, Result};
use burn::tensor::Tensor;
use burn::tensor::activation::softmax;

/// The loss with its temperatures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Loss {
    row_temperature: f64,
    col_temperature: f64,
    eps: f64,
}

impl LossConfig {
    /// The loss with these temperatures.
    pub fn init(&self) -> Loss {
        Loss {
            row_temperature: self.row_temperature,
            col_temperature: self.col_temperature,
            eps: self.eps,
        }
    }
}

impl Loss {
    /// The mean over heads, `[1]`. `logits` holds `[views, batch, classes]` per head; the first
    /// `globals` views are global, the others local.
    ///
    /// Memory is linear in views x batch x classes: the pairs are never formed, since for each `pred`
    /// the targets it meets can be summed first.
    ///
    /// # Errors
    /// If there is no head, or no pair of views to compare.
    pub fn forward(&self, logits: &[Tensor<3>], globals: usize) -> Result<Tensor<1>> {
        let mut total: Option<Tensor<1>> = None;
        for head in logits {
            let views = head.dims()[0];
            if views < 2 || globals == 0 || globals > views {
                return Err(Error::Invalid(format!(
                    "the loss compares views: {views} views of which {globals} are global make no pair"
                )));
            }
            let loss = self.head(head.clone(), globals);
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
    fn head(&self, logits: Tensor<3>, globals: usize) -> Tensor<1> {
        let [views, batch, classes] = logits.dims();
        let locals = views - globals;
        let by_batch = softmax(logits.clone() / self.col_temperature, 1);
        let target = self.normalize(by_batch, 2);
        let by_class = softmax(logits / self.row_temperature, 2);
        let pred = self.normalize(by_class, 1);
        let log_pred = (pred * (batch as f64 / classes as f64) + self.eps).log();

        let view = |tensor: &Tensor<3>, v: usize| tensor.clone().slice(v..v + 1);
        let local_sum = |tensor: &Tensor<3>| tensor.clone().slice(globals..views).sum_dim(0);
        let mut terms: Vec<Tensor<1>> = Vec::with_capacity(globals + 1);
        let local_targets = (locals > 0).then(|| local_sum(&target));
        for j in 0..globals {
            let others = (0..globals).filter(|&i| i != j).map(|i| view(&target, i));
            let met = others.chain(local_targets.clone()).reduce(|a, b| a + b);
            if let Some(met) = met {
                terms.push((met * view(&log_pred, j)).sum());
            }
        }
        if locals > 0 {
            let global_targets = target.slice(0..globals).sum_dim(0);
            terms.push((global_targets * local_sum(&log_pred)).sum());
        }
        let pairs = views * (views - 1) - locals * locals.saturating_sub(1);
        let sum = terms.into_iter().reduce(|a, b| a + b);
        // Invariant: `forward` admits only view counts that make at least one pair, hence one term.
        sum.expect("at least one pair of views") / -((batch * pairs) as f64)
    }

    /// Divides by the sum along `dim`, no less than eps (all entries are non-negative).
    fn normalize(&self, x: Tensor<3>, dim: usize) -> Tensor<3> {
        let sum = x.clone().sum_dim(dim).clamp_min(self.eps);
        x / sum
    }
}
