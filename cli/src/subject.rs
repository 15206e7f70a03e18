//! What is evaluated: a run, a checkpoint, an exported file or raw pixels, each as a network that core can run.

use crate::args::{BackendArgs, EngineArgs};
use crate::config_args;
use crate::error::{CliError, Result};
use selfcls_backends::Opened;
use selfcls_core::Config;
use selfcls_core::checkpoint::{self, Manifest};
use selfcls_core::config::Precision;
use selfcls_core::data::Source;
use selfcls_core::eval::features::{Key, file_fingerprint};
use selfcls_core::eval::{
    Extracted, Extractor, Features, Keep, ModelNetwork, Network, PixelNetwork,
};
use selfcls_core::model::{SelfClassifier, state_dict, with_state_dict};
use selfcls_core::preprocess::Preprocess;
use selfcls_core::pretrained;
use selfcls_core::runtime::Runtime;
use selfcls_core::weights::StateDict;
use selfcls_export::Classifier;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::progress::Progress;

/// A network with what evaluation needs to know of it.
pub(crate) struct Subject {
    network: Box<dyn Network>,
    preprocess: Preprocess,
    temperature: f32,
    batch_size: usize,
    /// Index and number of classes of each head, in the order of the network's logits.
    heads: Vec<(usize, usize)>,
    /// What runs it, for people.
    pub(crate) engine: String,
    /// What tells the weights from any other.
    identity: String,
    /// Which features it gives: `backbone`, `head` or `pixels`.
    pub(crate) features: &'static str,
    /// How it was trained, the seed apart; none if that is not known.
    pub(crate) recipe: Option<String>,
}

/// Side in pixels of `pixels` without a size.
const PIXELS: usize = 32;

/// Opens the device that `--backend` names.
pub(crate) fn device(args: &BackendArgs) -> Result<Opened> {
    let selection = args.backend.parse().map_err(CliError::usage)?;
    selfcls_backends::open(&selection).map_err(CliError::failure)
}

/// The weights that `path` names: a run, a checkpoint, or a file that `convert` reads. Of a file, the
/// model's configuration is told from the shapes; a backbone alone comes without classifiers. What weights
/// do not tell, preprocessing above all, stands in a TOML file of their name beside them, or is the default:
/// ImageNet's.
pub(crate) fn load(path: &Path) -> Result<(Manifest, StateDict)> {
    if !path.is_file() {
        return Ok(checkpoint::load_model(&checkpoint::find(path)?)?);
    }
    let state = pretrained::read(path, &[])?.state;
    let settings = beside(path);
    let base = match settings.is_file() {
        true => config_args::file(&settings)?,
        false => Config::default(),
    };
    let snapshot = pretrained::evaluable(state, &base)?;
    Ok((snapshot.manifest, snapshot.model))
}

/// `weights.toml` for `weights.safetensors`, `weights.pth` and `weights.pth.tar`.
fn beside(weights: &Path) -> PathBuf {
    let tar = weights.extension().is_some_and(|ending| ending == "tar");
    let inner = if tar {
        weights.with_extension("")
    } else {
        weights.to_path_buf()
    };
    inner.with_extension("toml")
}

/// The weights of a checkpoint as a model for inference on `runtime`'s device. Where they are a backbone
/// alone, the head is as it was initialised, and there are no classifiers.
pub(crate) fn model(
    manifest: &Manifest,
    weights: &StateDict,
    runtime: &Runtime,
) -> Result<SelfClassifier> {
    let fresh = manifest.config.model.init(&runtime.device, 0);
    if manifest.config.model.heads.is_empty() {
        let state = pretrained::with_backbone(state_dict(&fresh), weights)?;
        return Ok(with_state_dict(fresh, &state)?);
    }
    Ok(with_state_dict(fresh, weights)?)
}

impl Subject {
    /// Opens what `path` names; a checkpoint's network gives `features`, an exported file embeddings. `pixels` or
    /// `pixels:SIDE` is no file but the images themselves, as a baseline.
    pub(crate) fn open(
        path: &Path,
        backend: &BackendArgs,
        engine: &EngineArgs,
        features: Features,
    ) -> Result<Self> {
        let onnx = path
            .extension()
            .is_some_and(|ending| ending.eq_ignore_ascii_case("onnx"));
        if let Some(side) = pixels_side(path) {
            Self::pixels(side)
        } else if onnx {
            let mut subject = Self::exported(Classifier::open(path, &engine.options())?);
            subject.identity = file_fingerprint(path)?;
            Ok(subject)
        } else {
            Self::checkpoint(path, &device(backend)?, features)
        }
    }

