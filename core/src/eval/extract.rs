//! One pass over a data set.

use crate::Result;
use crate::data::{EvalLoader, Source};
use crate::preprocess::Preprocess;
use std::sync::Arc;

/// Something that turns preprocessed images into logits and features.
pub trait Network {
    /// Runs `count` images, `[count, 3, crop, crop]`, normalised.
    ///
    /// # Errors
    /// If the engine fails.
    fn forward(&mut self, images: Vec<f32>, count: usize) -> Result<Forward>;
}

/// What a network says of a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Forward {
    /// Logits of each head, `[count, classes]`, row-major.
    pub logits: Vec<Vec<f32>>,
    /// Features, `[count, width]`, row-major.
    pub features: Vec<f32>,
}

/// What a network says of a whole data set, in the order of the source.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Extracted {
    /// The images' labels, where the source has them.
    pub labels: Option<Vec<usize>>,
    /// Per head and image, the class with the largest logit (the first of equals).
    pub assignments: Vec<Vec<usize>>,
    /// Per head and image, the probability of that class.
    pub confidences: Vec<Vec<f32>>,
    /// Features, `[images, width]`, row-major.
    pub features: Vec<f32>,
    /// Values per feature vector.
    pub width: usize,
}

/// Runs `network` over `source` in batches. Probabilities are `softmax(logits / temperature)`.
/// `progress` is told how many images are done.
///
/// # Errors
/// If an image cannot be read or the network fails.
pub fn extract(
    source: Arc<dyn Source>,
    preprocess: &Preprocess,
    batch_size: usize,
    workers: usize,
    temperature: f32,
    network: &mut dyn Network,
    progress: &mut dyn FnMut(usize),
) -> Result<Extracted> {
    let mut all = Extracted::default();
    let mut labels = Vec::new();
    let mut done = 0;
    for batch in EvalLoader::new(source, preprocess.clone(), batch_size, workers)? {
        let batch = batch?;
        let count = batch.count;
        let output = network.forward(batch.images, count)?;
        if all.assignments.is_empty() {
            all.assignments = vec![Vec::new(); output.logits.len()];
            all.confidences = vec![Vec::new(); output.logits.len()];
        }
        for (head, logits) in output.logits.iter().enumerate() {
            for row in logits.chunks_exact(logits.len() / count) {
                let (class, probability) = strongest(row, temperature);
                all.assignments[head].push(class);
                all.confidences[head].push(probability);
            }
        }
        all.width = output.features.len() / count;
        all.features.extend(output.features);
        labels.extend(batch.labels.into_iter().flatten());
        done += count;
        progress(done);
    }
    if labels.len() == done && done > 0 {
        all.labels = Some(labels);
    }
    Ok(all)
}

/// The class with the largest logit and its probability.
fn strongest(logits: &[f32], temperature: f32) -> (usize, f32) {
    let mut best = 0;
    for (class, &logit) in logits.iter().enumerate() {
        if logit > logits[best] {
            best = class;
        }
    }
    let sum: f32 = logits
        .iter()
        .map(|&logit| ((logit - logits[best]) / temperature).exp())
        .sum();
    (best, 1.0 / sum)
}

#[cfg(test)]
mod tests {
    use super::strongest;

    #[test]
    fn the_strongest_class_and_its_probability() {
        let (class, probability) = strongest(&[0.0, 0.2, 0.2, -1.0], 0.1);
        assert_eq!(class, 1);
        let expected = 1.0 / (2.0 + (-2.0_f32).exp() + (-12.0_f32).exp());
        assert!((probability - expected).abs() < 1e-6);
        let (class, probability) = strongest(&[1000.0, -1000.0], 0.001);
        assert_eq!((class, probability), (0, 1.0));
    }
}
