//! Which class each cluster stands for, and how often that is right: clustering accuracy.
//!
//! As the authors evaluate: clusters and classes are matched one to one so that most samples are right
//! ("Hungarian matching"). With more clusters than classes every class gets one cluster this way, and each
//! cluster left over stands for the class most frequent in it.

use super::{Contingency, SuperclassMap, assignment};

/// How a cluster got its class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// By the one-to-one matching of clusters and classes.
    Matched,
    /// Left over by the matching: the most frequent class, the lowest id among equals.
    Majority,
}

/// A cluster and the class it stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Assigned {
    /// Id of the cluster.
    pub cluster: u64,
    /// Samples in the cluster.
    pub size: u64,
    /// Id of the class it stands for.
    pub class: u64,
    /// Samples of that class in the cluster. 0 if the matching found no better use for the cluster.
    pub correct: u64,
    /// Id of the class most frequent in the cluster, the lowest among equals.
    pub majority: u64,
    /// How the class was chosen.
    pub rule: Rule,
}

impl Contingency {
    /// The class of every cluster, in the order of [`Contingency::clusters`].
    ///
    /// Among one-to-one matchings with equally many correct samples, one with the most correct samples in total
    /// (including majority classes) is taken, so that the accuracy does not depend on how clusters are numbered.
    pub fn assign(&self) -> Vec<Assigned> {
        let majorities: Vec<(usize, u64)> = (0..self.clusters().len())
            .map(|cluster| self.majority(cluster))
            .collect();
        let matched = if self.clusters().len() > self.classes().len() {
            self.match_classes(&majorities)
        } else {
            self.match_clusters()
        };
        majorities
            .into_iter()
            .enumerate()
            .map(|(cluster, (majority, majority_count))| {
                let (class, correct, rule) = match matched[cluster] {
                    Some(class) => (class, self.count(cluster, class), Rule::Matched),
                    None => (majority, majority_count, Rule::Majority),
                };
                Assigned {
                    cluster: self.clusters()[cluster],
                    size: self.cluster_sizes()[cluster],
                    class: self.classes()[class],
                    correct,
                    majority: self.classes()[majority],
                    rule,
                }
            })
            .collect()
    }

    /// The fraction of samples whose class is the one their cluster stands for.
    pub fn accuracy(&self, assigned: &[Assigned]) -> f64 {
        let correct: u64 = assigned.iter().map(|cluster| cluster.correct).sum();
        correct as f64 / self.samples() as f64
    }

    /// The fraction of samples whose superclass is the superclass of what their cluster stands for. `assigned` is of
    /// [`Contingency::assign`]: the matching knows nothing of superclasses, as in the authors' evaluation.
    pub fn superclass_accuracy(&self, assigned: &[Assigned], map: &SuperclassMap) -> f64 {
        let mut correct = 0;
        for (cluster, assigned) in assigned.iter().enumerate() {
            let wanted = map.group(assigned.class);
            correct += self
                .cluster_cells(cluster)
                .iter()
                .filter(|cell| map.group(self.classes()[cell.class]) == wanted)
                .map(|cell| cell.count)
                .sum::<u64>();
        }
        correct as f64 / self.samples() as f64
    }

    /// At most as many clusters as classes: each cluster gets a class of its own.
    fn match_clusters(&self) -> Vec<Option<usize>> {
        assignment::maximise(
            self.clusters().len(),
            self.classes().len(),
            |cluster, weights| {
                weights.fill(0);
                for cell in self.cluster_cells(cluster) {
                    weights[cell.class] = cell.count as i64;
                }
            },
        )
        .into_iter()
        .map(Some)
        .collect()
    }

    /// More clusters than classes: each class gets a cluster of its own.
    fn match_classes(&self, majorities: &[(usize, u64)]) -> Vec<Option<usize>> {
        let mut by_class = vec![Vec::new(); self.classes().len()];
        for cell in self.cells() {
            by_class[cell.class].push((cell.cluster, cell.count as i64));
        }
        // A matched cluster forgoes its majority. Majorities add up to at most `samples`, so a factor above that
        // makes the matched samples count first and what is forgone second.
        let first = self.samples() as i64 + 1;
        let forgone: Vec<i64> = majorities
            .iter()
            .map(|&(_, count)| -(count as i64))
            .collect();
        let clusters = assignment::maximise(
            self.classes().len(),
            self.clusters().len(),
            |class, weights| {
                weights.copy_from_slice(&forgone);
                for &(cluster, count) in &by_class[class] {
                    weights[cluster] += count * first;
                }
            },
        );
        let mut matched = vec![None; self.clusters().len()];
        for (class, cluster) in clusters.into_iter().enumerate() {
            matched[cluster] = Some(class);
        }
        matched
    }

    /// The most frequent class of a cluster and its count; the lowest class among equals.
    fn majority(&self, cluster: usize) -> (usize, u64) {
        let mut best = (0, 0);
        for cell in self.cluster_cells(cluster) {
            if cell.count > best.1 {
                best = (cell.class, cell.count);
            }
        }
        best
    }

    fn count(&self, cluster: usize, class: usize) -> u64 {
        let cells = self.cluster_cells(cluster);
        cells
            .binary_search_by_key(&class, |cell| cell.class)
            .map_or(0, |place| cells[place].count)
    }
}