    /// An exported file.
    pub(crate) fn exported(classifier: Classifier) -> Self {
        let metadata = classifier.metadata();
        Self {
            preprocess: metadata.preprocess.clone(),
            temperature: metadata.row_temperature,
            batch_size: 64,
            heads: metadata
                .heads
                .iter()
                .map(|head| (head.index, head.classes))
                .collect(),
            engine: classifier.engine().to_string(),
            identity: String::new(),
            features: "head",
            recipe: None,
            network: Box::new(classifier),
        }
    }

    /// Raw pixels; `side` is empty or `:SIDE`.
    fn pixels(side: &str) -> Result<Self> {
        const LARGEST: usize = 1024;
        let number = match side.strip_prefix(':') {
            None if side.is_empty() => Some(PIXELS),
            None => None,
            Some(number) => number.parse().ok(),
        };
        let Some(side @ 1..=LARGEST) = number else {
            return Err(CliError::usage(format!(
                "pixels{side} is not pixels or pixels:SIDE with a side of 1 to {LARGEST}"
            ))
            .hint("a run of that name is reached as ./pixels"));
        };
        let network = PixelNetwork { side };
        Ok(Self {
            preprocess: network.preprocess(),
            temperature: 1.0,
            batch_size: 256,
            heads: Vec::new(),
            engine: format!("raw pixels, {side} x {side}"),
            identity: "pixels".into(),
            features: "pixels",
            recipe: None,
            network: Box::new(network),
        })
    }

    fn checkpoint(path: &Path, opened: &Opened, features: Features) -> Result<Self> {
        let (manifest, weights) = load(path)?;
        let identity = match manifest.files.get("model.safetensors") {
            Some(entry) => entry.sha256.clone(),
            None => file_fingerprint(path)?,
        };
        let config = &manifest.config;
        let runtime = opened.runtime(Precision::F32).map_err(CliError::failure)?;
        let model = model(&manifest, &weights, &runtime)?;
        Ok(Self {
            preprocess: config.preprocess(),
            temperature: config.loss.row_temperature as f32,
            batch_size: config.eval.batch_size,
            heads: config.model.heads.iter().copied().enumerate().collect(),
            engine: opened.name.clone(),
            // The same weights mean something else in another architecture.
            identity: format!("{identity} {:?}", config.model),
            features: match features {
                Features::Backbone => "backbone",
                Features::Embedding => "head",
            },
            recipe: Some(recipe(config)),
            network: Box::new(ModelNetwork::new(model, runtime, features)),
        })
    }

    /// Where head `index` stands among the network's logits, and its number of classes.
    pub(crate) fn head(&self, index: usize) -> Result<(usize, usize)> {
        let found = self.heads.iter().position(|&(known, _)| known == index);
        found
            .map(|position| (position, self.heads[position].1))
            .ok_or_else(|| {
                let known: Vec<String> = self
                    .heads
                    .iter()
                    .map(|(index, _)| index.to_string())
                    .collect();
                CliError::usage(format!(
                    "--head {index}: the model has no such head; it has {}",
                    known.join(", ")
                ))
            })
    }

    /// What the network makes of `source` depends on this.
    pub(crate) fn key(&self, source: &dyn Source) -> Key {
        Key::new(
            self.identity.as_str(),
            source,
            &self.preprocess,
            self.temperature,
            self.features,
        )
    }

    /// Index and number of classes of each head, in the order of the network's logits.
    pub(crate) fn heads(&self) -> &[(usize, usize)] {
        &self.heads
    }

    /// Runs the network over `source`, or takes what an earlier run has left.
    pub(crate) fn extract(
        &mut self,
        source: &Arc<dyn Source>,
        name: &'static str,
        keep: Keep,
        progress: Progress,
    ) -> Result<Extracted> {
        let extractor = Extractor {
            preprocess: self.preprocess.clone(),
            batch_size: self.batch_size,
            workers: 0,
            temperature: self.temperature,
            keep,
        };
        if let Some(extracted) = extractor.cached()? {
            progress.note(&format!("{name}: {} images from the cache", source.len()));
            return Ok(extracted);
        }
        let mut stage = progress.stage(name, source.len() as u64);
        let extracted = extractor.run(source, &mut *self.network, &mut |done| {
            stage.set(done as u64, "");
        })?;
        stage.finish(&format!("{} images with {}", source.len(), self.engine));
        Ok(extracted)
    }
}

/// The settings without the seed: runs that share them are repetitions of one experiment.
fn recipe(config: &Config) -> String {
    let mut config = config.clone();
    config.train.seed = 0;
    config.to_toml()
}

/// What follows `pixels` where `path` is that word, alone or with `:SIDE`.
fn pixels_side(path: &Path) -> Option<&str> {
    let side = path.to_str()?.strip_prefix("pixels")?;
    (side.is_empty() || side.starts_with(':')).then_some(side)
}
