//! An exported file in core's evaluation: what gets measured is the file that gets deployed.

use super::{Classifier, Outputs};
use crate::Result;
use selfcls_core::eval::{Forward, Network};

/// The heads of the file in order, and the embedding as features; the backbone's where it has no embedding. For this
/// project's own evaluation; other programs call [`Classifier::run`], for this interface may change in any version.
impl Network for Classifier {
    fn forward(&mut self, images: Vec<f32>, _count: usize) -> selfcls_core::Result<Forward> {
        let outputs = evaluated(self, &images)?;
        Ok(Forward {
            logits: self.logits(&outputs),
            features: if outputs.embedding.is_empty() {
                outputs.features
            } else {
                outputs.embedding
            },
        })
    }
}

/// A file in evaluation, with the backbone's features instead of the embedding.
#[derive(Debug, Clone)]
pub struct BackboneOf(Classifier);

impl BackboneOf {
    /// None if the file does not give the backbone's features.
    pub fn new(classifier: Classifier) -> Option<Self> {
        classifier.gives_features().then_some(Self(classifier))
    }
}

impl Network for BackboneOf {
    fn forward(&mut self, images: Vec<f32>, _count: usize) -> selfcls_core::Result<Forward> {
        let outputs = evaluated(&self.0, &images)?;
        Ok(Forward {
            logits: self.0.logits(&outputs),
            features: outputs.features,
        })
    }
}

fn evaluated(classifier: &Classifier, images: &[f32]) -> selfcls_core::Result<Outputs> {
    // The evaluation looks whether they are finite, and names the image.
    classifier
        .run_unchecked(images)
        .map_err(|error| selfcls_core::Error::Network(Box::new(error)))
}

impl Classifier {
    /// Index and number of classes of each head, in the order of [`Forward::logits`].
    pub fn heads(&self) -> Vec<(usize, usize)> {
        let borders = self.borders();
        let mut heads: Vec<(usize, usize)> = borders
            .logits
            .iter()
            .map(|(head, output)| (*head, output.width))
            .collect();
        if let (true, Some(output)) = (heads.is_empty(), &borders.probabilities) {
            heads.push((self.metadata().default_head, output.width));
        }
        heads
    }

    /// The logits of [`Self::heads`]. A file that gives only probabilities has logits too, up to a constant
    /// that makes no difference.
    fn logits(&self, outputs: &Outputs) -> Vec<Vec<f32>> {
        if outputs.logits.is_empty() && !outputs.probabilities.is_empty() {
            let temperature = self.metadata().row_temperature;
            let logit = |p: f32| temperature * positive(p).ln();
            return vec![outputs.probabilities.iter().copied().map(logit).collect()];
        }
        let heads = outputs.logits.iter();
        heads.map(|head| head.values.clone()).collect()
    }

    /// The largest absolute difference between this file's logits and embeddings and those of
    /// `network`, whose features must be embeddings, on `images` (`[batch, 3, side, side]`,
    /// normalised). Infinite if the two are not even of one shape.
    ///
    /// # Errors
    /// If either engine fails.
    pub fn difference(&self, network: &mut dyn Network, images: &[f32]) -> Result<f32> {
        let ours = self.run(images)?;
        let theirs = network.forward(images.to_vec(), ours.batch)?;
        let mut worst = match ours.embedding.as_slice() {
            // The file does not give it.
            [] => 0.0,
            embedding => distance(embedding, &theirs.features),
        };
        for head in &ours.logits {
            let other = theirs.logits.get(head.head).map_or(&[][..], Vec::as_slice);
            worst = worst.max(distance(&head.values, other));
        }
        Ok(worst)
    }
}

/// A probability of 0 has no logarithm; this one is smaller than any that f32 tells from it. What is not a number stays so.
fn positive(probability: f32) -> f32 {
    if probability < f32::MIN_POSITIVE {
        f32::MIN_POSITIVE
    } else {
        probability
    }
}

/// The largest absolute difference; infinite where lengths differ or a value is not a number.
fn distance(a: &[f32], b: &[f32]) -> f32 {
    if a.len() != b.len() {
        return f32::INFINITY;
    }
    let differences = a.iter().zip(b).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, |worst, difference| {
        if difference.is_nan() {
            f32::INFINITY
        } else {
            worst.max(difference)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::{distance, positive};

    #[test]
    fn what_is_not_a_number_is_no_probability() {
        assert!(positive(f32::NAN).is_nan());
        assert_eq!(positive(0.0), f32::MIN_POSITIVE);
        assert_eq!(positive(0.5), 0.5);
    }

    #[test]
    fn distances() {
        assert_eq!(distance(&[1.0, -2.0], &[1.5, -2.25]), 0.5);
        assert_eq!(distance(&[1.0], &[]), f32::INFINITY);
        assert_eq!(distance(&[f32::NAN, 0.0], &[0.0, 0.0]), f32::INFINITY);
        assert_eq!(distance(&[], &[]), 0.0);
    }
}
