//! Which head to take, and how many classes there are, without labels.

use crate::Result;
use crate::metrics::knn::UnitEmbeddings;
use crate::metrics::{Contingency, Separation, SimilarPair, Usage};
use std::fmt::Write;

/// Similarity ([`Separation::similar_pairs`]) from which two clusters count as near-duplicates: their centres are nearer
/// to each other than two thirds of what the samples are to their own.
///
/// Measured on ten heads, of shapes (8 to 64 clusters) and of CIFAR-10 (10 to 80): of 5,324 pairs 11 reach 3, and in 9 of
/// them both clusters have the same most frequent class; 30 reach 2.5, 22 of them of one class; of all pairs one in nine
/// is. Clusters that share a class because a head cut its cloud in two reach 1.0 to 2.1, as many neighbouring classes do:
/// those are not found, whatever the threshold (docs/evaluation.md).
pub const SIMILAR: f64 = 3.0;

/// Share of the available clusters below which the effective number calls the others superfluous.
const SPARSE: f64 = 0.5;
/// Silhouette below which clusters hardly separate.
const WEAK: f64 = 0.05;
/// Share of samples in one cluster from which a head counts as collapsed.
const COLLAPSED: f64 = 0.9;

/// What a head's clusters say of themselves.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadUsage {
    /// Index of the head in the model.
    pub head: usize,
    /// Sizes of the clusters.
    pub usage: Usage,
    /// Mean probability of the cluster that each sample was put into.
    pub confidence: f64,
    /// Mean silhouette in the space of the features; none if only one cluster is used.
    pub silhouette: Option<f64>,
    /// Near-duplicates, most similar first.
    pub similar: Vec<SimilarPair>,
}

impl HeadUsage {
    /// Measures a head's clusters. `sample` are numbers of samples, `embeddings` their features.
    ///
    /// # Errors
    /// As [`Usage::new`] and [`Separation::new`].
    pub fn new(
        head: usize,
        assignments: &[usize],
        confidences: &[f32],
        available: usize,
        sample: &[usize],
        embeddings: &UnitEmbeddings,
    ) -> Result<Self> {
        let usage = Usage::new(assignments, available)?;
        let sampled: Vec<usize> = sample.iter().map(|&index| assignments[index]).collect();
        let separation = Separation::new(embeddings, &sampled)?;
        let sum: f64 = confidences.iter().map(|&x| f64::from(x)).sum();
        Ok(Self {
            head,
            usage,
            confidence: sum / confidences.len() as f64,
            silhouette: separation.silhouette(),
            similar: separation.similar_pairs(SIMILAR),
        })
    }

    /// Clusters that are used, near-duplicates counted once: pairs are joined, and each group counts as one.
    pub fn distinct(&self) -> usize {
        let mut group: Vec<usize> = (0..self.usage.sizes.len()).collect();
        fn root(group: &[usize], mut cluster: usize) -> usize {
            while group[cluster] != cluster {
                cluster = group[cluster];
            }
            cluster
        }
        let mut joined = 0;
        for pair in &self.similar {
            let (a, b) = (
                root(&group, pair.first as usize),
                root(&group, pair.second as usize),
            );
            if a != b {
                group[a] = b;
                joined += 1;
            }
        }
        self.usage.used - joined
    }

    fn is_collapsed(&self) -> bool {
        self.usage.largest_share() >= COLLAPSED
    }
}

/// Agreement of every two heads: NMI of their assignments, `[heads, heads]`, 1 on the diagonal.
///
/// # Errors
/// As [`Contingency::new`].
pub fn agreement(assignments: &[Vec<usize>]) -> Result<Vec<Vec<f64>>> {
    let mut table = vec![vec![1.0; assignments.len()]; assignments.len()];
    for (a, one) in assignments.iter().enumerate() {
        for (b, other) in assignments.iter().enumerate().skip(a + 1) {
            let nmi = Contingency::new(one, other)?.nmi();
            (table[a][b], table[b][a]) = (nmi, nmi);
        }
    }
    Ok(table)
}

