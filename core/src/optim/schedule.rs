//! The learning rate of every step: linear warm-up, then half a cosine (or constant).

use crate::config::{OptimConfig, Schedule};
use std::f64::consts::PI;

/// The learning rate as a function of the step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LrSchedule {
    start: f64,
    peak: f64,
    end: f64,
    warmup: usize,
    total: usize,
    /// Steps between two values of the cosine.
    hold: usize,
}

impl OptimConfig {
    /// The schedule of `epochs` epochs of `steps_per_epoch` steps.
    pub fn schedule(&self, epochs: usize, steps_per_epoch: usize) -> LrSchedule {
        LrSchedule {
            start: self.start_lr,
            peak: self.lr,
            end: match self.schedule {
                Schedule::Cosine | Schedule::CosineEpochs => self.final_lr,
                Schedule::Constant => self.lr,
            },
            warmup: self.warmup_epochs * steps_per_epoch,
            total: epochs * steps_per_epoch,
            hold: match self.schedule {
                Schedule::CosineEpochs => steps_per_epoch.max(1),
                Schedule::Cosine | Schedule::Constant => 1,
            },
        }
    }
}

impl LrSchedule {
    /// The learning rate of `step`, counted from 0 over the whole training.
    ///
    /// Warm-up of w steps: `start + (peak - start) step / (w - 1)`, so that its last step is at the peak.
    /// Then, over the n remaining steps: `end + (peak - end) (1 + cos(pi k / n)) / 2`, k from 0; the end
    /// itself lies one step behind the last. Under `cosine-epochs` k is that of the epoch's first step.
    ///
    /// With a cosine and a peak above the end it never rises after the warm-up; nothing bounds the peak
    /// (4.8 is the authors' default).
    pub fn at(&self, step: usize) -> f64 {
        if step < self.warmup {
            let last = self.warmup - 1;
            return match step {
                // A warm-up of one step is its first point.
                0 => self.start,
                _ if step == last => self.peak,
                _ => self.start + (self.peak - self.start) * step as f64 / last as f64,
            };
        }
        let (k, n) = (
            (step - self.warmup) / self.hold * self.hold,
            self.total.saturating_sub(self.warmup).max(1),
        );
        self.end + 0.5 * (self.peak - self.end) * (1.0 + (PI * k as f64 / n as f64).cos())
    }

    /// Number of steps.
    pub fn total(&self) -> usize {
        self.total
    }
}
