//! How often a classifier is right.

use serde::{Deserialize, Serialize};

/// Counts of right answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    samples: usize,
    first: usize,
    five: usize,
}

/// Accuracy on the test images.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Accuracy {
    /// Fraction of images whose class has the largest logit.
    pub top1: f64,
    /// Fraction of images whose class is among the five largest logits; 1 where there are no more than five classes.
    pub top5: f64,
}

impl Tally {
    /// Counts rows of `logits`, `[labels, classes]`. Of equal logits the lower class comes first.
    pub(super) fn add(&mut self, logits: &[f32], labels: &[usize]) {
        let classes = logits.len() / labels.len().max(1);
        for (row, &label) in logits.chunks_exact(classes.max(1)).zip(labels) {
            let own = row[label];
            let before = row
                .iter()
                .enumerate()
                .filter(|&(class, &logit)| logit > own || (logit == own && class < label));
            let place = before.count();
            self.samples += 1;
            self.first += usize::from(place == 0);
            self.five += usize::from(place < 5);
        }
    }

    pub(super) fn accuracy(&self) -> Accuracy {
        let fraction = |count: usize| count as f64 / self.samples.max(1) as f64;
        Accuracy {
            top1: fraction(self.first),
            top5: fraction(self.five),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_and_ties_go_to_the_lower_class() {
        let mut tally = Tally::default();
        let row = [0.0, 3.0, 3.0, 1.0, 2.0, -1.0, 0.0];
        let logits = row.repeat(4);
        // Places 0, 1 (tied with class 1), 4 and 5 (tied with class 0).
        tally.add(&logits, &[1, 2, 0, 6]);
        let accuracy = tally.accuracy();
        assert_eq!((accuracy.top1, accuracy.top5), (0.25, 0.75));
        let mut few = Tally::default();
        few.add(&[0.0, 1.0], &[0]);
        assert_eq!(
            few.accuracy(),
            Accuracy {
                top1: 0.0,
                top5: 1.0
            }
        );
    }
}