/// Which head to take, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Advice {
    /// Index of the head in the model; none if no head separates anything.
    pub head: Option<usize>,
    /// About how many classes the images seem to have.
    pub classes: Option<usize>,
    /// One line for people.
    pub text: String,
}

/// Takes the head with the largest silhouette among those that have not collapsed, and says what speaks for it.
/// `agreement` is of [`agreement`], in the order of `heads`.
pub fn advise(heads: &[HeadUsage], agreement: &[Vec<f64>]) -> Advice {
    let candidates = heads.iter().enumerate();
    let best = candidates
        .filter(|(_, head)| !head.is_collapsed())
        .filter_map(|(place, head)| Some((place, head, head.silhouette?)))
        .max_by(|a, b| a.2.total_cmp(&b.2).then(b.0.cmp(&a.0)));
    let Some((place, head, silhouette)) = best else {
        return Advice {
            head: None,
            classes: None,
            text: "no head separates these images: each puts (almost) all of them into one cluster; train longer, or look at the loss (ln of the number of classes means collapse)".into(),
        };
    };
    let available = head.usage.sizes.len();
    let mut text = format!("take head {} ({available} clusters): ", head.head);
    // Writing to a string cannot fail.
    let _ = if heads.len() > 1 {
        write!(
            text,
            "its clusters lie farthest apart (silhouette {silhouette:.2}"
        )
    } else {
        write!(text, "it is the only one (silhouette {silhouette:.2}")
    };
    let next = heads.iter().filter(|other| other.head != head.head);
    let next = next.filter_map(|other| Some((other.silhouette?, other.usage.sizes.len())));
    if let Some((next, clusters)) = next.max_by(|a, b| a.0.total_cmp(&b.0)) {
        let _ = write!(text, ", next {next:.2} with {clusters}");
    }
    let _ = write!(
        text,
        "), {} of {available} clusters are used, effectively {:.1}",
        head.usage.used,
        head.usage.effective()
    );
    if heads.len() > 1 {
        let others = agreement[place].iter().sum::<f64>() - 1.0;
        let _ = write!(
            text,
            ", it agrees with the other heads by NMI {:.2}",
            others / (heads.len() - 1) as f64
        );
    }
    let distinct = head.distinct();
    match head.similar.first() {
        None => text.push_str(", no two clusters are near-duplicates"),
        Some(pair) => {
            let count = head.similar.len();
            let plural = if count == 1 {
                "pair looks"
            } else {
                "pairs look"
            };
            let _ = write!(
                text,
                ", {count} {plural} like near-duplicates (clusters {} and {} most)",
                pair.first, pair.second
            );
        }
    }
    let sparse = head.usage.effective() < SPARSE * available as f64;
    let classes = if sparse {
        distinct.min(head.usage.effective().round() as usize).max(2)
    } else {
        distinct
    };
    let _ = write!(text, "; so about {classes} classes");
    if sparse {
        text.push_str(": a head of that size would do");
    } else if head.usage.used == available
        && head.similar.is_empty()
        && heads
            .iter()
            .all(|other| other.usage.sizes.len() <= available)
    {
        text.push_str(" or more: a larger head is worth a try");
    }
    if silhouette < WEAK {
        text.push_str(
            "; but with a silhouette near 0 clusters hardly separate: train longer first",
        );
    }
    Advice {
        head: Some(head.head),
        classes: Some(classes),
        text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f32::consts::TAU;

    fn head(index: usize, sizes: &[u64], silhouette: f64, similar: &[(u64, u64)]) -> HeadUsage {
        let assignments: Vec<usize> = sizes
            .iter()
            .enumerate()
            .flat_map(|(cluster, &size)| vec![cluster; size as usize])
            .collect();
        HeadUsage {
            head: index,
            usage: Usage::new(&assignments, sizes.len()).expect("counts"),
            confidence: 0.9,
            silhouette: Some(silhouette),
            similar: similar
                .iter()
                .map(|&(first, second)| SimilarPair {
                    first,
                    second,
                    similarity: 5.0,
                })
                .collect(),
        }
    }

    const PARTLY: [[f64; 2]; 2] = [[1.0, 0.6], [0.6, 1.0]];

    fn of(heads: &[HeadUsage]) -> Advice {
        let agreement: Vec<Vec<f64>> = PARTLY
            .iter()
            .map(|row| row[..heads.len()].to_vec())
            .collect();
        advise(heads, &agreement[..heads.len()])
    }

    #[test]
    fn the_head_with_the_largest_silhouette_is_taken_with_its_reasons() {
        let found = of(&[
            head(0, &[5; 4], 0.2, &[]),
            head(2, &[5; 8], 0.3, &[(0, 3), (3, 5), (0, 5)]),
        ]);
        assert_eq!((found.head, found.classes), (Some(2), Some(6)));
        for part in [
            "take head 2 (8 clusters)",
            "silhouette 0.30, next 0.20 with 4",
            "8 of 8",
            "NMI 0.60",
            "3 pairs",
            "0 and 3",
            "about 6 classes",
        ] {
            assert!(found.text.contains(part), "no {part:?} in {}", found.text);
        }
        assert_eq!(found.text.lines().count(), 1);
    }

    /// Four groups of features; one head has them as they are, one joins two, one splits each, one mixes them. All it
    /// takes to find the first is the features.
    #[test]
    fn the_head_that_has_the_groups_of_the_features_is_taken() {
        let (groups, each) = (4, 10);
        let mut features = Vec::new();
        for sample in 0..groups * each {
            let mut row = [0.0_f32; 6];
            row[sample / each] = 1.0;
            // Within a group, samples lie on a small circle, of which the second head takes halves.
            let (sin, cos) = (TAU * (sample % each) as f32 / each as f32).sin_cos();
            (row[4], row[5]) = (0.3 * cos, 0.3 * sin);
            features.extend(row);
        }
        let embeddings = UnitEmbeddings::new(features, 6).expect("unit embeddings");
        let all: Vec<usize> = (0..groups * each).collect();
        let of = |cluster: &dyn Fn(usize) -> usize| -> Vec<usize> {
            all.iter().map(|&sample| cluster(sample)).collect()
        };
        let heads = [
            of(&|sample| (sample / each).min(2)),
            of(&|sample| sample / (each / 2)),
            of(&|sample| sample / each),
            of(&|sample| sample % 4),
        ];
        let sure = vec![0.9; all.len()];
        let usages: Vec<HeadUsage> = heads
            .iter()
            .enumerate()
            .map(|(index, assigned)| {
                HeadUsage::new(index, assigned, &sure, 8, &all, &embeddings).expect("measured")
            })
            .collect();
        let table = agreement(&heads).expect("compares");
        assert_eq!(advise(&usages, &table).head, Some(2));
    }

    #[test]
    fn full_heads_ask_for_larger_ones_and_sparse_heads_for_smaller_ones() {
        let full = of(&[head(0, &[5; 4], 0.5, &[])]);
        assert!(
            full.text.contains("about 4 classes or more"),
            "{}",
            full.text
        );
        let sparse = of(&[head(0, &[40, 40, 1, 0, 0, 0, 0, 0], 0.5, &[])]);
        assert!(
            sparse
                .text
                .contains("about 2 classes: a head of that size would do"),
            "{}",
            sparse.text
        );
        assert_eq!(sparse.classes, Some(2));
    }

    #[test]
    fn collapsed_heads_are_never_taken() {
        let collapsed = || head(0, &[99, 1], 0.9, &[]);
        assert_eq!(of(&[collapsed(), head(1, &[5; 4], 0.1, &[])]).head, Some(1));
        let weak = of(&[head(0, &[5; 4], 0.04, &[])]);
        assert!(weak.text.ends_with("train longer first"), "{}", weak.text);
        let none = of(&[collapsed()]);
        assert!(none.head.is_none() && none.text.contains("no head separates"));
    }

    #[test]
    fn heads_agree_as_their_nmi_says() {
        let table =
            agreement(&[vec![0, 0, 1, 1], vec![5, 5, 2, 2], vec![0, 1, 0, 1]]).expect("compares");
        assert!((table[0][1] - 1.0).abs() < 1e-12 && table[0][2].abs() < 1e-12);
        assert_eq!(table[2][0], table[0][2]);
        assert_eq!(table[1][1], 1.0);
    }
}
