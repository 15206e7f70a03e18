//! What a run leaves on disk, and how it comes back.
//!
//! A checkpoint is a folder `checkpoints/step-00001560` of safetensors files and a manifest that holds
//! the resolved configuration, the position of the run and the SHA-256 of every file. It is written
//! beside its final name, synced and renamed, so a folder under that name is always whole; the one
//! before is removed only afterwards. Loading checks every byte against the manifest.

mod bundle;
mod files;
mod lock;
mod manifest;
mod run;

pub use bundle::{Files, read};
pub use lock::RunLock;
pub use manifest::{FORMAT, Manifest, OptimizerSteps, Position, QueuePosition};
pub use run::{find, list};

use crate::weights::StateDict;
use crate::{Error, Result, atomic};
use files::{Contents, read_verified, write_synced};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const MODEL: &str = "model.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const QUEUE: &str = "queue.safetensors";
const MANIFEST: &str = "manifest.json";

/// The state of a run between two steps, as plain data.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// Configuration, position and everything else that is not an array.
    pub manifest: Manifest,
    /// Parameters and buffers.
    pub model: StateDict,
    /// Moments of the optimiser.
    pub optimizer: OptimizerState,
    /// The nearest-neighbour queue, where there is one.
    pub queue: Option<QueueState>,
}

/// What a checkpoint keeps of an optimiser.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct OptimizerState {
    /// Moments, flattened, as `<parameter>#<number>`.
    pub moments: StateDict,
    /// Updates made, per parameter.
    pub steps: OptimizerSteps,
}

/// What a checkpoint keeps of a queue.
#[derive(Debug, Clone, PartialEq)]
pub struct QueueState {
    /// `[length, dim]`, row-major.
    pub embeddings: Vec<f32>,
    /// Sample index of each row.
    pub indices: Vec<i64>,
    /// Label of each row; -1 where unknown.
    pub labels: Vec<i64>,
    /// Row that the next push starts at.
    pub next: usize,
    /// Whether every row has been written.
    pub full: bool,
}

fn folder_name(step: usize) -> String {
    format!("step-{step:08}")
}

/// Where the checkpoint after `step` steps of a run is, if there is one.
pub fn folder(run: &Path, step: usize) -> PathBuf {
    run.join("checkpoints").join(folder_name(step))
}

/// Writes `snapshot` as a new checkpoint below `run`, then removes what is no longer to be kept: all
/// but the newest two, the one with the lowest loss and the milestones.
///
/// # Errors
/// Any failure to write; the run's other checkpoints are then as they were.
pub fn save(run: &Path, snapshot: &Snapshot) -> Result<PathBuf> {
    let parent = run.join("checkpoints");
    fs::create_dir_all(&parent).map_err(Error::io("create", &parent))?;
    let step = snapshot.manifest.position.step;
    let (name, target) = (folder_name(step), folder(run, step));
    if target.exists() {
        // The run stopped right after writing it; an equal state needs no second copy.
        return Ok(target);
    }
    let temporary = parent.join(format!(".{name}.partial"));
    if temporary.exists() {
        fs::remove_dir_all(&temporary).map_err(Error::io("remove", &temporary))?;
    }
    fs::create_dir(&temporary).map_err(Error::io("create", &temporary))?;

    let mut manifest = snapshot.manifest.clone();
    manifest.files = BTreeMap::new();
    let mut put = |file: &str, contents: Contents| -> Result<()> {
        let entry = write_synced(&temporary.join(file), &contents)?;
        manifest.files.insert(file.to_string(), entry);
        Ok(())
    };
    put(MODEL, Contents::arrays(&snapshot.model)?)?;
    put(OPTIMIZER, Contents::arrays(&snapshot.optimizer.moments)?)?;
    if let Some(queue) = &snapshot.queue {
        put(QUEUE, Contents::queue(queue)?)?;
    }
    manifest.optimizer_steps = snapshot.optimizer.steps.clone();
    manifest.queue = snapshot.queue.as_ref().map(|queue| QueuePosition {
        next: queue.next,
        full: queue.full,
    });
    write_synced(&temporary.join(MANIFEST), &Contents::json(&manifest)?)?;
    atomic::sync_folder(&temporary)?;
    fs::rename(&temporary, &target).map_err(Error::io("rename", &temporary))?;
    atomic::sync_folder(&parent)?;
    run::prune(run)?;
    Ok(target)
}

/// Reads the manifest of a checkpoint folder.
///
/// # Errors
/// If it is missing, malformed, or of a newer format.
pub fn load_manifest(checkpoint: &Path) -> Result<Manifest> {
    let path = checkpoint.join(MANIFEST);
    let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
    Manifest::parse(&path, &text)
}

/// Reads the weights of a checkpoint folder, all that evaluation and export need.
///
/// # Errors
/// If a file is missing or differs from the manifest.
pub fn load_model(checkpoint: &Path) -> Result<(Manifest, StateDict)> {
    let manifest = load_manifest(checkpoint)?;
    let bytes = read_verified(checkpoint, MODEL, &manifest)?;
    let model = files::parse_arrays(&checkpoint.join(MODEL), &bytes)?;
    Ok((manifest, model))
}

/// Reads everything of a checkpoint folder.
///
/// # Errors
/// If a file is missing or differs from the manifest.
pub fn load(checkpoint: &Path) -> Result<Snapshot> {
    read(checkpoint)?.snapshot()
}

#[cfg(test)]
mod tests;
