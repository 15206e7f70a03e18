//! What cannot work because of how a batch is divided: into parts, and among ranks.

use super::Problems;
use crate::config::{Config, Coupling};
use crate::data::Shares;

impl Config {
    pub(super) fn parts_are_equal(&self) -> bool {
        let t = &self.train;
        t.accumulate > 0 && t.batch_size.is_multiple_of(t.accumulate)
    }

    pub(super) fn check_ranks(&self, ranks: usize, problems: &mut Problems) {
        let (t, group) = (&self.train, self.loss.group);
        // Otherwise there are no parts to speak of, which is said already.
        if !self.parts_are_equal() || t.batch_size < 2 {
            return;
        }
        let ranks = ranks.max(1);
        let part = t.batch_size / t.accumulate;
        if part < ranks {
            problems.when(true, || {
                format!(
                    "{part} images at a time (train.batch_size = {} / train.accumulate = {}) are fewer than the {ranks} ranks; every rank needs one",
                    t.batch_size, t.accumulate
                )
            });
            return;
        }
        if let Err(problem) = Coupling::new(group, t.batch_size, t.accumulate, ranks) {
            problems.when(true, || problem);
        }
        let sharing = match t.syncbn_group_size {
            0 => ranks,
            size => size.min(ranks),
        };
        if !ranks.is_multiple_of(sharing) {
            problems.when(true, || {
                format!(
                    "train.syncbn_group_size = {sharing} does not divide the {ranks} ranks; set it to 0 for all of them, or to a divisor"
                )
            });
            return;
        }
        // The last ranks have the smallest shares.
        let shares = Shares::new(part, ranks);
        let together: usize = shares.sizes()[ranks - sharing..].iter().sum();
        problems.when(together < 2 && self.model.has_batch_norm(), || {
            let (who, more) = match ranks {
                1 => (String::new(), "a smaller train.accumulate"),
                _ => (
                    format!(" on {ranks} ranks with train.syncbn_group_size = {sharing}"),
                    "train.syncbn_group_size = 0",
                ),
            };
            format!(
                "train.accumulate = {} leaves one image in each part of train.batch_size = {}{who}; batch normalisation needs at least 2: use {more}, or a larger batch",
                t.accumulate, t.batch_size
            )
        });
    }
}
