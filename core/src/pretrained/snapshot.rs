//! Other people's checkpoints as our own.

use super::architecture::architecture;
use super::authors::AuthorsCheckpoint;
use crate::checkpoint::{FORMAT, Manifest, OptimizerState, Position, QueueState, Snapshot};
use crate::config::{Config, OptimKind};
use crate::weights::StateDict;
use crate::{Error, Result};
use std::collections::BTreeMap;

/// A checkpoint of the whole model `state`, for evaluation, export and `pretrained.file`: it has no
/// optimiser, and training does not continue from it. Settings are those of `base`, the model's those
/// that the shapes tell.
///
/// # Errors
/// If `state` lacks head or classifiers, or is of no model that this version has.
pub fn snapshot(state: StateDict, base: &Config) -> Result<Snapshot> {
    let config = config_of(&state, base)?;
    Ok(assemble(config, state, 0, unknown_position(0)))
}

/// As [`snapshot`], and of a backbone alone a model without classifiers (`model.heads` is empty): enough
/// to evaluate its features.
///
/// # Errors
/// If `state` is of no model that this version has.
pub fn evaluable(state: StateDict, base: &Config) -> Result<Snapshot> {
    if state.contains_key("cls_0.weight_v") {
        return snapshot(state, base);
    }
    let mut config = base.clone();
    config.model = architecture(&state, &base.model)?;
    config.model.heads = Vec::new();
    let position = unknown_position(0);
    Ok(assemble(config, state, 0, position))
}

/// A checkpoint from which training continues where the authors' stopped, on `samples` images with the
/// settings of `base`; the model's and the queue's length are the file's.
///
/// # Errors
/// If the settings of `base` are not those of the file, as far as it tells; all differences are listed.
pub fn resumable(authors: AuthorsCheckpoint, base: &Config, samples: usize) -> Result<Snapshot> {
    let mut config = config_of(&authors.model, base)?;
    let queue = authors.queue;
    config.queue.length = queue.as_ref().map_or(0, |queue| queue.indices.len());
    compare(&authors.optimizer, &queue, &config)?;
    let steps_per_epoch = samples / config.train.batch_size.max(1);
    if steps_per_epoch == 0 {
        return Err(Error::Checkpoint(format!(
            "{samples} images are fewer than one batch of train.batch_size = {}",
            config.train.batch_size
        )));
    }
    let position = Position {
        step: authors.epoch * steps_per_epoch,
        steps_per_epoch,
        epoch_loss_sum: 0.0,
        epoch_loss: None,
    };
    let mut optimizer = authors.optimizer.state;
    for steps in optimizer.steps.values_mut().filter(|steps| **steps == 0) {
        // SGD does not count; ours counts for every rule.
        *steps = position.step;
    }
    Ok(Snapshot {
        optimizer,
        queue,
        ..assemble(config, authors.model, samples, position)
    })
}

