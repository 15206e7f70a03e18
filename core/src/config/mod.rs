//! The one configuration type, shared by the command line, presets, checkpoints and tests.
//!
//! A [`Config`] is plain data: serde, TOML, unknown keys refused. [`Config::validate`] turns it into
//! something the rest of the crate may trust, and lists every problem at once. [`Layers`] merges
//! defaults, a preset, a file and command-line values, and remembers where each value came from.

mod backbone;
mod coupling;
mod heads;
mod keys;
mod layers;
mod model;
pub mod presets;
mod pretrained;
mod section;
mod validate;

pub use backbone::{Arch, Layout, Residual, ResidualBlock, Transformer};
pub use coupling::Coupling;
pub use keys::{
    CheckpointConfig, DataConfig, EvalConfig, Interpolation, LossConfig, MonitorConfig,
    OptimConfig, OptimKind, Precision, QueueConfig, Schedule, TrainConfig, ViewsConfig,
};
pub use layers::{Layers, Origin, Resolved};
pub use model::{ClassifierInit, HeadInit, ModelConfig, Stem};
pub use pretrained::{PretrainedConfig, PretrainedParts};
pub use section::Key;

use serde::{Deserialize, Serialize};

/// Everything that determines a training run, apart from the machine it runs on.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the images come from and how they are read.
    pub data: DataConfig,
    /// The random views of a training image.
    pub views: ViewsConfig,
    /// Backbone, head and classifiers.
    pub model: ModelConfig,
    /// The loss.
    pub loss: LossConfig,
    /// The nearest-neighbour queue.
    pub queue: QueueConfig,
    /// Optimiser and learning-rate schedule.
    pub optim: OptimConfig,
    /// Epochs, batch size, seed, precision.
    pub train: TrainConfig,
    /// When checkpoints are written and which are kept.
    pub checkpoint: CheckpointConfig,
    /// Preprocessing outside training: evaluation and the exported file.
    pub eval: EvalConfig,
    /// What is measured after epochs.
    pub monitor: MonitorConfig,
    /// Weights to start from.
    pub pretrained: PretrainedConfig,
}

impl Config {
    /// Every key with its documentation, in the order of the TOML file.
    pub fn keys() -> impl Iterator<Item = &'static Key> {
        [
            DataConfig::KEYS,
            ViewsConfig::KEYS,
            ModelConfig::KEYS,
            LossConfig::KEYS,
            QueueConfig::KEYS,
            OptimConfig::KEYS,
            TrainConfig::KEYS,
            CheckpointConfig::KEYS,
            EvalConfig::KEYS,
            MonitorConfig::KEYS,
            PretrainedConfig::KEYS,
        ]
        .into_iter()
        .flatten()
    }

    /// The configuration as TOML.
    pub fn to_toml(&self) -> String {
        // Invariant: every field is a TOML scalar or a flat list of scalars, which always serialise.
        toml::to_string(self).expect("a configuration is representable in TOML")
    }

    /// Reads a TOML document; keys that are absent take their defaults.
    ///
    /// # Errors
    /// A message with line, column and the unknown key or bad value.
    pub fn from_toml(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| error.to_string())
    }
}
