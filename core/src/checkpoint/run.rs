//! The run directory: finding, keeping and locking its checkpoints.

use super::{MANIFEST, Manifest, load_manifest};
use crate::{Error, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// How many of the newest checkpoints stay.
const NEWEST: usize = 2;

/// The checkpoints of a run directory, oldest first.
///
/// # Errors
/// If the folder cannot be read. A run without checkpoints has none: no error.
pub fn list(run: &Path) -> Result<Vec<PathBuf>> {
    let folder = run.join("checkpoints");
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("read", &folder)(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(Error::io("read", &folder))?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let step = name
            .and_then(|name| name.strip_prefix("step-"))
            .and_then(|step| step.parse::<u64>().ok());
        if let Some(step) = step {
            found.push((step, path));
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// Written after the name of a run directory: its best checkpoint.
const BEST: &str = "@best";

/// The checkpoint that `path` means: itself, the newest of a run directory, or with `@best` after the directory's
/// name the one of the epoch with the lowest mean loss.
///
/// # Errors
/// If `path` is none of these, saying what it is.
pub fn find(path: &Path) -> Result<PathBuf> {
    if path.join(MANIFEST).is_file() {
        return Ok(path.to_path_buf());
    }
    if !path.exists() {
        if let Some(run) = path.to_str().and_then(|path| path.strip_suffix(BEST)) {
            return best(Path::new(run));
        }
        return Err(Error::Checkpoint(format!(
            "{} does not exist; give a run directory, one of its checkpoints, or a .onnx file",
            path.display()
        )));
    }
    if path.is_file() {
        return Err(Error::Checkpoint(format!(
            "{} is a file; give a run directory or one of its checkpoints",
            path.display()
        )));
    }
    list(path)?.pop().ok_or_else(|| {
        Error::Checkpoint(format!(
            "{} holds no checkpoint; a run directory has them under checkpoints/, written at the end of each epoch",
            path.display()
        ))
    })
}

/// The checkpoint of `run` that ends the epoch with the lowest mean loss.
fn best(run: &Path) -> Result<PathBuf> {
    if !run.is_dir() {
        return Err(Error::Checkpoint(format!(
            "{} is no run directory; {BEST} goes after the name of one",
            run.display()
        )));
    }
    let all = list(run)?;
    lowest(&manifests(&all)?)
        .map(|best| all[best].clone())
        .ok_or_else(|| {
            Error::Checkpoint(format!(
                "{} has no checkpoint of its best epoch: none has ended, or the weights it began from were better; give it without {BEST} for the newest",
                run.display()
            ))
        })
}

/// Removes the checkpoints that need not be kept.
pub(super) fn prune(run: &Path) -> Result<()> {
    let all = list(run)?;
    let older = &all[..all.len().saturating_sub(NEWEST)];
    let manifests = manifests(&all)?;
    let best = lowest(&manifests).map(|best| &all[best]);
    for (path, manifest) in older.iter().zip(&manifests) {
        let every = manifest.config.checkpoint.milestone_epochs;
        let position = &manifest.position;
        let milestone =
            every > 0 && position.step_in_epoch() == 0 && position.epoch().is_multiple_of(every);
        if !milestone && Some(path) != best {
            fs::remove_dir_all(path).map_err(Error::io("remove", path))?;
        }
    }
    Ok(())
}

fn manifests(checkpoints: &[PathBuf]) -> Result<Vec<Manifest>> {
    checkpoints.iter().map(|path| load_manifest(path)).collect()
}

/// The one of these checkpoints that ends the epoch with the lowest mean loss, if that is known, and none before the run
/// began here was lower.
fn lowest(manifests: &[Manifest]) -> Option<usize> {
    let ends = manifests
        .iter()
        .enumerate()
        .filter(|(_, manifest)| manifest.position.step_in_epoch() == 0);
    let (best, loss) = ends
        .filter_map(|(index, manifest)| Some((index, manifest.position.epoch_loss?)))
        .min_by(|(_, a), (_, b)| a.total_cmp(b))?;
    let before = manifests[best].position.best_loss;
    before.is_none_or(|before| loss < before).then_some(best)
}
