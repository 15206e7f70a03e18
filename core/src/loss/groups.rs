//! The mean of the loss over groups of samples that are compared with each other alone (`loss.group`).

use super::Loss;
use crate::collective::Collective;
use crate::{Error, Result};
use burn::tensor::Tensor;
use std::sync::Arc;

const BATCH: usize = 1;

/// The groups of a batch of which this rank holds some samples.
#[derive(Debug, Clone)]
pub struct Groups {
    /// How many of this rank's samples are in a group: the first so many, the next, and so on.
    pub own: usize,
    /// Samples of a group, over all ranks that share it.
    pub samples: usize,
    /// Groups of the batch, over all ranks.
    pub count: usize,
    /// The ranks that share this rank's groups.
    pub peers: Arc<dyn Collective>,
}

impl Loss {
    /// The mean over groups of [`value_and_gradient_across`](Self::value_and_gradient_across) for `logits`,
    /// `[views, own batch, classes]`. All ranks call it together, and the sum of their values is the mean.
    ///
    /// # Errors
    /// As there; if this rank's samples are not whole parts of groups.
    pub fn value_and_gradient_in_groups(
        &self,
        logits: Tensor<3>,
        globals: usize,
        groups: &Groups,
    ) -> Result<(Tensor<1>, Tensor<3>)> {
        let across = |logits| {
            self.value_and_gradient_across(logits, globals, groups.samples, &*groups.peers)
        };
        let batch = logits.dims()[BATCH];
        if batch == groups.own && groups.count == 1 {
            return across(logits);
        }
        if groups.own == 0 || !batch.is_multiple_of(groups.own) {
            return Err(Error::Invalid(format!(
                "{batch} samples are not whole groups of {} (loss.group)",
                groups.own
            )));
        }
        let (mut total, mut gradients) = (None, Vec::new());
        for group in logits.without_autodiff().split(groups.own, BATCH) {
            let (value, gradient) = across(group)?;
            gradients.push(gradient);
            total = Some(match total {
                Some(sum) => sum + value,
                None => value,
            });
        }
        let total = total.ok_or_else(|| Error::Invalid("the loss needs samples".into()))?;
        let count = groups.count as f64;
        Ok((total / count, Tensor::cat(gradients, BATCH) / count))
    }
}
