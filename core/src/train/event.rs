//! What a run tells whoever listens.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Something that happened in a run.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Training begins, or goes on after `step` steps.
    Start {
        /// Steps made before.
        step: usize,
        /// Steps in all.
        steps: usize,
        /// Epochs in all.
        epochs: usize,
        /// Images in the data.
        samples: usize,
        /// Trainable values in the model.
        parameters: usize,
    },
    /// Something the user should know and may want to change.
    Warning(String),
    /// A step was made.
    Step(StepEvent),
    /// An epoch was completed.
    Epoch(EpochEvent),
    /// The model was measured after an epoch.
    Monitor(MonitorEvent),
    /// A checkpoint was written.
    Checkpoint(PathBuf),
}

/// A step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepEvent {
    /// The epoch it belongs to, from 1.
    pub epoch: usize,
    /// Steps made so far, this one included.
    pub step: usize,
    /// The loss of this step.
    pub loss: f64,
    /// The learning rate of this step.
    pub lr: f64,
    /// Fraction of view-0 neighbours with the sample's own label, where labels exist and the queue is full.
    pub neighbour_accuracy: Option<f64>,
}

/// A completed epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochEvent {
    /// The epoch, from 1.
    pub epoch: usize,
    /// Steps made so far.
    pub step: usize,
    /// Mean loss of the epoch's steps.
    pub loss: f64,
    /// Learning rate of its last step.
    pub lr: f64,
    /// Classes of the first head that the epoch's last batch was assigned to (second view): 1 is collapse.
    pub used_classes: usize,
    /// Mean of the steps' neighbour accuracy, where known.
    pub neighbour_accuracy: Option<f64>,
    /// Wall-clock seconds since the epoch, or this process's part of it, began.
    pub seconds: f64,
    /// Images per second of wall-clock time.
    pub images_per_second: f64,
}

/// What the model makes of the monitor's images after an epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MonitorEvent {
    /// The epoch, from 1.
    pub epoch: usize,
    /// Steps made so far.
    pub step: usize,
    /// Number of images.
    pub samples: usize,
    /// Each head.
    pub heads: Vec<HeadMeasures>,
    /// NMI of two heads, averaged over all pairs, where there are several.
    pub agreement: Option<f64>,
    /// Fraction of images whose class has the most votes of their nearest neighbours, where labels exist.
    pub knn: Option<f64>,
    /// Wall-clock seconds that this took.
    pub seconds: f64,
}

/// A head's clusters; the measures of agreement where labels exist.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeadMeasures {
    /// The head, from 0.
    pub head: usize,
    /// Clusters it has.
    pub clusters: usize,
    /// Clusters that occur.
    pub used: usize,
    /// exp of the entropy of their sizes.
    pub effective: f64,
    /// Normalised mutual information with the labels.
    pub nmi: Option<f64>,
    /// Adjusted mutual information with the labels.
    pub ami: Option<f64>,
    /// Adjusted Rand index with the labels.
    pub ari: Option<f64>,
    /// Clustering accuracy.
    pub acc: Option<f64>,
}
