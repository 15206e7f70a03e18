//! Proof that a written file does what the trained model does: the same images through both, output by output.
//!
//! A process is bound to one engine, and a file that an engine cannot bear may end it. So [`exchange`] lets
//! another process run the file, while this one has the trained model.

pub mod exchange;
mod trials;

pub use trials::{Trial, samples, trials};

use crate::inference::raw::RawOutput;
use crate::names;
use selfcls_core::eval::Trace;
use selfcls_core::metadata::{InputKind, Metadata, WeightKind};
use selfcls_core::preprocess::Preprocess;

/// How far a file may be from the trained model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tolerance {
    /// Of an output, in parts of its largest value (of 1, where that is smaller).
    pub outputs: f32,
    /// Of the preprocessing, in grey levels of 255.
    pub grey_levels: f32,
}

impl Tolerance {
    /// What is put down to rounding in a file of this kind: 1e-5 where weights are `f32`; of weights rounded to
    /// 16 bits 1e-2, about ten times what was measured. Resizing in the file may differ by a grey level, taking
    /// bytes by nothing.
    pub fn of(metadata: &Metadata) -> Self {
        Self {
            outputs: match metadata.weights {
                WeightKind::F32 => 1e-5,
                WeightKind::F16 => 1e-2,
            },
            grey_levels: match metadata.input {
                InputKind::Float | InputKind::Uint8 => 1e-3,
                // One level, and the rounding of its normalisation.
                InputKind::Any => 1.001,
            },
        }
    }
}

/// The largest difference between `outputs` of a file with `metadata` and what the trained model says of
/// the same images, in parts of each output's largest value (of 1, where that is smaller).
///
/// # Errors
/// A message naming an output that the model does not have, that has another number of values or of which the trained
/// model itself gives no finite number: nothing can be held against that, and an infinite scale makes every difference 0.
/// Without outputs there is nothing to compare, which is an error too.
pub fn difference(
    metadata: &Metadata,
    outputs: &[RawOutput],
    expected: &Trace,
) -> Result<f32, String> {
    if outputs.is_empty() {
        return Err("it gave no output to compare with the trained model's".to_owned());
    }
    let mut worst = 0.0_f32;
    for output in outputs {
        let wanted = wanted(metadata, &output.name, expected)?;
        if let Some(value) = wanted.iter().find(|x| !x.is_finite()) {
            return Err(format!(
                "the trained model itself gives {value} among `{}`, so no file can be held against it; its weights are damaged, or training has diverged",
                output.name
            ));
        }
        if wanted.len() != output.values.len() {
            return Err(format!(
                "`{}` has {} values instead of {}",
                output.name,
                output.values.len(),
                wanted.len()
            ));
        }
        let scale = wanted.iter().fold(1.0_f32, |scale, x| scale.max(x.abs()));
        let differences = output
            .values
            .iter()
            .zip(&wanted)
            .map(|(a, b)| (a - b).abs());
        worst = worse(worst, largest(differences) / scale);
    }
    Ok(worst)
}

/// The larger of two differences; infinite where one is not a number, which `f32::max` passes over.
pub fn worse(a: f32, b: f32) -> f32 {
    if a.is_nan() || b.is_nan() {
        f32::INFINITY
    } else {
        a.max(b)
    }
}

/// The largest difference between the planes that a file has prepared and those of [`Preprocess::apply`], in
/// grey levels; infinite if they are not of one size.
pub fn grey_levels(preprocess: &Preprocess, prepared: &[f32], expected: &[f32]) -> f32 {
    if prepared.len() != expected.len() {
        return f32::INFINITY;
    }
    let area = preprocess.crop * preprocess.crop;
    let differences = prepared.iter().zip(expected).enumerate();
    largest(differences.map(|(i, (a, b))| {
        let channel = i / area % 3;
        (a - b).abs() * 255.0 * preprocess.std[channel]
    }))
}

/// What the trained model says under the name of an output.
fn wanted(metadata: &Metadata, name: &str, expected: &Trace) -> Result<Vec<f32>, String> {
    let logits = |index: usize| {
        let logits = expected.logits.get(index);
        logits.ok_or_else(|| format!("`{name}` is not of the model"))
    };
    match name {
        names::FEATURES => Ok(expected.features.clone()),
        names::EMBEDDING => Ok(expected.embedding.clone()),
        names::PROBABILITIES => {
            let head = metadata.head(metadata.default_head);
            let head = head.ok_or("there is no default head")?;
            let rows = logits(head.index)?.chunks_exact(head.classes);
            let temperature = metadata.row_temperature;
            Ok(rows.flat_map(|row| softmax(row, temperature)).collect())
        }
        _ => {
            let index = name.strip_prefix("logits.").and_then(|i| i.parse().ok());
            let index = index.ok_or_else(|| format!("`{name}` is no output of ours"))?;
            logits(index).cloned()
        }
    }
}