/// Lists what the file says otherwise than the configuration.
fn compare(
    optimizer: &super::AuthorsOptimizer,
    queue: &Option<QueueState>,
    config: &Config,
) -> Result<()> {
    let mut problems = Vec::new();
    let sgd = matches!(config.optim.kind, OptimKind::Sgd | OptimKind::Larc);
    if optimizer.adamw == sgd && !optimizer.state.moments.is_empty() {
        let kind = if optimizer.adamw {
            "adamw"
        } else {
            "sgd or larc"
        };
        problems.push(format!("its optimiser is {kind}: set optim.kind"));
    }
    if let Some(momentum) = optimizer.momentum
        && momentum != config.optim.momentum
    {
        problems.push(format!(
            "its momentum is {momentum}, optim.momentum is {}",
            config.optim.momentum
        ));
    }
    if let Some(&decay) = optimizer.weight_decays.first()
        && decay != config.optim.weight_decay
    {
        problems.push(format!(
            "its weight decay is {decay}, optim.weight_decay is {}",
            config.optim.weight_decay
        ));
    }
    if let Some(queue) = queue
        && queue.embeddings.len() != queue.indices.len() * config.model.dim
    {
        problems.push(format!(
            "its queue is not of embeddings of width {}, as its model gives",
            config.model.dim
        ));
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(Error::Checkpoint(format!(
        "training cannot continue from this checkpoint with these settings: {}",
        problems.join("; ")
    )))
}

fn config_of(state: &StateDict, base: &Config) -> Result<Config> {
    if !state.contains_key("cls_0.weight_v") {
        return Err(Error::Checkpoint(
            "the weights are a backbone's, without classifiers: a training can start from them (train --pretrained FILE --pretrained.parts backbone), but they are no checkpoint".into(),
        ));
    }
    let mut config = base.clone();
    config.model = architecture(state, &base.model)?;
    Ok(config)
}

/// A position that tells the epochs, and that no data fits.
fn unknown_position(epochs: usize) -> Position {
    Position {
        step: epochs,
        steps_per_epoch: 1,
        epoch_loss_sum: 0.0,
        epoch_loss: None,
    }
}

fn assemble(config: Config, model: StateDict, samples: usize, position: Position) -> Snapshot {
    Snapshot {
        manifest: Manifest {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").into(),
            position,
            samples,
            optimizer_steps: BTreeMap::new(),
            loss_scale: None,
            queue: None,
            files: BTreeMap::new(),
            config,
        },
        model,
        optimizer: OptimizerState::default(),
        queue: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pretrained::{authors_checkpoint, read};
    use std::path::{Path, PathBuf};

    fn file() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/authors_checkpoint.pth.tar")
    }

    fn settings() -> Config {
        let mut config = Config::default();
        config.optim.kind = OptimKind::Larc;
        config.optim.weight_decay = 1e-6;
        config.train.batch_size = 4;
        config
    }

    #[test]
    fn the_authors_training_goes_on_where_it_stopped() {
        let snapshot = resumable(authors_checkpoint(&file()).expect("reads"), &settings(), 42)
            .expect("continues");
        let position = snapshot.manifest.position;
        assert_eq!((position.steps_per_epoch, position.step), (10, 30));
        assert_eq!((position.epoch(), position.step_in_epoch()), (3, 0));
        assert_eq!(snapshot.manifest.config.queue.length, 16);
        assert_eq!(snapshot.manifest.config.model.heads, [10, 20]);
        assert!(snapshot.optimizer.steps.values().all(|&steps| steps == 30));
        // It is one of our checkpoints: saved, loaded, the same.
        let run = tempfile::tempdir().expect("a folder");
        let path = crate::checkpoint::save(run.path(), &snapshot).expect("saves");
        let loaded = crate::checkpoint::load(&path).expect("loads");
        assert_eq!(loaded.model, snapshot.model);
        assert_eq!(loaded.optimizer, snapshot.optimizer);
        assert_eq!(loaded.queue, snapshot.queue);
    }

    #[test]
    fn other_settings_are_all_listed() {
        let mut config = settings();
        config.optim.kind = OptimKind::AdamW;
        config.optim.momentum = 0.5;
        config.optim.weight_decay = 0.1;
        let authors = authors_checkpoint(&file()).expect("reads");
        let message = resumable(authors.clone(), &config, 42)
            .expect_err("refused")
            .to_string();
        for part in [
            "optim.kind",
            "optim.momentum is 0.5",
            "optim.weight_decay is 0.1",
        ] {
            assert!(message.contains(part), "{message}");
        }
        let message = resumable(authors, &settings(), 3)
            .expect_err("refused")
            .to_string();
        assert!(message.contains("fewer than one batch"), "{message}");
    }

    #[test]
    fn weights_alone_are_no_training() {
        let state = read(&file(), &[]).expect("reads").state;
        let made = snapshot(state.clone(), &Config::default()).expect("a model");
        assert_eq!((made.manifest.samples, made.model), (0, state.clone()));
        assert!(made.optimizer.moments.is_empty());
        let backbone = state
            .into_iter()
            .filter(|(name, _)| name.starts_with("backbone."))
            .collect();
        let message = snapshot(backbone, &Config::default())
            .expect_err("refused")
            .to_string();
        assert!(message.contains("--pretrained.parts backbone"), "{message}");
    }
}
