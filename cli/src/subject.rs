//! What is evaluated: a run, a checkpoint or an exported file, each as a network that core can run.

use crate::args::{BackendArgs, EngineArgs};
use crate::error::{CliError, Result};
use selfcls_backends::Opened;
use selfcls_core::Config;
use selfcls_core::checkpoint::{self, Manifest};
use selfcls_core::data::Source;
use selfcls_core::eval::{Extracted, Features, ModelNetwork, Network, extract};
use selfcls_core::model::{SelfClassifier, state_dict, with_state_dict};
use selfcls_core::preprocess::Preprocess;
use selfcls_core::pretrained;
use selfcls_core::runtime::Runtime;
use selfcls_core::weights::StateDict;
use selfcls_export::Classifier;
use std::path::Path;
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
}

/// Opens the device that `--backend` names.
pub(crate) fn device(args: &BackendArgs) -> Result<Opened> {
    let selection = args.backend.parse().map_err(CliError::usage)?;
    selfcls_backends::open(&selection).map_err(CliError::failure)
}

/// The weights that `path` names: a run, a checkpoint, or a file that `convert` reads. Of a file, the
/// model's configuration is told from the shapes and the preprocessing is the default, ImageNet's; a
/// backbone alone comes without classifiers.
pub(crate) fn load(path: &Path) -> Result<(Manifest, StateDict)> {
    if !path.is_file() {
        return Ok(checkpoint::load_model(&checkpoint::find(path)?)?);
    }
    let state = pretrained::read(path, &[])?.state;
    let snapshot = pretrained::evaluable(state, &Config::default())?;
    Ok((snapshot.manifest, snapshot.model))
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
    /// Opens what `path` names; a checkpoint's network gives `features`, an exported file embeddings.
    pub(crate) fn open(
        path: &Path,
        backend: &BackendArgs,
        engine: &EngineArgs,
        features: Features,
    ) -> Result<Self> {
        let onnx = path
            .extension()
            .is_some_and(|ending| ending.eq_ignore_ascii_case("onnx"));
        if onnx {
            Ok(Self::exported(Classifier::open(path, &engine.options())?))
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
            network: Box::new(classifier),
        }
    }

    fn checkpoint(path: &Path, opened: &Opened, features: Features) -> Result<Self> {
        let (manifest, weights) = load(path)?;
        let config = &manifest.config;
        let runtime = Runtime::new(opened.device.clone());
        let model = model(&manifest, &weights, &runtime)?;
        Ok(Self {
            preprocess: config.preprocess(),
            temperature: config.loss.row_temperature as f32,
            batch_size: config.eval.batch_size,
            heads: config.model.heads.iter().copied().enumerate().collect(),
            engine: opened.name.clone(),
            network: Box::new(ModelNetwork::new(model, runtime, features)),
        })
    }

    /// Where head `index` stands among the network's logits, and its number of classes.
    pub(crate) fn head(&self, index: usize) -> Result<(usize, usize)> {
        let found = self.heads.iter().position(|&(known, _)| known == index);
        if self.heads.is_empty() {
            return Err(
                CliError::failure("the weights are a backbone's, without classifiers")
                    .hint("its features can be evaluated: eval knn"),
            );
        }
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

    /// Runs the network over `source`.
    pub(crate) fn extract(
        &mut self,
        source: &Arc<dyn Source>,
        name: &'static str,
        progress: Progress,
    ) -> Result<Extracted> {
        let mut stage = progress.stage(name, source.len() as u64);
        let extracted = extract(
            Arc::clone(source),
            &self.preprocess,
            self.batch_size,
            0,
            self.temperature,
            &mut *self.network,
            &mut |done| stage.set(done as u64, ""),
        )?;
        stage.finish(&format!("{} images with {}", source.len(), self.engine));
        Ok(extracted)
    }
}
