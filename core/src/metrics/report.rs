//! All measures of one clustering together.

use super::{Assigned, Contingency, Label, SuperclassMap};
use crate::Result;

/// How a clustering agrees with labels. Fractions from 0 to 1 (AMI and ARI may be slightly negative), not per cent.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterReport {
    /// Normalised mutual information, [`Contingency::nmi`].
    pub nmi: f64,
    /// Adjusted mutual information, [`Contingency::ami`].
    pub ami: f64,
    /// Adjusted Rand index, [`Contingency::ari`].
    pub ari: f64,
    /// Clustering accuracy, [`Contingency::accuracy`] or [`Contingency::superclass_accuracy`].
    pub acc: f64,
    /// Number of samples.
    pub samples: u64,
    /// Number of classes that occur.
    pub classes: usize,
    /// Number of clusters that occur (unique assignments).
    pub clusters: usize,
    /// Entropy of the cluster sizes in nats; ln(number of available clusters) at most.
    pub cluster_entropy: f64,
    /// Size and class of every cluster that occurs, by rising cluster id.
    pub assigned: Vec<Assigned>,
}

impl ClusterReport {
    /// Compares `predictions` (cluster ids) with `targets` (class ids), sample by sample.
    ///
    /// # Errors
    /// As [`Contingency::new`].
    pub fn new<T: Label, P: Label>(targets: &[T], predictions: &[P]) -> Result<Self> {
        Ok(Self::of(&Contingency::new(targets, predictions)?, None))
    }

    /// As [`Self::new`], with the accuracy counted over superclasses; the other measures and the choice of each
    /// cluster's class stay those of the classes, as in the authors' evaluation.
    ///
    /// # Errors
    /// As [`Contingency::new`].
    pub fn with_superclasses<T: Label, P: Label>(
        targets: &[T],
        predictions: &[P],
        map: &SuperclassMap,
    ) -> Result<Self> {
        Ok(Self::of(
            &Contingency::new(targets, predictions)?,
            Some(map),
        ))
    }

    fn of(table: &Contingency, superclasses: Option<&SuperclassMap>) -> Self {
        let assigned = table.assign();
        Self {
            nmi: table.nmi(),
            ami: table.ami(),
            ari: table.ari(),
            acc: match superclasses {
                Some(map) => table.superclass_accuracy(&assigned, map),
                None => table.accuracy(&assigned),
            },
            samples: table.samples(),
            classes: table.classes().len(),
            clusters: table.clusters().len(),
            cluster_entropy: table.cluster_entropy(),
            assigned,
        }
    }
}
