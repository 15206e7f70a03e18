//! Linear evaluation: how well a linear layer on a frozen backbone's features tells labelled classes apart; and
//! fine-tuning, where the backbone learns too.
//!
//! The protocol is that of the authors' `lincls_eval` at their last commit: random resized crops (area 0.08 to 1) and
//! flips in training, the centre crop in the test; cross-entropy; SGD with momentum 0.9 and no weight decay at learning
//! rate 30 in batches of 256, or (their script) LARC at 0.8 in batches of 1024; the rate falls along a cosine, epoch by
//! epoch, `lr (1 + cos(pi epoch / epochs)) / 2`; 100 epochs. Batch normalisation keeps its running statistics, even where
//! the backbone is trained. The layer begins at N(0, 0.01^2); above a trained backbone, theirs and ours, as PyTorch's
//! linear layers do. Unlike theirs the result says of which epoch the best accuracy is, and what the last one gives.
//!
//! [`Linear::run`] takes its batches from a [`Feed`]: of fresh crops ([`CropFeed`]), or of features that were made once
//! ([`TableFeed`]), which is hundreds of times faster and no longer sees a new crop in every epoch.

mod crops;
mod feed;
mod probe;
mod run;
mod score;
mod state;

pub use crops::RandomCrops;
pub use feed::{Batch, CropFeed, Each, Feed, LabelledFeatures, TableFeed, Then};
pub use probe::Probe;
pub use run::{Linear, LinearEvent, Outcome};
pub use score::Accuracy;

use crate::config::{OptimConfig, OptimKind, Schedule};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// The optimiser of the layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LinearOptimizer {
    /// Stochastic gradient descent with momentum (the default of the authors' program with `--sgd`).
    Sgd,
    /// The same with layer-wise adaptive rates (the authors' script: `--sgd --lars`).
    Larc,
}

/// How the layer is trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinearConfig {
    /// SGD or LARC. Default SGD (authors' code).
    pub optimizer: LinearOptimizer,
    /// Passes over the training images. Default 100 (authors' code).
    pub epochs: usize,
    /// Images per step; the last batch of an epoch may be smaller. Default 256 (authors' code; 1024 in their script).
    pub batch_size: usize,
    /// Learning rate of the first epoch. Default 30 (authors' code; 0.8 with LARC in their script).
    pub lr: f64,
    /// Momentum. Default 0.9 (authors' code).
    pub momentum: f64,
    /// Weight decay. Default 0 (authors' code).
    pub weight_decay: f64,
    /// Of initial weights, order and crops. Default 0.
    pub seed: u64,
}

impl Default for LinearConfig {
    fn default() -> Self {
        Self::of(LinearOptimizer::Sgd)
    }
}

impl LinearConfig {
    /// The authors' settings for an optimiser.
    pub fn of(optimizer: LinearOptimizer) -> Self {
        let (batch_size, lr) = match optimizer {
            LinearOptimizer::Sgd => (256, 30.0),
            LinearOptimizer::Larc => (1024, 0.8),
        };
        Self {
            optimizer,
            epochs: 100,
            batch_size,
            lr,
            momentum: 0.9,
            weight_decay: 0.0,
            seed: 0,
        }
    }

    /// Checks every value.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the first that is impossible.
    pub fn validate(&self) -> Result<()> {
        let problem = if self.epochs == 0 || self.batch_size == 0 {
            "epochs and batch size must be at least 1".to_string()
        } else if !(self.lr >= 0.0 && self.lr.is_finite()) {
            format!("the learning rate {} must be a number from 0 up", self.lr)
        } else if !(0.0..1.0).contains(&self.momentum) {
            format!("the momentum {} must be from 0 to below 1", self.momentum)
        } else if !(self.weight_decay >= 0.0 && self.weight_decay.is_finite()) {
            format!(
                "the weight decay {} must be a number from 0 up",
                self.weight_decay
            )
        } else {
            return Ok(());
        };
        Err(Error::Invalid(problem))
    }

    /// The optimiser's part of it: the rules are those of training.
    fn optim(&self) -> OptimConfig {
        OptimConfig {
            kind: match self.optimizer {
                LinearOptimizer::Sgd => OptimKind::Sgd,
                LinearOptimizer::Larc => OptimKind::Larc,
            },
            lr: self.lr,
            final_lr: 0.0,
            schedule: Schedule::CosineEpochs,
            warmup_epochs: 0,
            momentum: self.momentum,
            weight_decay: self.weight_decay,
            ..OptimConfig::default()
        }
    }
}

/// What an epoch came to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochResult {
    /// The epoch, from 1.
    pub epoch: usize,
    /// Its learning rate.
    pub lr: f64,
    /// Mean cross-entropy of the training images in it, in nats.
    pub loss: f64,
    /// Fraction of test images whose class has the largest logit.
    pub top1: f64,
    /// Fraction of test images whose class is among the five largest logits.
    pub top5: f64,
}

/// The epoch with the largest top-1; of equals the first.
pub fn best(epochs: &[EpochResult]) -> Option<&EpochResult> {
    epochs.iter().reduce(
        |best, epoch| {
            if epoch.top1 > best.top1 { epoch } else { best }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_settings_are_named() {
        type Edit = fn(&mut LinearConfig);
        let cases: [(&str, Edit); 5] = [
            ("at least 1", |c| c.epochs = 0),
            ("at least 1", |c| c.batch_size = 0),
            ("rate NaN", |c| c.lr = f64::NAN),
            ("momentum 1", |c| c.momentum = 1.0),
            ("decay -1", |c| c.weight_decay = -1.0),
        ];
        for (expected, edit) in cases {
            let mut config = LinearConfig::default();
            config.validate().expect("the default");
            edit(&mut config);
            let error = config.validate().expect_err("refused").to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn the_rate_falls_epoch_by_epoch() {
        let config = LinearConfig::default();
        let schedule = config.optim().schedule(config.epochs, 1);
        for epoch in [0usize, 1, 50, 99] {
            let expected = 15.0 * (1.0 + (std::f64::consts::PI * epoch as f64 / 100.0).cos());
            assert!((schedule.at(epoch) - expected).abs() < 1e-12, "{epoch}");
        }
    }

    #[test]
    fn the_first_of_the_best_epochs_counts() {
        let epochs: Vec<EpochResult> = [0.2, 0.5, 0.5, 0.1]
            .into_iter()
            .enumerate()
            .map(|(number, top1)| EpochResult {
                epoch: number + 1,
                lr: 0.1,
                loss: 1.0,
                top1,
                top5: 1.0,
            })
            .collect();
        assert_eq!(best(&epochs).map(|best| best.epoch), Some(2));
        assert!(best(&[]).is_none());
    }
}
