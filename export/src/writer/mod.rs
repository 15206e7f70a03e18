//! Trained classifier to ONNX, by an emitter of our own: stable names, folded normalisations, metadata,
//! and the same bytes for the same model.

mod file;
mod fold;
mod graph;
mod head;
mod layers;
mod proto;
mod resnet;
mod vit;
mod weights;

use crate::{Error, Result, names};
use graph::{Graph, Value};
use layers::Emitter;
use prost::Message;
use proto::{IR_VERSION, ModelProto, OPSET, OperatorSetIdProto, StringStringEntryProto};
use selfcls_core::config::{Layout, ModelConfig};
use selfcls_core::metadata::Metadata;
use selfcls_core::weights::StateDict;
use std::path::Path;
use weights::Weights;

/// The largest protobuf message that readers accept.
const MAX_BYTES: usize = i32::MAX as usize;

/// Which classifiers go into the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HeadSelection {
    /// All of them; the metadata's default head gives `probabilities`.
    #[default]
    All,
    /// Only the one at this index, which becomes the default head. Its output keeps its index:
    /// `logits.<index>`.
    One(usize),
}

/// Writes a trained model as ONNX; see the [crate documentation](crate#the-file) for what is in the file.
#[derive(Debug, Clone)]
pub struct OnnxWriter<'a> {
    model: &'a ModelConfig,
    weights: &'a StateDict,
    metadata: Metadata,
    heads: HeadSelection,
}

impl<'a> OnnxWriter<'a> {
    /// A writer for `model` with `weights` by torchvision's and the authors' names.
    ///
    /// `metadata` describe the whole model (all heads, as [`Metadata::new`] makes them, perhaps with class
    /// names); what a [`HeadSelection`] leaves out is dropped from the file's metadata too.
    pub fn new(model: &'a ModelConfig, weights: &'a StateDict, metadata: Metadata) -> Self {
        Self {
            model,
            weights,
            metadata,
            heads: HeadSelection::All,
        }
    }

    /// Chooses the classifiers; all by default.
    #[must_use]
    pub fn heads(mut self, heads: HeadSelection) -> Self {
        self.heads = heads;
        self
    }

    /// The file's bytes; the same for the same arguments.
    ///
    /// # Errors
    /// - [`Error::Request`] if the model has no such head or the metadata describe another model;
    /// - [`Error::Weights`] listing every weight that is missing, left over, mis-shaped or not finite;
    /// - [`Error::Core`] if the metadata are impossible.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let metadata = self.selected_metadata()?;
        let properties = metadata.to_properties()?;
        let model = ModelProto {
            ir_version: IR_VERSION,
            producer_name: "selfcls".to_owned(),
            producer_version: env!("CARGO_PKG_VERSION").to_owned(),
            graph: Some(self.graph(&metadata)?),
            opset_import: vec![OperatorSetIdProto {
                domain: Some(String::new()),
                version: OPSET,
            }],
            metadata_props: properties
                .into_iter()
                .map(|(key, value)| StringStringEntryProto { key, value })
                .collect(),
        };
        let size = model.encoded_len();
        if size > MAX_BYTES {
            return Err(Error::Request(format!(
                "the file would have {size} bytes, but a protobuf message ends at {MAX_BYTES}; export one head instead of all, or a smaller model"
            )));
        }
        Ok(model.encode_to_vec())
    }

    /// Writes the file: beside `path` first, then renamed onto it.
    ///
    /// # Errors
    /// As [`Self::to_bytes`], and [`Error::Core`] if the file cannot be written; then nothing at `path` has changed.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        file::replace(path.as_ref(), &self.to_bytes()?)
    }

    /// The metadata of the exported heads, after checking that they speak of this model.
    fn selected_metadata(&self) -> Result<Metadata> {
        let described: Vec<_> = self
            .metadata
            .heads
            .iter()
            .map(|h| (h.index, h.classes))
            .collect();
        let own: Vec<_> = self.model.heads.iter().copied().enumerate().collect();
        if described != own || self.metadata.embedding_dim != self.model.dim {
            return Err(Error::Request(format!(
                "the metadata describe another model: heads (index, classes) {described:?} and embedding {}, but the model has {own:?} and {}",
                self.metadata.embedding_dim, self.model.dim
            )));
        }
        if self.model.head_layers == 0 && self.model.dim != self.model.backbone_dim() {
            return Err(Error::Request(format!(
                "model.head_layers = 0 leaves {} features, but model.dim = {}",
                self.model.backbone_dim(),
                self.model.dim
            )));
        }
        if let Layout::Transformer(net) = self.model.layout() {
            let crop = self.metadata.preprocess.crop;
            if net.patch == 0 || net.grid == 0 || !crop.is_multiple_of(net.patch) {
                return Err(Error::Request(format!(
                    "images of {crop} pixels are not whole patches of model.patch_size = {}",
                    net.patch
                )));
            }
        }
        let mut metadata = self.metadata.clone();
        if let HeadSelection::One(index) = self.heads {
            metadata.heads.retain(|head| head.index == index);
            metadata.default_head = index;
            if metadata.heads.is_empty() {
                return Err(Error::Request(format!(
                    "the model has no head {index}; its heads are 0 to {} with {:?} classes",
                    own.len().saturating_sub(1),
                    self.model.heads
                )));
            }
        }
        Ok(metadata)
    }

    fn graph(&self, metadata: &Metadata) -> Result<proto::GraphProto> {
        let model = self.model;
        let mut e = Emitter {
            graph: Graph::default(),
            weights: Weights::new(self.weights),
        };
        let image = Value::named(names::IMAGE);
        let crop = metadata.preprocess.crop;
        let features = match model.layout() {
            Layout::Residual(net) => resnet::emit(&mut e, net, &image),
            Layout::Transformer(net) => vit::emit(&mut e, net, crop, &image),
        };
        let embedding = head::embedding(&mut e, model, &features);
        let mut outputs = Vec::new();
        for (index, &classes) in model.heads.iter().enumerate() {
            let exported = metadata.head(index).is_some();
            let logits =
                head::classifier(&mut e, index, classes, exported, (&embedding, model.dim));
            if let Some(logits) = logits {
                outputs.push((names::logits(index), classes));
                if index == metadata.default_head {
                    e.softmax(names::PROBABILITIES, metadata.row_temperature, &logits);
                }
            }
        }
        e.weights.finish()?;
        let default = metadata
            .head(metadata.default_head)
            .map_or(0, |head| head.classes);
        outputs.push((names::PROBABILITIES.to_owned(), default));
        outputs.push((names::EMBEDDING.to_owned(), model.dim));
        Ok(e.graph
            .finish("selfcls", (names::IMAGE, &[3, crop, crop]), &outputs))
    }
}
