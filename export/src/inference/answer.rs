//! From the network's outputs to the answer of one head.

use super::borders::Borders;
use super::outputs::{Outputs, row};
use crate::{Error, Result};
use selfcls_core::metadata::Metadata;
use std::sync::Arc;

/// The head that answers, and what its answers are made of.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    /// Its index in the trained model.
    pub(super) head: usize,
    /// Shared with every prediction.
    pub(super) names: Option<Arc<[String]>>,
    from: Basis,
    temperature: f32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Basis {
    /// The output of that name.
    Probabilities,
    /// The logits at this place.
    Logits(usize),
}

impl Answer {
    /// The answer of `head`, or of the default one; none if the file has no classes at all.
    pub(super) fn new(
        metadata: &Metadata,
        borders: &Borders,
        head: Option<usize>,
    ) -> Result<Option<Self>> {
        let wanted = head.unwrap_or(metadata.default_head);
        let has_probabilities = wanted == metadata.default_head && borders.probabilities.is_some();
        let place = borders
            .logits
            .iter()
            .position(|(index, _)| *index == wanted);
        let from = match (has_probabilities, place) {
            (true, _) => Basis::Probabilities,
            (false, Some(place)) => Basis::Logits(place),
            (false, None) if head.is_none() => return Ok(None),
            (false, None) => {
                let mut known: Vec<usize> =
                    borders.logits.iter().map(|(index, _)| *index).collect();
                if borders.probabilities.is_some() && !known.contains(&metadata.default_head) {
                    known.push(metadata.default_head);
                }
                let known: Vec<String> = known.iter().map(usize::to_string).collect();
                return Err(Error::Request(format!(
                    "the file has no head {wanted}; it has {}",
                    if known.is_empty() {
                        "none".to_owned()
                    } else {
                        known.join(", ")
                    }
                )));
            }
        };
        Ok(Some(Self {
            head: wanted,
            names: metadata
                .head(wanted)
                .and_then(|head| head.names.clone())
                .map(Arc::from),
            from,
            temperature: metadata.row_temperature,
        }))
    }

    /// The probabilities of image `index` of `outputs`.
    pub(super) fn probabilities(&self, outputs: &Outputs, index: usize) -> Vec<f32> {
        match self.from {
            Basis::Probabilities => row(&outputs.probabilities, index, outputs.batch).to_vec(),
            Basis::Logits(place) => {
                let logits = &outputs.logits[place].values;
                softmax(row(logits, index, outputs.batch), self.temperature)
            }
        }
    }
}

/// Softmax of `logits / temperature`.
fn softmax(logits: &[f32], temperature: f32) -> Vec<f32> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut values: Vec<f32> = logits
        .iter()
        .map(|logit| ((logit - largest) / temperature).exp())
        .collect();
    let sum: f32 = values.iter().sum();
    values.iter_mut().for_each(|value| *value /= sum);
    values
}

#[cfg(test)]
mod tests {
    use super::softmax;

    #[test]
    fn probabilities_sum_to_one_whatever_the_logits() {
        let even = softmax(&[1.0, 1.0], 0.1);
        assert_eq!(even, [0.5, 0.5]);
        let far = softmax(&[1e30, -1e30, 0.0], 0.1);
        assert_eq!(far, [1.0, 0.0, 0.0]);
        let close = softmax(&[0.0, 0.1], 0.1);
        assert!(
            (close[1] / close[0] - std::f32::consts::E).abs() < 1e-5,
            "{close:?}"
        );
        assert!(softmax(&[f32::NAN, 0.0], 1.0).iter().all(|p| p.is_nan()));
    }
}
