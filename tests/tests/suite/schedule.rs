//! The learning-rate schedule. It is arithmetic on the host, so it runs once.

use crate::fixture::json;
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

#[test]
fn equals_the_authors() {
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
            let actual = schedule.at(step);
            assert!(
                (actual - lr).abs() <= 1e-12,
                "{name} step {step}: {actual}, not {lr}"
            );
        }
    }
}
