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
        best_loss: authors.best_loss,
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
    if let Some(decays) = optimizer.weight_decays {
        compare_decays(decays, config, &mut problems);
    }
    compare_classifiers(&optimizer.state.moments, config, &mut problems);
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

/// Weight decays are those of weights, one-dimensional parameters and the backbone's weights.
fn compare_decays(
    [weights, biases, backbone]: [f64; 3],
    config: &Config,
    problems: &mut Vec<String>,
) {
    let optim = &config.optim;
    if weights != optim.weight_decay {
        problems.push(format!(
            "its weight decay is {weights}, optim.weight_decay is {}",
            optim.weight_decay
        ));
    }
    let exempt = biases == 0.0 && weights > 0.0;
    if exempt != (optim.no_bias_weight_decay && weights > 0.0) {
        problems.push(format!(
            "its biases decay by {biases}: set optim.no_bias_weight_decay = {exempt}"
        ));
    }
    let ours = match optim.backbone_weight_decay {
        -1.0 => optim.weight_decay,
        decay => decay,
    };
    if backbone != ours && (backbone != weights || optim.backbone_weight_decay != -1.0) {
        problems.push(format!(
            "the weight decay of its backbone is {backbone}, optim.backbone_weight_decay is {}",
            optim.backbone_weight_decay
        ));
    }
}

/// Parameters that were trained have moments.
fn compare_classifiers(moments: &StateDict, config: &Config, problems: &mut Vec<String>) {
    if moments.is_empty() {
        return;
    }
    let fixed = !moments.keys().any(|name| name.starts_with("cls_"));
    if fixed != config.model.fixed_classifiers {
        let were = if fixed { "fixed" } else { "trained" };
        problems.push(format!(
            "its classifiers were {were}: set model.fixed_classifiers = {fixed}"
        ));
    }
    let gain = moments.contains_key("cls_0.weight_g#0");
    if !fixed && gain != config.model.classifier_gain {
        problems.push(format!(
            "the gain of its classifiers was {}trained: set model.classifier_gain = {gain}",
            if gain { "" } else { "not " }
        ));
    }
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
        best_loss: None,
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
        assert_eq!(position.best_loss, Some(2.649_169_206_619_262_7));
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

    /// Groups of parameters, and which of them were trained, are part of what continues.
    #[test]
    fn groups_and_classifiers_are_compared() {
        let refused = |file: &Path, change: &dyn Fn(&mut Config)| {
            let mut config = settings();
            change(&mut config);
            let authors = authors_checkpoint(file).expect("reads");
            match resumable(authors, &config, 42) {
                Ok(_) => String::new(),
                Err(error) => error.to_string(),
            }
        };
        let fixture = |name: &str| file().with_file_name(name);
        // AdamW over three groups: 0.05, none for biases, 0.2 for the backbone.
        let adamw = |config: &mut Config| {
            config.optim.kind = OptimKind::AdamW;
            config.optim.weight_decay = 0.05;
            config.optim.no_bias_weight_decay = true;
            config.optim.backbone_weight_decay = 0.2;
        };
        let three = fixture("authors_adamw.pth.tar");
        assert_eq!(refused(&three, &adamw), "");
        let message = refused(&three, &|config| {
            adamw(config);
            config.optim.no_bias_weight_decay = false;
            config.optim.backbone_weight_decay = -1.0;
        });
        for said in [
            "optim.no_bias_weight_decay = true",
            "backbone is 0.2, optim.backbone_weight_decay is -1",
        ] {
            assert!(message.contains(said), "{message}");
        }
        // LARC over two groups.
        let two = fixture("authors_groups.pth.tar");
        let larc = |config: &mut Config| {
            config.optim.weight_decay = 0.05;
            config.optim.no_bias_weight_decay = true;
        };
        assert_eq!(refused(&two, &larc), "");
        let message = refused(&two, &|config| {
            larc(config);
            config.optim.backbone_weight_decay = 0.2;
        });
        assert!(message.contains("backbone is 0.05"), "{message}");
        // One group.
        let message = refused(&file(), &|config| config.optim.no_bias_weight_decay = true);
        assert!(
            message.contains("no_bias_weight_decay = false"),
            "{message}"
        );
        let message = refused(&file(), &|config| {
            config.model.fixed_classifiers = true;
        });
        assert!(message.contains("fixed_classifiers = false"), "{message}");
        let message = refused(&file(), &|config| config.model.classifier_gain = false);
        assert!(message.contains("classifier_gain = true"), "{message}");

        // The first version's: fixed ones were numbered all the same, and none had a gain.
        let first = |name: &str| {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pretrained");
            folder.join(name)
        };
        let settings_of = |fixed: bool| {
            move |config: &mut Config| {
                config.optim.weight_decay = 1e-4;
                config.model.fixed_classifiers = fixed;
                config.model.classifier_gain = false;
            }
        };
        assert_eq!(refused(&first("first.pth.tar"), &settings_of(true)), "");
        let learnt = first("first_cifar.pth.tar");
        assert_eq!(refused(&learnt, &settings_of(false)), "");
        let message = refused(&learnt, &|config| {
            settings_of(false)(config);
            config.model.classifier_gain = true;
        });
        assert!(message.contains("classifier_gain = false"), "{message}");
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
