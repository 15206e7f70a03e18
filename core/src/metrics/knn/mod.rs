//! Weighted nearest-neighbour classification (Wu, Xiong, Yu, Lin: "Unsupervised feature learning via non-parametric
//! instance discrimination", CVPR 2018, section 3.4), the protocol of the authors' `knn_eval`.
//!
//! Each of the k reference samples most similar to a query votes for its class with weight exp(similarity / T);
//! similarity is the cosine. The search is exact, in tiles, so that memory does not grow with
//! queries x references; references may come in parts ([`Search`]), so that they need not fit into memory either.
//!
//! What the protocol leaves open is fixed here: among equally similar references the one that comes first is nearer;
//! among classes with equal votes the lowest id wins; a class without any vote is never among the top 5, however few
//! classes have votes.

mod embeddings;
mod search;

pub use embeddings::UnitEmbeddings;
pub use search::{Neighbour, Neighbours, Search};

use super::Label;
use crate::{Error, Result};
use search::check_k;

impl Neighbours {
    /// Classifies every query by its `k` nearest references, of classes `labels`, and compares with `targets`.
    ///
    /// # Errors
    /// [`Error::Invalid`] if `k` is 0 or more than what was searched, a length does not fit, or the temperature is not
    /// a positive number.
    pub fn score<R: Label, T: Label>(
        &self,
        labels: &[R],
        targets: &[T],
        k: usize,
        temperature: f64,
    ) -> Result<KnnScore> {
        check_k(k, self.k)?;
        if labels.len() != self.references {
            return Err(Error::Invalid(format!(
                "{} labels for {} reference samples",
                labels.len(),
                self.references
            )));
        }
        if targets.len() * self.k != self.data.len() {
            return Err(Error::Invalid(format!(
                "{} targets for {} classified samples",
                targets.len(),
                self.data.len() / self.k
            )));
        }
        if !(temperature > 0.0 && temperature.is_finite()) {
            return Err(Error::Invalid(format!(
                "the temperature {temperature} must be a positive number"
            )));
        }
        let (mut top1, mut top5) = (0usize, 0usize);
        let mut votes = Vec::new();
        for (row, target) in self.rows().zip(targets) {
            count_votes(&row[..k], labels, temperature, &mut votes);
            let place = votes.iter().position(|vote| vote.class == target.id());
            top1 += usize::from(place == Some(0));
            top5 += usize::from(place.is_some_and(|place| place < 5));
        }
        let fraction = |count: usize| count as f64 / targets.len() as f64;
        Ok(KnnScore {
            top1: fraction(top1),
            top5: fraction(top5),
            samples: targets.len(),
        })
    }
}

/// Accuracy of nearest-neighbour classification.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KnnScore {
    /// Fraction of samples whose class has the most votes.
    pub top1: f64,
    /// Fraction of samples whose class is among the five with the most votes and has at least one.
    pub top5: f64,
    /// Number of samples classified.
    pub samples: usize,
}

#[derive(Debug, Clone, Copy)]
struct Vote {
    class: u64,
    weight: f64,
}

/// Votes by class, most first; of equal votes the lowest class first.
fn count_votes<R: Label>(
    neighbours: &[Neighbour],
    labels: &[R],
    temperature: f64,
    votes: &mut Vec<Vote>,
) {
    votes.clear();
    // Relative to the nearest, so that a small temperature cannot overflow; the order stays.
    let nearest = f64::from(neighbours[0].similarity);
    for neighbour in neighbours {
        let class = labels[neighbour.index as usize].id();
        let weight = ((f64::from(neighbour.similarity) - nearest) / temperature).exp();
        match votes.iter_mut().find(|vote| vote.class == class) {
            Some(vote) => vote.weight += weight,
            None => votes.push(Vote { class, weight }),
        }
    }
    votes.sort_by(|a, b| b.weight.total_cmp(&a.weight).then(a.class.cmp(&b.class)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(rows: &[[f32; 2]]) -> UnitEmbeddings {
        UnitEmbeddings::new(rows.concat(), 2).expect("finite rows")
    }

    #[test]
    fn ties_go_to_the_first_reference_and_the_lowest_class() {
        let references = unit(&[[0.0, 1.0], [1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]]);
        let queries = unit(&[[2.0, 0.0]]);
        let found = Neighbours::search(&queries, &references, 2).expect("searches");
        let indices: Vec<u32> = found.rows().flatten().map(|n| n.index).collect();
        assert_eq!(indices, [1, 2]);
        // One vote each for classes 9 and 4.
        let labels = [0u8, 9, 4, 9];
        let top1 = |target: u8, k| {
            found
                .score(&labels, &[target], k, 0.1)
                .expect("scores")
                .top1
        };
        assert_eq!((top1(4, 2), top1(9, 2)), (1.0, 0.0));
        assert_eq!((top1(4, 1), top1(9, 1)), (0.0, 1.0));
    }

    #[test]
    fn a_class_without_votes_is_not_among_the_top_five() {
        let references = unit(&[[1.0, 0.0], [0.0, 1.0]]);
        let queries = unit(&[[1.0, 0.1], [1.0, 0.1]]);
        let found = Neighbours::search(&queries, &references, 2).expect("searches");
        let score = |k| found.score(&[0u8, 1], &[0u8, 1], k, 0.1).expect("scores");
        assert_eq!((score(1).top1, score(1).top5), (0.5, 0.5));
        assert_eq!((score(2).top1, score(2).top5), (0.5, 1.0));
    }

    #[test]
    fn tiny_temperatures_do_not_overflow() {
        let references = unit(&[[1.0, 0.0], [1.0, 0.1], [1.0, 0.1]]);
        let found = Neighbours::search(&unit(&[[1.0, 0.0]]), &references, 3).expect("searches");
        let score = found.score(&[5u8, 6, 6], &[5u8], 3, 1e-6).expect("scores");
        assert_eq!(score.top1, 1.0);
    }

    #[test]
    fn impossible_requests_are_refused() {
        let references = unit(&[[1.0, 0.0], [0.0, 1.0]]);
        let search = |queries: &UnitEmbeddings, k| {
            Neighbours::search(queries, &references, k)
                .expect_err("refused")
                .to_string()
        };
        assert!(search(&references, 3).contains("3 nearest neighbours cannot be taken from 2"));
        assert!(search(&references, 0).contains("ask for 1 to 2"));
        assert!(
            search(&UnitEmbeddings::new(vec![1.0; 3], 3).expect("a row"), 1).contains("width 3")
        );
        assert!(search(&UnitEmbeddings::new(vec![], 2).expect("no row"), 1).contains("no samples"));
        let nan = UnitEmbeddings::new(vec![1.0, 0.0, f32::NAN, 0.0], 2).expect_err("refused");
        assert!(nan.to_string().contains("sample 1 contains NaN"));
        let found = Neighbours::search(&references, &references, 1).expect("searches");
        assert!(found.score(&[0u8], &[0u8, 1], 1, 0.1).is_err());
        assert!(found.score(&[0u8, 1], &[0u8], 1, 0.1).is_err());
        assert!(found.score(&[0u8, 1], &[0u8, 1], 2, 0.1).is_err());
        assert!(found.score(&[0u8, 1], &[0u8, 1], 1, 0.0).is_err());
    }
}
