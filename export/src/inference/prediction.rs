//! The answer for one image.

use std::sync::Arc;

/// What a head says about an image.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Prediction {
    /// Index of the head that answered.
    pub head: usize,
    /// Probability of each class; they sum to 1.
    pub probabilities: Vec<f32>,
    /// The image's unit embedding: images whose embeddings have a large dot product look alike. Empty if the
    /// file does not give it.
    pub embedding: Vec<f32>,
    /// What the backbone gives for the image. Empty if the file does not give it.
    pub features: Vec<f32>,
    pub(super) names: Option<Arc<[String]>>,
}

/// A class and how probable it is.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Candidate<'a> {
    /// The class's number.
    pub class: usize,
    /// What it is called, if anybody has named it.
    pub name: Option<&'a str>,
    /// From 0 to 1.
    pub probability: f32,
}

impl Prediction {
    /// The most probable class; the lowest number among equals.
    pub fn class(&self) -> usize {
        let classes = self.probabilities.iter().enumerate();
        let best = classes.reduce(|best, other| if other.1 > best.1 { other } else { best });
        best.map_or(0, |(class, _)| class)
    }

    /// The most probable class's probability.
    pub fn confidence(&self) -> f32 {
        self.probabilities.get(self.class()).copied().unwrap_or(0.0)
    }

    /// The most probable class's name, if it has one.
    pub fn name(&self) -> Option<&str> {
        self.names.as_ref()?.get(self.class()).map(String::as_str)
    }

    /// The `k` most probable classes (all, if there are fewer), most probable first; lower numbers first
    /// among equals.
    pub fn top(&self, k: usize) -> Vec<Candidate<'_>> {
        let mut order: Vec<usize> = (0..self.probabilities.len()).collect();
        let by_rank = |&a: &usize, &b: &usize| {
            let (pa, pb) = (self.probabilities[a], self.probabilities[b]);
            pb.total_cmp(&pa).then(a.cmp(&b))
        };
        if (1..order.len()).contains(&k) {
            order.select_nth_unstable_by(k - 1, by_rank);
        }
        order.truncate(k);
        order.sort_unstable_by(by_rank);
        order
            .into_iter()
            .map(|class| Candidate {
                class,
                name: self.names.as_ref().map(|names| names[class].as_str()),
                probability: self.probabilities[class],
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prediction(probabilities: &[f32]) -> Prediction {
        let names = (0..probabilities.len()).map(|class| format!("class {class}"));
        Prediction {
            head: 0,
            probabilities: probabilities.to_vec(),
            embedding: Vec::new(),
            features: Vec::new(),
            names: Some(names.collect()),
        }
    }

    #[test]
    fn ranks_by_probability_then_number() {
        let p = prediction(&[0.1, 0.3, 0.2, 0.3, 0.1]);
        let classes = |k| p.top(k).iter().map(|c| c.class).collect::<Vec<_>>();
        assert_eq!(classes(5), [1, 3, 2, 0, 4]);
        assert_eq!(classes(3), [1, 3, 2]);
        assert_eq!(classes(99), [1, 3, 2, 0, 4]);
        assert!(classes(0).is_empty());
        assert_eq!(
            (p.class(), p.confidence(), p.name()),
            (1, 0.3, Some("class 1"))
        );
    }

    #[test]
    fn no_names_and_one_class() {
        let p = Prediction {
            names: None,
            ..prediction(&[1.0])
        };
        assert_eq!((p.class(), p.confidence(), p.name()), (0, 1.0, None));
    }
}
