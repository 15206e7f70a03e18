//! Which images show best what a cluster is.

use super::Extracted;
use crate::data::Source;
use crate::metrics::{Assigned, Contingency};
use crate::picture::{ClusterRow, Majority};
use crate::random::{Draw, Purpose, stream};
use crate::{Error, Result};

/// Which images of a cluster are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pick {
    /// Those that the classifier is most sure of.
    Surest,
    /// A random sample, the same for the same seed.
    Random {
        /// Of the random stream.
        seed: u64,
    },
}

/// The clusters of a data set, with their members.
pub struct Gallery<'a> {
    source: &'a dyn Source,
    /// How sure the classifier is of each image; k-means does not say.
    confidences: Option<&'a [f32]>,
    labels: Option<&'a [usize]>,
    /// Members of each cluster up to the last that occurs, in the order of the source.
    members: Vec<Vec<usize>>,
    agreement: Option<Agreement>,
}

/// Clusters against labels.
struct Agreement {
    table: Contingency,
    assigned: Vec<Assigned>,
}

impl<'a> Gallery<'a> {
    /// The clusters of the head at that place.
    ///
    /// # Errors
    /// If there is no such head.
    pub fn new(source: &'a dyn Source, extracted: &'a Extracted, head: usize) -> Result<Self> {
        let (Some(assignments), Some(confidences)) = (
            extracted.assignments.get(head),
            extracted.confidences.get(head),
        ) else {
            return Err(Error::Invalid(format!(
                "head {head} does not exist; there are {}",
                extracted.assignments.len()
            )));
        };
        let mut gallery = Self::of_clusters(source, assignments, extracted.labels.as_deref())?;
        gallery.confidences = Some(confidences);
        Ok(gallery)
    }

    /// Any clusters of the images of `source`, such as those of k-means: the cluster of each image and, where there are
    /// labels, its class.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there is not one assignment, and one label, per image.
    pub fn of_clusters(
        source: &'a dyn Source,
        assignments: &[usize],
        labels: Option<&'a [usize]>,
    ) -> Result<Self> {
        if assignments.len() != source.len() {
            return Err(Error::Invalid(format!(
                "{} images and the clusters of {}",
                source.len(),
                assignments.len()
            )));
        }
        let clusters = assignments.iter().max().map_or(0, |&largest| largest + 1);
        let mut members: Vec<Vec<usize>> = vec![Vec::new(); clusters];
        for (index, &cluster) in assignments.iter().enumerate() {
            members[cluster].push(index);
        }
        let agreement = match labels {
            Some(labels) => {
                let table = Contingency::new(labels, assignments)?;
                let assigned = table.assign();
                Some(Agreement { table, assigned })
            }
            None => None,
        };
        Ok(Self {
            source,
            confidences: None,
            labels,
            members,
            agreement,
        })
    }

    /// Ids of the clusters that have images, rising.
    pub fn clusters(&self) -> Vec<usize> {
        (0..self.members.len())
            .filter(|&cluster| !self.members[cluster].is_empty())
            .collect()
    }

    /// The `count` clusters of at least `fewest` images in which most images are of the class that the cluster stands
    /// for, best first; of equals the larger first. None without labels.
    pub fn most_accurate(&self, count: usize, fewest: usize) -> Vec<usize> {
        let Some(agreement) = &self.agreement else {
            return Vec::new();
        };
        let accuracy = |cluster: usize| {
            agreement
                .of(cluster)
                .map_or(0.0, |(_, found)| found.correct as f64 / found.size as f64)
        };
        self.best(count, fewest, accuracy)
    }

    /// The `count` clusters of at least `fewest` images that the classifier is most sure of on average, best first; of
    /// equals the larger first. None without a classifier.
    pub fn most_confident(&self, count: usize, fewest: usize) -> Vec<usize> {
        let Some(confidences) = self.confidences else {
            return Vec::new();
        };
        self.best(count, fewest, |cluster| self.mean(confidences, cluster))
    }

