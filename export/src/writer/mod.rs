//! Trained classifier to ONNX, by an emitter of our own: stable names, folded normalisations, metadata,
//! and the same bytes for the same model.

mod external;
mod file;
mod fold;
mod graph;
mod head;
mod input;
mod layers;
mod options;
mod proto;
mod resnet;
mod vit;
mod weights;

pub use file::StagedFile;
pub use options::{ExternalData, FileOptions, HeadSelection, OPSETS, Output};

use crate::{Error, Result, names};
use external::MAX_BYTES;
use graph::{Axis, Border, Graph, Value};
use layers::Emitter;
use options::Plan;
use prost::Message;
use proto::{FLOAT, GraphProto, ModelProto, OperatorSetIdProto, StringStringEntryProto};
use selfcls_core::config::{Layout, ModelConfig};
use selfcls_core::metadata::{InputKind, Metadata};
use selfcls_core::weights::StateDict;
use std::path::Path;
use weights::Weights;

/// Writes a trained model as ONNX; see the [crate documentation](crate#the-file) for what is in the file.
#[derive(Debug, Clone)]
pub struct OnnxWriter<'a> {
    model: &'a ModelConfig,
    weights: &'a StateDict,
    metadata: Metadata,
    options: FileOptions,
}

impl<'a> OnnxWriter<'a> {
    /// A writer for `model` with `weights` by torchvision's and the authors' names.
    ///
    /// `metadata` describe the whole model (all heads, as [`Metadata::new`] makes them, perhaps with class
    /// names); what the [`FileOptions`] leave out is dropped from the file's metadata too.
    pub fn new(model: &'a ModelConfig, weights: &'a StateDict, metadata: Metadata) -> Self {
        Self {
            model,
            weights,
            metadata,
            options: FileOptions::default(),
        }
    }

    /// Makes the file's choices; see [`FileOptions`] for what it has without.
    #[must_use]
    pub fn options(mut self, options: FileOptions) -> Self {
        self.options = options;
        self
    }

    /// The file's metadata.
    ///
    /// # Errors
    /// [`Error::Request`] if the options contradict the model or each other.
    pub fn metadata(&self) -> Result<Metadata> {
        Ok(self.options.plan(self.model, &self.metadata)?.metadata)
    }

    /// The names of the file's outputs, in order.
    ///
    /// # Errors
    /// As [`Self::metadata`].
    pub fn outputs(&self) -> Result<Vec<String>> {
        let plan = self.options.plan(self.model, &self.metadata)?;
        let borders = self.output_borders(&plan);
        Ok(borders.into_iter().map(|border| border.name).collect())
    }

