//! The parity table: the largest error of every case on every backend, beside what is allowed and why.

use crate::fixture::json;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, PoisonError};

/// How far a number may be off: relative to the largest expected magnitude, or to 1 where that is larger.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Tolerance {
    /// The largest error that passes.
    pub allowed: f32,
    /// The float noise it follows from: how far the authors' own code in f32 is off the same in f64.
    pub noise: Option<f32>,
}

/// How many times the authors' own noise another order of summation may cost.
const TIMES_NOISE: f32 = 8.0;

impl Tolerance {
    /// `allowed`, beside the noise of one part of the method: the largest difference, over the cases of its fixture,
    /// between f32 and f64 of PyTorch, and for the loss of the authors' own code.
    pub(crate) fn beside(allowed: f32, part: &str) -> Self {
        let noise = json::<BTreeMap<String, f32>>("noise_of_parts")[part];
        Self {
            allowed,
            noise: Some(noise),
        }
    }

    /// Some times the authors' own noise.
    fn of_noise(noise: f64) -> Self {
        let noise = noise as f32;
        Self {
            allowed: TIMES_NOISE * noise,
            noise: Some(noise),
        }
    }
}

impl From<f32> for Tolerance {
    fn from(allowed: f32) -> Self {
        Self {
            allowed,
            noise: None,
        }
    }
}

/// The float noise of a whole model: largest differences between the authors' code in f32 and in f64, relative
/// as [`Tolerance`] is; those of gradients are relative to their norm.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct FloatNoise {
    evaluation: f64,
    embeddings: f64,
    loss: f64,
    gradients: f64,
}

impl FloatNoise {
    /// That of the model with this fixture.
    pub(crate) fn of(model: &str) -> Self {
        json::<BTreeMap<String, Self>>("noise")[model]
    }

    /// For features, embeddings and logits in evaluation.
    pub(crate) fn evaluation(self) -> Tolerance {
        Tolerance::of_noise(self.evaluation)
    }

    /// For embeddings of a training step.
    pub(crate) fn embeddings(self) -> Tolerance {
        Tolerance::of_noise(self.embeddings)
    }

    /// For logits of a training step: sums over embeddings.
    pub(crate) fn logits(self) -> Tolerance {
        Tolerance::of_noise(4.0 * self.embeddings)
    }

    /// For the loss. One number can be right by chance: it is allowed the embeddings' noise as well.
    pub(crate) fn loss(self) -> Tolerance {
        Tolerance::of_noise(self.loss.max(self.embeddings))
    }

    /// For gradients.
    pub(crate) fn gradients(self) -> Tolerance {
        Tolerance::of_noise(self.gradients)
    }
}

/// The quantities of a case that share a tolerance: a row of the table.
struct Row {
    case: String,
    tolerance: Tolerance,
    cells: BTreeMap<String, f32>,
    /// The largest error of the row and the quantity it is of.
    worst: (f32, String),
}

static ROWS: Mutex<Vec<Row>> = Mutex::new(Vec::new());

/// Takes an error into the table.
pub(crate) fn record(case: &str, backend: &str, what: &str, error: f32, tolerance: Tolerance) {
    let mut rows = ROWS.lock().unwrap_or_else(PoisonError::into_inner);
    let known = rows
        .iter()
        .position(|row| row.case == case && row.tolerance == tolerance);
    let index = known.unwrap_or_else(|| {
        rows.push(Row {
            case: case.into(),
            tolerance,
            cells: BTreeMap::new(),
            worst: (error, what.into()),
        });
        rows.len() - 1
    });
    let row = &mut rows[index];
    let cell = row.cells.entry(backend.into()).or_insert(error);
    *cell = larger(*cell, error);
    if error > row.worst.0 || error.is_nan() {
        row.worst = (error, what.into());
    }
}

/// Not `f32::max`, which would swallow a NaN.
pub(crate) fn larger(a: f32, b: f32) -> f32 {
    if b > a || b.is_nan() { b } else { a }
}

/// What every line of the table begins with, for `cargo xtask test` to repeat it at its end.
const MARK: &str = "parity | ";

/// What was recorded, a line per case and tolerance; empty if nothing was.
pub(crate) fn table() -> String {
    let mut rows = std::mem::take(&mut *ROWS.lock().unwrap_or_else(PoisonError::into_inner));
    let Some(longest) = rows.iter().map(|row| row.case.len()).max() else {
        return String::new();
    };
    rows.sort_by(|a, b| {
        let tolerances = a.tolerance.allowed.total_cmp(&b.tolerance.allowed);
        a.case.cmp(&b.case).then(tolerances)
    });
    let mut backends: Vec<String> = Vec::new();
    for name in rows.iter().flat_map(|row| row.cells.keys()) {
        if !backends.contains(name) {
            backends.push(name.clone());
        }
    }
    backends.sort();

    let mut lines = vec![
        "largest error per case and backend, of the largest expected value or of 1 if that is more;".into(),
        "noise: how far the authors' code in f32 is off itself in f64".into(),
        String::new(),
    ];
    let mut heading = format!("{:longest$}  {:>8} {:>8}", "case", "allowed", "noise");
    for name in &backends {
        let _ = write!(heading, " {name:>9}");
    }
    heading.push_str("  worst at");
    lines.push(heading);
    for row in &rows {
        let mut line = format!("{:longest$}", row.case);
        let _ = write!(line, "  {:>8}", exponent(row.tolerance.allowed));
        let noise = row.tolerance.noise.map_or_else(String::new, exponent);
        let _ = write!(line, " {noise:>8}");
        for name in &backends {
            let cell = row.cells.get(name).copied();
            let _ = write!(line, " {:>9}", cell.map_or_else(String::new, exponent));
        }
        let _ = write!(line, "  {}", row.worst.1);
        lines.push(line);
    }
    lines
        .iter()
        .map(|line| format!("{MARK}{line}").trim_end().to_owned() + "\n")
        .collect()
}

fn exponent(x: f32) -> String {
    if x == 0.0 {
        "0".into()
    } else {
        format!("{x:.1e}")
    }
}