    /// A row of a [picture](crate::picture::cluster_grid) for each of `clusters` that has images: up to `columns` of
    /// them; with `details`, also how sure the classifier is, and the class of each image where there are labels. Without a
    /// classifier [`Pick::Surest`] takes the first.
    ///
    /// # Errors
    /// If an image cannot be read.
    pub fn rows(
        &self,
        clusters: &[usize],
        columns: usize,
        pick: Pick,
        details: bool,
    ) -> Result<Vec<ClusterRow>> {
        let mut rows = Vec::new();
        for &cluster in clusters {
            let size = self.members.get(cluster).map_or(0, Vec::len);
            if size == 0 {
                continue;
            }
            let shown = self.picked(cluster, columns, pick);
            let name = |&index: &usize| self.class_name(self.labels?.get(index).copied()?);
            rows.push(ClusterRow {
                cluster: cluster as u64,
                size: size as u64,
                majority: self.majority(cluster),
                note: self
                    .confidences
                    .filter(|_| details)
                    .map(|all| format!("{:.0} % sure", 100.0 * self.mean(all, cluster))),
                captions: if details {
                    shown.iter().filter_map(name).collect()
                } else {
                    Vec::new()
                },
                images: shown
                    .iter()
                    .map(|&index| Ok((*self.source.image(index)?).clone()))
                    .collect::<Result<_>>()?,
            });
        }
        Ok(rows)
    }

    fn best(&self, count: usize, fewest: usize, score: impl Fn(usize) -> f64) -> Vec<usize> {
        let size = |cluster: usize| self.members[cluster].len();
        let mut scored: Vec<(f64, usize)> = self
            .clusters()
            .into_iter()
            .filter(|&cluster| size(cluster) >= fewest)
            .map(|cluster| (score(cluster), cluster))
            .collect();
        scored.sort_by(|a, b| {
            let larger = size(b.1).cmp(&size(a.1));
            b.0.total_cmp(&a.0).then(larger).then(a.1.cmp(&b.1))
        });
        scored
            .into_iter()
            .take(count)
            .map(|(_, cluster)| cluster)
            .collect()
    }

    /// Mean probability of the cluster over its members.
    fn mean(&self, confidences: &[f32], cluster: usize) -> f64 {
        let members = &self.members[cluster];
        let sum: f64 = members
            .iter()
            .map(|&index| f64::from(confidences[index]))
            .sum();
        sum / members.len() as f64
    }

    fn picked(&self, cluster: usize, columns: usize, pick: Pick) -> Vec<usize> {
        let mut members = self.members[cluster].clone();
        match pick {
            Pick::Surest => {
                if let Some(sure) = self.confidences {
                    members.sort_by(|&a, &b| sure[b].total_cmp(&sure[a]).then(a.cmp(&b)));
                }
            }
            Pick::Random { seed } => {
                stream(seed, Purpose::Evaluation, [cluster as u64, 0, 0]).shuffle(&mut members);
            }
        }
        members.truncate(columns);
        members
    }

    fn majority(&self, cluster: usize) -> Option<Majority> {
        let agreement = self.agreement.as_ref()?;
        let (place, found) = agreement.of(cluster)?;
        let cells = agreement.table.cluster_cells(place).iter();
        let count = cells.map(|cell| cell.count).max().unwrap_or(0);
        Some(Majority {
            name: self.class_name(found.majority as usize)?,
            share: count as f64 / found.size as f64,
        })
    }

    fn class_name(&self, class: usize) -> Option<String> {
        self.source.classes().get(class).cloned()
    }
}