fn softmax(row: &[f32], temperature: f32) -> Vec<f32> {
    let scaled = || row.iter().map(|&x| f64::from(x) / f64::from(temperature));
    let most = scaled().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = scaled().map(|x| (x - most).exp()).sum();
    scaled().map(|x| ((x - most).exp() / sum) as f32).collect()
}

/// The largest of some differences; infinite where one is not a number.
fn largest(differences: impl Iterator<Item = f32>) -> f32 {
    differences.fold(0.0, worse)
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfcls_core::Config;
    use selfcls_core::metadata::TrainingSummary;

    fn metadata() -> Metadata {
        let mut config = Config::default();
        config.model.heads = vec![2];
        config.loss.row_temperature = 0.5;
        Metadata::new(&config, TrainingSummary::default())
    }

    fn output(name: &str, values: &[f32]) -> RawOutput {
        RawOutput {
            name: name.to_owned(),
            shape: vec![1, values.len()],
            values: values.to_vec(),
        }
    }

    #[test]
    fn differences_are_relative_to_large_values_only() {
        let expected = Trace {
            features: vec![100.0, 0.0],
            embedding: vec![0.5, 0.0],
            logits: vec![vec![0.5, 0.0]],
        };
        let metadata = metadata();
        let difference =
            |name, values: &[f32]| super::difference(&metadata, &[output(name, values)], &expected);
        assert_eq!(difference("features", &[101.0, 0.0]), Ok(0.01));
        assert_eq!(difference("embedding", &[0.5, 0.25]), Ok(0.25));
        assert_eq!(difference("logits.0", &[f32::NAN, 0.0]), Ok(f32::INFINITY));
        let e = 1.0_f32.exp();
        let right = difference("probabilities", &[e / (e + 1.0), 1.0 / (e + 1.0)]);
        assert!(right.expect("known") < 1e-7);
        assert!(difference("logits.1", &[0.0]).is_err());
        assert!(difference("embedding", &[0.5]).is_err());
        assert!(difference("other", &[0.5]).is_err());
    }

    #[test]
    fn nothing_is_proved_by_what_is_not_finite() {
        let metadata = metadata();
        for value in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
            let expected = Trace {
                features: vec![value, 1.0],
                embedding: vec![0.5, 0.0],
                logits: vec![vec![0.5, 0.0]],
            };
            let difference = |name, values: &[f32]| {
                super::difference(&metadata, &[output(name, values)], &expected)
            };
            // The same values, and quite others: both prove nothing.
            for given in [[value, 1.0], [0.0, 2.0]] {
                let message = difference("features", &given).expect_err("refused");
                assert!(message.contains("the trained model itself"), "{message}");
            }
            // What the file gives is just far off.
            let other = difference("embedding", &[value, 0.0]);
            assert_eq!(other, Ok(f32::INFINITY));
        }
        let expected = Trace {
            features: Vec::new(),
            embedding: Vec::new(),
            logits: Vec::new(),
        };
        assert!(super::difference(&metadata, &[], &expected).is_err());
        assert_eq!(worse(f32::NAN, 1.0), f32::INFINITY);
        assert_eq!(worse(1.0, f32::NAN), f32::INFINITY);
        assert_eq!(worse(1.0, 2.0), 2.0);
    }

    #[test]
    fn grey_levels_undo_the_normalisation() {
        let preprocess = Preprocess {
            crop: 1,
            std: [0.5, 0.25, 1.0],
            ..metadata().preprocess
        };
        let level = |values: [f32; 3]| grey_levels(&preprocess, &values, &[0.0; 3]);
        assert!((level([1.0 / 127.5, 0.0, 0.0]) - 1.0).abs() < 1e-6);
        assert!((level([0.0, -2.0 / 63.75, 0.0]) - 2.0).abs() < 1e-6);
        assert_eq!(grey_levels(&preprocess, &[0.0], &[0.0; 3]), f32::INFINITY);
    }
}
