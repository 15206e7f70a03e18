//! The part of a checkpoint that is not arrays.

use crate::config::Config;
use crate::loss_scale::LossScale;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// The checkpoint format this version writes, and the newest it reads.
pub const FORMAT: u32 = 1;

/// Updates made by the optimiser, per parameter.
pub type OptimizerSteps = BTreeMap<String, usize>;

/// The manifest of a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of the layout, see [`FORMAT`].
    pub format: u32,
    /// Version of selfcls that wrote it.
    pub version: String,
    /// Where the run stands.
    pub position: Position,
    /// Images in the training data; a resumed run must find as many.
    pub samples: usize,
    /// Updates made by the optimiser, per parameter.
    pub optimizer_steps: OptimizerSteps,
    /// The factor on the loss; none where the precision needs none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_scale: Option<LossScale>,
    /// The queue's ring position; none without a queue.
    pub queue: Option<QueuePosition>,
    /// Size and SHA-256 of every other file.
    pub files: BTreeMap<String, FileEntry>,
    /// The resolved configuration. Random streams and the learning rate follow from it and the position.
    pub config: Config,
}

/// Where a run stands, between two steps.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// Steps made since the beginning.
    pub step: usize,
    /// Steps in an epoch.
    pub steps_per_epoch: usize,
    /// Sum of the losses of the current epoch's steps, for its mean.
    pub epoch_loss_sum: f64,
    /// Mean loss of the last complete epoch; none in the first.
    pub epoch_loss: Option<f64>,
    /// The lowest mean loss of an epoch before the run began here: of a training of the authors' that it continues.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best_loss: Option<f64>,
}

impl Position {
    /// Complete epochs.
    pub fn epoch(&self) -> usize {
        self.step / self.steps_per_epoch.max(1)
    }

    /// Steps made in the current epoch.
    pub fn step_in_epoch(&self) -> usize {
        self.step % self.steps_per_epoch.max(1)
    }
}

/// The queue's ring position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueuePosition {
    /// Row that the next push starts at.
    pub next: usize,
    /// Whether every row has been written.
    pub full: bool,
}

/// Size and hash of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Length in bytes.
    pub bytes: u64,
    /// SHA-256, lower-case hexadecimal.
    pub sha256: String,
}

impl Manifest {
    /// Parses the manifest file at `path`.
    pub(super) fn parse(path: &Path, text: &str) -> Result<Self> {
        #[derive(Deserialize)]
        struct Version {
            format: u32,
            version: String,
        }
        // The format is read on its own first: a newer layout need not parse as this one.
        let Version { format, version } =
            serde_json::from_str(text).map_err(|error| Error::malformed(path, error))?;
        if format > FORMAT {
            return Err(Error::malformed(
                path,
                format!(
                    "written by selfcls {version} in format {format}; this version reads up to {FORMAT}: update selfcls"
                ),
            ));
        }
        serde_json::from_str(text).map_err(|error| Error::malformed(path, error))
    }
}