impl Agreement {
    /// Place of a cluster in the table, and what it stands for.
    fn of(&self, cluster: usize) -> Option<(usize, &Assigned)> {
        let place = self
            .table
            .clusters()
            .binary_search(&(cluster as u64))
            .ok()?;
        Some((place, &self.assigned[place]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Shapes;

    /// Image i shows shape i mod 8.
    fn extracted(assignments: [usize; 16], confidences: [f32; 16]) -> Extracted {
        Extracted {
            labels: Some((0..16).map(|i| i % 8).collect()),
            assignments: vec![assignments.to_vec()],
            confidences: vec![confidences.to_vec()],
            ..Extracted::default()
        }
    }

    #[test]
    fn clusters_are_ranked_and_their_images_picked() {
        let shapes = Shapes::new(16, 0, 8);
        // Cluster 1: disc, disc; 3: ring, ring, triangle; 5: the others.
        let assignments = [1, 3, 3, 5, 5, 5, 5, 5, 1, 3, 5, 5, 5, 5, 5, 5];
        let mut confidences = [0.5; 16];
        confidences[9] = 0.9;
        confidences[2] = 0.7;
        let extracted = extracted(assignments, confidences);
        let gallery = Gallery::new(&shapes, &extracted, 0).expect("a gallery");
        assert_eq!(gallery.clusters(), [1, 3, 5]);
        assert_eq!(gallery.most_accurate(2, 1), [1, 3]);
        assert_eq!(gallery.most_accurate(5, 3), [3, 5]);
        // Equally sure: the larger first.
        assert_eq!(gallery.most_confident(9, 1), [3, 5, 1]);
        let rows = gallery
            .rows(&[3, 4, 99], 2, Pick::Surest, true)
            .expect("rows");
        assert_eq!((rows.len(), rows[0].size, rows[0].images.len()), (1, 3, 2));
        assert_eq!(rows[0].captions, ["ring", "triangle"]);
        assert_eq!(rows[0].images[0], *shapes.image(9).expect("an image"));
        assert_eq!(rows[0].note.as_deref(), Some("70 % sure"));
        let majority = rows[0].majority.as_ref().expect("labels");
        assert_eq!(
            (majority.name.as_str(), majority.share),
            ("ring", 2.0 / 3.0)
        );
        let sampled = |seed| {
            let rows = gallery
                .rows(&[5], 5, Pick::Random { seed }, true)
                .expect("rows");
            rows[0].captions.clone()
        };
        assert_eq!(sampled(0), sampled(0));
        assert!((1..9).any(|seed| sampled(seed) != sampled(0)));
    }

    #[test]
    fn without_labels_there_are_no_names() {
        let shapes = Shapes::new(16, 0, 8);
        let mut extracted = extracted([0; 16], [0.25; 16]);
        extracted.labels = None;
        let gallery = Gallery::new(&shapes, &extracted, 0).expect("a gallery");
        assert!(gallery.most_accurate(3, 1).is_empty());
        let rows = gallery
            .rows(&gallery.clusters(), 3, Pick::Surest, true)
            .expect("rows");
        assert!(rows[0].majority.is_none() && rows[0].captions.is_empty());
        assert!(Gallery::new(&shapes, &extracted, 1).is_err());
        assert!(Gallery::of_clusters(&shapes, &[0; 15], None).is_err());
    }

    #[test]
    fn clusters_without_a_classifier_have_no_confidence() {
        let shapes = Shapes::new(16, 0, 8);
        let labels: Vec<usize> = (0..16).map(|i| i % 8).collect();
        let gallery = Gallery::of_clusters(&shapes, &[[0; 8], [2; 8]].concat(), Some(&labels));
        let gallery = gallery.expect("a gallery");
        assert_eq!(gallery.clusters(), [0, 2]);
        assert_eq!(gallery.most_confident(9, 1), [0usize; 0]);
        assert_eq!(gallery.most_accurate(9, 1), [0, 2]);
        let rows = gallery.rows(&[2], 3, Pick::Surest, true).expect("rows");
        assert_eq!(rows[0].note, None);
        assert_eq!(rows[0].images[0], *shapes.image(8).expect("an image"));
    }
}
