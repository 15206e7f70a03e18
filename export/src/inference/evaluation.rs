//! An exported file in core's evaluation: what gets measured is the file that gets deployed.

use super::Classifier;
use crate::Result;
use selfcls_core::eval::{Forward, Network};

/// The heads of the file in order, and the embedding as features.
impl Network for Classifier {
    fn forward(&mut self, images: Vec<f32>, _count: usize) -> selfcls_core::Result<Forward> {
        let outputs = self
            .run(&images)
            .map_err(|error| selfcls_core::Error::Network(Box::new(error)))?;
        Ok(Forward {
            logits: outputs.logits.into_iter().map(|head| head.values).collect(),
            features: outputs.embedding,
        })
    }
}

impl Classifier {
    /// The largest absolute difference between this file's logits and embeddings and those of
    /// `network`, whose features must be embeddings, on `images` (`[batch, 3, side, side]`,
    /// normalised). Infinite if the two are not even of one shape.
    ///
    /// # Errors
    /// If either engine fails.
    pub fn difference(&self, network: &mut dyn Network, images: &[f32]) -> Result<f32> {
        let ours = self.run(images)?;
        let theirs = network.forward(images.to_vec(), ours.batch)?;
        let mut worst = distance(&ours.embedding, &theirs.features);
        for head in &ours.logits {
            let other = theirs.logits.get(head.head).map_or(&[][..], Vec::as_slice);
            worst = worst.max(distance(&head.values, other));
        }
        Ok(worst)
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
    use super::distance;

    #[test]
    fn distances() {
        assert_eq!(distance(&[1.0, -2.0], &[1.5, -2.25]), 0.5);
        assert_eq!(distance(&[1.0], &[]), f32::INFINITY);
        assert_eq!(distance(&[f32::NAN, 0.0], &[0.0, 0.0]), f32::INFINITY);
        assert_eq!(distance(&[], &[]), 0.0);
    }
}
