//! What `eval linear` has to say.

use crate::commands::eval::pictures::{Accuracy, accuracy_chart};
use crate::commands::eval::table::{Table, fraction};
use selfcls_core::eval::linear::{EpochResult, LinearOptimizer};
use selfcls_core::picture::LineChart;
use serde::Serialize;

#[derive(Debug, Serialize)]
pub(super) struct Summary {
    pub(super) mode: String,
    pub(super) features: &'static str,
    pub(super) optimizer: LinearOptimizer,
    pub(super) lr: f64,
    pub(super) batch: usize,
    pub(super) train_samples: usize,
    pub(super) samples: usize,
    pub(super) classes: usize,
    pub(super) best: EpochResult,
    pub(super) last: EpochResult,
    pub(super) backbone: Backbone,
    pub(super) epochs: Vec<EpochResult>,
}

/// Whether the backbone is as it was.
#[derive(Debug, Serialize)]
pub(super) struct Backbone {
    pub(super) frozen: bool,
    /// SHA-256 of its weights before and after; none of a network that cannot change, such as an exported file.
    pub(super) before: Option<String>,
    pub(super) after: Option<String>,
}

impl Summary {
    /// The accuracy over the epochs.
    pub(super) fn chart(&self) -> LineChart {
        let points = self.epochs.iter().map(|epoch| Accuracy {
            at: epoch.epoch as f64,
            top1: epoch.top1,
            top5: epoch.top5,
        });
        let title = format!("accuracy on {} images", self.samples);
        accuracy_chart(&title, "epoch", points.collect())
    }

    pub(super) fn text(&self) -> String {
        let mut table = Table::new(&["epoch", "lr", "loss", "top1", "top5"]);
        for epoch in &self.epochs {
            table.row(vec![
                epoch.epoch.to_string(),
                rate(epoch.lr),
                fraction(epoch.loss),
                fraction(epoch.top1),
                fraction(epoch.top5),
            ]);
        }
        let backbone = match (self.backbone.frozen, &self.backbone.before) {
            (false, _) => "trained too".to_string(),
            (true, None) => "cannot change".to_string(),
            (true, Some(hash)) => format!("unchanged, SHA-256 {}", &hash[..16.min(hash.len())]),
        };
        format!(
            "{}\nbest     {:.4} top-1, {:.4} top-5, epoch {}\nlast     {:.4} top-1, {:.4} top-5\ntrained  {} images, {}\ntested   {} images, {} classes\nfeatures {}\nbackbone {backbone}\n",
            table.text(),
            self.best.top1,
            self.best.top5,
            self.best.epoch,
            self.last.top1,
            self.last.top5,
            self.train_samples,
            self.mode,
            self.samples,
            self.classes,
            self.features,
        )
    }
}

/// A learning rate in four digits: `30`, `0.003`, `29.93`, `1.234e-7`.
fn rate(lr: f64) -> String {
    if lr != 0.0 && !(1e-4..1e6).contains(&lr) {
        return format!("{lr:.3e}");
    }
    let whole = lr.abs().max(1e-4).log10().floor() as i32;
    let text = format!("{lr:.*}", (3 - whole).max(0) as usize);
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_short() {
        let cases = [
            (30.0, "30"),
            (0.003, "0.003"),
            (29.934, "29.93"),
            (4.8, "4.8"),
            (0.0, "0"),
            (1.2342e-7, "1.234e-7"),
            (100.0, "100"),
            (0.000_123_4, "0.0001234"),
        ];
        for (lr, expected) in cases {
            assert_eq!(rate(lr), expected);
        }
    }
}
