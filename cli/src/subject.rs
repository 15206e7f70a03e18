//! What is evaluated: a run, a checkpoint, an exported file or raw pixels, each as a network that core can run.

use crate::args::{BackendArgs, RunningArgs};
use crate::config_args;
use crate::error::{CliError, Result};
use crate::preprocess_args::{PreprocessArgs, note};
use selfcls_backends::{BackendError, Opened, Rendezvous};
use selfcls_core::Config;
use selfcls_core::checkpoint::{self, Manifest};
use selfcls_core::config::Precision;
use selfcls_core::data::Source;
use selfcls_core::eval::features::{Key, file_fingerprint};
use selfcls_core::eval::{
    Extracted, Extractor, Features, Keep, ModelNetwork, Network, PixelNetwork,
};
use selfcls_core::model::{
    Backbone, SelfClassifier, state_dict, with_state_dict, with_weight_layout,
};
use selfcls_core::preprocess::Preprocess;
use selfcls_core::pretrained;
use selfcls_core::runtime::Runtime;
use selfcls_core::weights::StateDict;
use selfcls_export::Classifier;
use selfcls_export::inference::BackboneOf;
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

/// A backbone that can be trained, on the autodiff device.
pub(crate) struct Trainable {
    pub(crate) backbone: Backbone,
    /// Values of a feature.
    pub(crate) width: usize,
    pub(crate) preprocess: Preprocess,
    /// What tells the weights from any other.
    pub(crate) identity: String,
}

impl Trainable {
    /// The backbone of a run, a checkpoint or a file of weights.
    pub(crate) fn open(
        path: &Path,
        runtime: &Runtime,
        preprocess: &PreprocessArgs,
        progress: Progress,
    ) -> Result<Self> {
        if is_onnx(path) || pixels_side(path).is_some() {
            return Err(CliError::usage(format!(
                "--no-freeze: {} cannot be trained",
                path.display()
            ))
            .hint("give a run, a checkpoint or a file of weights"));
        }
        let (manifest, weights) = load(path, preprocess, progress)?;
        let identity = identity(path, &manifest)?;
        let training = Runtime {
            device: runtime.device.clone().autodiff(),
            ..runtime.clone()
        };
        let model = model(&manifest, &weights, &training)?;
        let model = with_weight_layout(model, &*runtime.kernels);
        Ok(Self {
            backbone: model.backbone,
            width: manifest.config.model.backbone_dim(),
            preprocess: manifest.config.preprocess(),
            identity,
        })
    }
}

/// What tells weights from any others: their hash, with the architecture, in which the same weights mean something else.
fn identity(path: &Path, manifest: &Manifest) -> Result<String> {
    let hash = match manifest.files.get("model.safetensors") {
        Some(entry) => entry.sha256.clone(),
        None => file_fingerprint(path)?,
    };
    Ok(format!("{hash} {:?}", manifest.config.model))
}

fn is_onnx(path: &Path) -> bool {
    path.extension()
        .is_some_and(|ending| ending.eq_ignore_ascii_case("onnx"))
}

/// Side in pixels of `pixels` without a size.
const PIXELS: usize = 32;

/// Opens the device that `--backend` names.
pub(crate) fn device(args: &BackendArgs) -> Result<Opened> {
    let selection = args.backend.parse().map_err(CliError::usage)?;
    selfcls_backends::open(&selection).map_err(CliError::failure)
}

/// Opens the device that `--backend` means for one of several processes.
pub(crate) fn device_of_rank(args: &BackendArgs, place: &Rendezvous) -> Result<Opened> {
    let selection = args.backend.parse().map_err(CliError::usage)?;
    let selection = selfcls_backends::for_rank(selection, place).map_err(|error| match error {
        BackendError::CannotJoin { .. } => CliError::usage(error),
        other => CliError::failure(other),
    })?;
    selfcls_backends::open(&selection).map_err(CliError::failure)
}