    /// The file's bytes, weights included; the same for the same arguments.
    ///
    /// # Errors
    /// - [`Error::Request`] if the options contradict the model or each other, the metadata describe another
    ///   model, or the file would be larger than protobuf allows;
    /// - [`Error::Weights`] listing every weight that is missing, left over, mis-shaped or not finite;
    /// - [`Error::Core`] if the metadata are impossible.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let plan = self.options.plan(self.model, &self.metadata)?;
        let model = self.model_proto(&plan, self.output_borders(&plan))?;
        let size = model.encoded_len();
        if size > MAX_BYTES {
            return Err(Error::Request(format!(
                "the file would have {size} bytes, but a protobuf message ends at {MAX_BYTES}; keep the weights beside it (external data), store them in 16 bits, or export fewer heads"
            )));
        }
        Ok(model.encode_to_vec())
    }

    /// A file whose input is this one's and whose only output is the value that the backbone reads, `input`
    /// `[batch, 3, height, width]`: what the file itself does of the preprocessing. None if it does nothing.
    ///
    /// # Errors
    /// As [`Self::to_bytes`].
    pub fn preprocessing(&self) -> Result<Option<Vec<u8>>> {
        if self.options.input == InputKind::Float {
            return Ok(None);
        }
        let plan = self.options.plan(self.model, &self.metadata)?;
        let side = match self.options.dynamic_size {
            true => [Axis::Free("height"), Axis::Free("width")],
            false => [Axis::Of(plan.metadata.preprocess.crop); 2],
        };
        let prepared = Border {
            name: input::PREPARED.to_owned(),
            kind: FLOAT,
            axes: vec![self.batch(), Axis::Of(3), side[0], side[1]],
        };
        Ok(Some(
            self.model_proto(&plan, vec![prepared])?.encode_to_vec(),
        ))
    }

    /// Writes the file, and its weights where they are kept beside it, under hidden names beside `path`, to
    /// be looked at before they get their own.
    ///
    /// # Errors
    /// As [`Self::to_bytes`]; [`Error::Request`] if `path` has no folder, is one, or something else lies where the weights are
    /// to be; [`Error::Io`] if something cannot be written. Then nothing is left.
    pub fn stage(&self, path: impl AsRef<Path>) -> Result<StagedFile> {
        let plan = self.options.plan(self.model, &self.metadata)?;
        let mut model = self.model_proto(&plan, self.output_borders(&plan))?;
        let staged = StagedFile::new(path.as_ref())?;
        if !external::beside(self.options.external, model.encoded_len()) {
            return staged.with_model(&self.to_bytes()?);
        }
        let data = external::move_out(&mut model, &staged.data_name()?);
        staged.with_data(&data)?.with_model(&model.encode_to_vec())
    }

    /// Writes the file: beside `path` first, then renamed onto it.
    ///
    /// # Errors
    /// As [`Self::stage`], and then nothing at `path` has changed; and as [`StagedFile::commit`], which says what is there
    /// then.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        self.stage(path)?.commit()
    }

    fn model_proto(&self, plan: &Plan, outputs: Vec<Border>) -> Result<ModelProto> {
        let properties = plan.metadata.to_properties()?;
        Ok(ModelProto {
            ir_version: ir_version(plan.opset),
            producer_name: "selfcls".to_owned(),
            producer_version: env!("CARGO_PKG_VERSION").to_owned(),
            graph: Some(self.graph(plan, &outputs)?),
            opset_import: vec![OperatorSetIdProto {
                domain: Some(String::new()),
                version: plan.opset,
            }],
            metadata_props: properties
                .into_iter()
                .map(|(key, value)| StringStringEntryProto { key, value })
                .collect(),
        })
    }

    fn graph(&self, plan: &Plan, outputs: &[Border]) -> Result<GraphProto> {
        let (model, metadata) = (self.model, &plan.metadata);
        let mut e = Emitter {
            graph: Graph::default(),
            weights: Weights::new(self.weights),
            opset: plan.opset,
            kind: metadata.weights,
            beyond_f16: Vec::new(),
        };
        let crop = metadata.preprocess.crop;
        let image = input::emit(&mut e, metadata.input, &metadata.preprocess);
        let features = match model.layout() {
            Layout::Residual(net) => resnet::emit(&mut e, net, &image),
            Layout::Transformer(net) => vit::emit(&mut e, net, crop, &image),
        };
        if !model.heads.is_empty() {
            self.classifiers(&mut e, metadata, &features);
        }
        e.weights.finish()?;
        if !e.beyond_f16.is_empty() {
            return Err(Error::Request(format!(
                "16 bits hold numbers up to 65504, but these weights have larger ones: {}; store them in 32 bits",
                e.beyond_f16.join(", ")
            )));
        }
        let input = input::border(
            metadata.input,
            self.batch(),
            crop,
            self.options.dynamic_size,
        );
        Ok(e.graph.finish("selfcls", &input, outputs))
    }

    /// Everything after the backbone. All of it is emitted, so that weights which do not fit are noticed
    /// wherever they are; the graph drops what no output needs.
    fn classifiers(&self, e: &mut Emitter<'_>, metadata: &Metadata, features: &Value) {
        let embedding = head::embedding(e, self.model, features);
        for (index, &classes) in self.model.heads.iter().enumerate() {
            let logits = head::classifier(e, (index, classes), (&embedding, self.model.dim));
            if let (Some(logits), true) = (logits, index == metadata.default_head) {
                e.softmax(names::PROBABILITIES, metadata.row_temperature, &logits);
            }
        }
    }

    fn output_borders(&self, plan: &Plan) -> Vec<Border> {
        let metadata = &plan.metadata;
        let mut borders = Vec::new();
        let mut push = |name: String, width: usize| {
            borders.push(Border {
                name,
                kind: FLOAT,
                axes: vec![self.batch(), Axis::Of(width)],
            });
        };
        for output in &plan.outputs {
            match output {
                Output::Logits => {
                    for head in &metadata.heads {
                        push(names::logits(head.index), head.classes);
                    }
                }
                Output::Probabilities => {
                    // Invariant: the plan keeps the default head where its probabilities are wanted.
                    let head = metadata.head(metadata.default_head);
                    let classes = head.map_or(0, |head| head.classes);
                    push(names::PROBABILITIES.to_owned(), classes);
                }
                Output::Embedding => push(names::EMBEDDING.to_owned(), self.model.dim),
                Output::Features => push(names::FEATURES.to_owned(), self.model.backbone_dim()),
            }
        }
        borders
    }

    fn batch(&self) -> Axis {
        self.options.batch.map_or(Axis::Free("batch"), Axis::Of)
    }
}

/// Version of the file format that came with an operator set (onnx's `Versioning.md`).
fn ir_version(opset: i64) -> i64 {
    match opset {
        ..=18 => 8,
        19 | 20 => 9,
        _ => 10,
    }
}
