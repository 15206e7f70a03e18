//! The learning-rate schedule. It is arithmetic on the host, so it runs once.

use crate::fixture::json;
use crate::runner::Cells;
use selfcls_core::config::{OptimConfig, Schedule};
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct Expected {
    base: f64,
    #[serde(rename = "final")]
    last: Option<f64>,
    epochs: usize,
    niter_per_ep: usize,
    warmup_epochs: usize,
    start_warmup: f64,
    lr: Vec<f64>,
}

/// Warm-ups, cosines and constants of the authors' own schedules, step by step.
pub(crate) fn equals_the_authors() {
    let cells = Cells::host("schedule::equals_the_authors");
    for (name, expected) in json::<BTreeMap<String, Expected>>("schedule") {
        let config = OptimConfig {
            lr: expected.base,
            start_lr: expected.start_warmup,
            final_lr: expected.last.unwrap_or_default(),
            schedule: match expected.last {
                Some(_) => Schedule::Cosine,
                None => Schedule::Constant,
            },
            warmup_epochs: expected.warmup_epochs,
            ..Default::default()
        };
        let schedule = config.schedule(expected.epochs, expected.niter_per_ep);
        assert_eq!(schedule.total(), expected.lr.len(), "{name}");
        for (step, &lr) in expected.lr.iter().enumerate() {
            let error = schedule.at(step) - lr;
            cells.close_to_zero(&format!("{name} step {step}"), error, 1e-12);
        }
    }
}

/// The first arXiv version's CIFAR training: `final + (lr - final) (1 + cos(pi epoch / epochs)) / 2`.
pub(crate) fn once_per_epoch() {
    let config = OptimConfig {
        lr: 3.2,
        final_lr: 0.032,
        schedule: Schedule::CosineEpochs,
        warmup_epochs: 0,
        ..Default::default()
    };
    let schedule = config.schedule(8, 5);
    for step in 0..40 {
        let epoch = f64::from(step / 5);
        let expected =
            0.032 + (3.2 - 0.032) * 0.5 * (1.0 + (std::f64::consts::PI * epoch / 8.0).cos());
        assert!(
            (schedule.at(step as usize) - expected).abs() < 1e-12,
            "{step}"
        );
    }
}