/// The weights that `path` names: a run, a checkpoint, or a file that `convert` reads. Of a file, the
/// model's configuration is told from the shapes; a backbone alone comes without classifiers. What weights
/// do not tell, preprocessing above all, stands in a TOML file of their name beside them, or is the default,
/// ImageNet's, which is said; what was typed of it goes over either.
pub(crate) fn load(
    path: &Path,
    preprocess: &PreprocessArgs,
    progress: Progress,
) -> Result<(Manifest, StateDict)> {
    if !path.is_file() {
        let (mut manifest, weights) = checkpoint::load_model(&checkpoint::find(path)?)?;
        preprocess.apply(&mut manifest.config)?;
        return Ok((manifest, weights));
    }
    let state = pretrained::read(path, &[])?.state;
    let settings = beside(path);
    let base = match settings.is_file() {
        true => config_args::file(&settings)?,
        false => Config::default(),
    };
    let snapshot = pretrained::evaluable(state, &base)?;
    let mut manifest = snapshot.manifest;
    preprocess.apply(&mut manifest.config)?;
    note(&manifest.config.preprocess(), progress);
    Ok((manifest, snapshot.model))
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

/// What to do with another program's file, in words for people who type.
fn not_ours(error: selfcls_export::Error) -> CliError {
    match error {
        selfcls_export::Error::Foreign { model, reason } => CliError::failure(format!(
            "{model}: {reason}"
        ))
        .hint("only files that `selfcls-cli export` wrote can be evaluated")
        .hint("`selfcls-cli predict --crop N --resize N` classifies with files of other programs"),
        error => error.into(),
    }
}

impl Subject {
    /// Opens what `path` names; a checkpoint's network gives `features`, and so does an
    /// exported file that has them; others give embeddings. `pixels` or
    /// `pixels:SIDE` is no file but the images themselves, as a baseline.
    pub(crate) fn open(
        path: &Path,
        backend: &BackendArgs,
        running: &RunningArgs,
        features: Features,
        preprocess: &PreprocessArgs,
        progress: Progress,
    ) -> Result<Self> {
        if let Some(side) = pixels_side(path) {
            preprocess.refuse("pixels")?;
            Self::pixels(side)
        } else if is_onnx(path) {
            preprocess.refuse("an exported file")?;
            let classifier = Classifier::open(path, &running.options()).map_err(not_ours)?;
            let mut subject = Self::exported_with(classifier, features);
            subject.identity = file_fingerprint(path)?;
            Ok(subject)
        } else {
            let loaded = load(path, preprocess, progress)?;
            Self::checkpoint(path, loaded, &device(backend)?, features)
        }
    }

    /// An exported file, with its embeddings.
    pub(crate) fn exported(classifier: Classifier) -> Self {
        Self::exported_with(classifier, Features::Embedding)
    }

    /// An exported file, with `features` if it gives them.
    fn exported_with(classifier: Classifier, features: Features) -> Self {
        let metadata = classifier.metadata();
        let backbone = match features {
            Features::Backbone => BackboneOf::new(classifier.clone()),
            Features::Embedding => None,
        };
        Self {
            preprocess: metadata.preprocess.clone(),
            temperature: metadata.row_temperature,
            batch_size: 64,
            heads: classifier.heads(),
            engine: classifier.runs_on(),
            identity: String::new(),
            features: if backbone.is_some() {
                "backbone"
            } else {
                "head"
            },
            recipe: None,
            network: match backbone {
                Some(network) => Box::new(network),
                None => Box::new(classifier),
            },
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

    fn checkpoint(
        path: &Path,
        (manifest, weights): (Manifest, StateDict),
        opened: &Opened,
        features: Features,
    ) -> Result<Self> {
        let identity = identity(path, &manifest)?;
        let config = &manifest.config;
        let runtime = opened.runtime(Precision::F32).map_err(CliError::failure)?;
        let model = model(&manifest, &weights, &runtime)?;
        Ok(Self {
            preprocess: config.preprocess(),
            temperature: config.loss.row_temperature as f32,
            batch_size: config.eval.batch_size,
            heads: config.model.heads.iter().copied().enumerate().collect(),
            engine: opened.name.clone(),
            identity,
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

    /// Images per run of the network.
    pub(crate) fn batch_size(&self) -> usize {
        self.batch_size
    }

    /// From an image to the network's input.
    pub(crate) fn preprocess(&self) -> &Preprocess {
        &self.preprocess
    }

    /// What runs.
    pub(crate) fn network(&mut self) -> &mut dyn Network {
        &mut *self.network
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
        let preprocess = self.preprocess.clone();
        self.extract_with(preprocess, source, name, keep, progress)
    }

    /// As [`extract`](Self::extract), with images prepared otherwise.
    pub(crate) fn extract_with(
        &mut self,
        preprocess: Preprocess,
        source: &Arc<dyn Source>,
        name: &'static str,
        keep: Keep,
        progress: Progress,
    ) -> Result<Extracted> {
        let extractor = Extractor {
            preprocess,
            batch_size: self.batch_size,
            workers: 0,
            temperature: self.temperature,
            keep,
        };
        let images = extractor.images_of(source.len())?;
        if let Some(extracted) = extractor.cached(source.len())? {
            progress.note(&format!("{name}: {images} images from the cache"));
            return Ok(extracted);
        }
        let mut stage = progress.stage(name, images as u64);
        let extracted = extractor.run(source, &mut *self.network, &mut |done| {
            stage.set(done as u64, "");
        })?;
        stage.finish(&format!("{images} images with {}", self.engine));
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
