//! The measures of clusters and neighbours, for the parity table: they are computed on the host, so they
//! run once. `core/tests/metrics.rs` looks at them in detail, with the same fixtures.

use crate::fixture::{arrays, json};
use crate::runner::Cells;
use selfcls_core::metrics::knn::{Neighbours, UnitEmbeddings};
use selfcls_core::metrics::{ClusterReport, SuperclassMap};
use serde::Deserialize;

/// Everything is computed in f64, as by scikit-learn.
const TOLERANCE: f32 = 1e-12;
/// Percentages, as the authors print them: a hundred times the rounding.
const PERCENT: f32 = 1e-10;

fn ids(numbers: &[i64]) -> Vec<u64> {
    numbers.iter().map(|&id| id as u64).collect()
}

#[derive(Deserialize)]
struct Clusters {
    name: String,
    nmi: f64,
    ami: f64,
    ari: f64,
    correct: u64,
    samples: u64,
}

/// NMI, AMI, ARI and accuracy after the Hungarian assignment, with and without super-classes.
pub(crate) fn clusters() {
    let cells = Cells::host("metrics::clusters");
    let labels = arrays("../../core/tests/fixtures/clusters");
    for case in json::<Vec<Clusters>>("../../core/tests/fixtures/clusters") {
        let name = &case.name;
        let of = |what: &str| ids(labels.int(&format!("{name}.{what}")));
        let (targets, predictions) = (of("targets"), of("predictions"));
        let superclass = format!("{name}.superclass");
        let report = if labels.has_int(&superclass) {
            let map: SuperclassMap = (0..).zip(ids(labels.int(&superclass))).collect();
            ClusterReport::with_superclasses(&targets, &predictions, &map)
        } else {
            ClusterReport::new(&targets, &predictions)
        }
        .expect("a report");
        let accuracy = case.correct as f64 / case.samples as f64;
        for (what, ours, theirs) in [
            ("NMI", report.nmi, case.nmi),
            ("AMI", report.ami, case.ami),
            ("ARI", report.ari, case.ari),
            ("ACC", report.acc, accuracy),
        ] {
            cells.close_to_zero(&format!("{name} {what}"), ours - theirs, TOLERANCE);
        }
    }
}

#[derive(Deserialize)]
struct Knn {
    k: usize,
    temperature: f64,
    top1: f64,
}

/// The weighted nearest-neighbour vote.
pub(crate) fn neighbours() {
    let cells = Cells::host("metrics::neighbours");
    let given = arrays("../../core/tests/fixtures/knn");
    let embeddings = |name: &str| {
        let values = given.float(name);
        UnitEmbeddings::new(values.data.clone(), values.shape[1]).expect("unit length")
    };
    let found = Neighbours::search(&embeddings("queries"), &embeddings("references"), 100);
    let found = found.expect("neighbours");
    let (labels, targets) = (ids(given.int("labels")), ids(given.int("targets")));
    for case in json::<Vec<Knn>>("../../core/tests/fixtures/knn") {
        let score = found.score(&labels, &targets, case.k, case.temperature);
        let error = score.expect("a score").top1 * 100.0 - case.top1;
        let what = format!("top-1, k = {}, T = {}", case.k, case.temperature);
        cells.close_to_zero(&what, error, PERCENT);
    }
}
