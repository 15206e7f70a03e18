//! What may be chosen about a file, and the checks that turn the choices into a plan.

use crate::limits::{MAX_INPUT, input_numbers};
use crate::{Error, Result};
use selfcls_core::config::{Layout, ModelConfig};
use selfcls_core::metadata::{InputKind, Metadata, WeightKind};
use std::collections::BTreeSet;
use std::ops::RangeInclusive;

/// The operator sets that can be written.
pub const OPSETS: RangeInclusive<i64> = 17..=21;
/// The oldest that resizes with antialiasing.
const ANTIALIASING: i64 = 18;
/// Largest fixed batch: beyond it no engine gains anything.
const MAX_BATCH: usize = 65_536;

/// Which classifiers go into the file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum HeadSelection {
    /// All of them; the metadata's default head gives `probabilities`.
    #[default]
    All,
    /// Those at these indices; the first named becomes the default head. Their outputs keep their indices:
    /// `logits.<index>`.
    Only(Vec<usize>),
}

/// An output of the file, in the order in which they stand there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Output {
    /// `logits.<head>` of every exported head.
    Logits,
    /// Softmax of the default head.
    Probabilities,
    /// The unit embedding.
    Embedding,
    /// The backbone's output.
    Features,
}

impl Output {
    /// All, in order.
    pub const ALL: [Self; 4] = [
        Self::Logits,
        Self::Probabilities,
        Self::Embedding,
        Self::Features,
    ];

    /// Its name on the command line and in messages.
    pub fn word(self) -> &'static str {
        match self {
            Self::Logits => "logits",
            Self::Probabilities => "probabilities",
            Self::Embedding => "embedding",
            Self::Features => "features",
        }
    }
}

/// Where weights are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ExternalData {
    /// In the file, or beside it in `<file>.data` where they make it larger than 2 GiB, protobuf's end.
    #[default]
    Auto,
    /// Beside the file in any case.
    Always,
    /// In the file; an error if they do not fit.
    Never,
}

/// The choices.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FileOptions {
    /// Which classifiers. Default all.
    pub heads: HeadSelection,
    /// Which outputs. Default logits, probabilities and embedding; features of a model without classifiers.
    pub outputs: Option<BTreeSet<Output>>,
    /// Length of the batch axis. Default free.
    pub batch: Option<usize>,
    /// Height and width of the images are free. Default false: they are `crop` of the preprocessing. Residual
    /// networks only: a vision transformer's positions are laid out for the file's size.
    pub dynamic_size: bool,
    /// Operator set. Default the oldest that has what is needed (17, or 18 to resize), so that old runtimes
    /// can read the file.
    pub opset: Option<i64>,
    /// What `image` takes. Default [`InputKind::Float`].
    pub input: InputKind,
    /// How matrices and kernels are stored. Default [`WeightKind::F32`].
    pub weights: WeightKind,
    /// Where weights are kept. Default [`ExternalData::Auto`].
    pub external: ExternalData,
}

/// Choices that a file can be written with.
pub(super) struct Plan {
    /// What the file says about itself.
    pub(super) metadata: Metadata,
    /// Its outputs; at least one.
    pub(super) outputs: BTreeSet<Output>,
    /// Its operator set.
    pub(super) opset: i64,
}

impl FileOptions {
    /// Checks the choices against `model` and against each other. `metadata` describe the whole model.
    pub(super) fn plan(&self, model: &ModelConfig, metadata: &Metadata) -> Result<Plan> {
        check_model(model, metadata)?;
        let outputs = self.outputs(model)?;
        self.check_size(model)?;
        if let Some(batch @ (0 | MAX_BATCH..)) = self.batch {
            return refuse(format!(
                "a fixed batch of {batch} images is not from 1 to {}",
                MAX_BATCH - 1
            ));
        }
        let side = metadata.preprocess.crop;
        if let Some(batch) = self.batch
            && input_numbers(batch, side).is_none()
        {
            return refuse(format!(
                "a fixed batch of {batch} images of {side} pixels has more than {MAX_INPUT} numbers; choose a smaller one, or none"
            ));
        }
        let mut metadata = metadata.clone();
        metadata.input = self.input;
        metadata.weights = self.weights;
        self.select_heads(model, &mut metadata)?;
        if outputs.is_disjoint(&BTreeSet::from([Output::Logits, Output::Probabilities])) {
            // What is not in the file is not in its metadata.
            metadata.heads.clear();
            metadata.default_head = 0;
        } else if !outputs.contains(&Output::Logits) {
            let default = metadata.default_head;
            metadata.heads.retain(|head| head.index == default);
        }
        Ok(Plan {
            metadata,
            outputs,
            opset: self.opset()?,
        })
    }

    fn outputs(&self, model: &ModelConfig) -> Result<BTreeSet<Output>> {
        let backbone_alone = model.heads.is_empty();
        let Some(chosen) = &self.outputs else {
            let outputs = if backbone_alone {
                BTreeSet::from([Output::Features])
            } else {
                BTreeSet::from([Output::Logits, Output::Probabilities, Output::Embedding])
            };
            return Ok(outputs);
        };
        if chosen.is_empty() {
            return refuse("a file needs at least one output");
        }
        let lacking = chosen.iter().find(|&&output| output != Output::Features);
        if let (true, Some(output)) = (backbone_alone, lacking) {
            return refuse(format!(
                "the model is a backbone without head and classifiers, so there is no output `{}`; its only output is `features`",
                output.word()
            ));
        }
        Ok(chosen.clone())
    }

    fn check_size(&self, model: &ModelConfig) -> Result<()> {
        if !self.dynamic_size {
            return Ok(());
        }
        if self.input == InputKind::Any {
            return refuse(
                "input `any` takes images of every size already and resizes them to the one of training; leave the dynamic size out",
            );
        }
        match model.layout() {
            Layout::Residual(_) => Ok(()),
            Layout::Transformer(_) => refuse(
                "a vision transformer's file is for images of one size, for which its position embedding is interpolated; for another size set eval.resize and eval.crop, and leave the dynamic size out",
            ),
        }
    }

    fn opset(&self) -> Result<i64> {
        let oldest = match self.input {
            InputKind::Any => ANTIALIASING,
            InputKind::Float | InputKind::Uint8 => *OPSETS.start(),
        };
        let opset = self.opset.unwrap_or(oldest);
        if !OPSETS.contains(&opset) {
            return refuse(format!(
                "operator set {opset} is not from {} to {}",
                OPSETS.start(),
                OPSETS.end()
            ));
        }
        if opset < oldest {
            return refuse(format!(
                "operator set {opset} cannot resize with antialiasing, as input `any` needs; use {oldest} or newer, or input `uint8`"
            ));
        }
        Ok(opset)
    }

    fn select_heads(&self, model: &ModelConfig, metadata: &mut Metadata) -> Result<()> {
        let HeadSelection::Only(indices) = &self.heads else {
            return Ok(());
        };
        let count = model.heads.len();
        if let Some(index) = indices.iter().find(|&&index| index >= count) {
            return refuse(match count {
                0 => format!("the model has no head {index}: it is a backbone without classifiers"),
                _ => format!(
                    "the model has no head {index}; its heads are 0 to {} with {:?} classes",
                    count - 1,
                    model.heads
                ),
            });
        }
        let distinct: BTreeSet<usize> = indices.iter().copied().collect();
        let Some(&first) = indices.first().filter(|_| distinct.len() == indices.len()) else {
            return refuse(format!(
                "the heads {indices:?} are not a list of different ones"
            ));
        };
        metadata.heads.retain(|head| distinct.contains(&head.index));
        metadata.default_head = first;
        Ok(())
    }
}

/// The metadata must speak of this model, and the model must be possible.
fn check_model(model: &ModelConfig, metadata: &Metadata) -> Result<()> {
    let described: Vec<_> = metadata
        .heads
        .iter()
        .map(|head| (head.index, head.classes))
        .collect();
    let own: Vec<_> = model.heads.iter().copied().enumerate().collect();
    let dim = if own.is_empty() { 0 } else { model.dim };
    if described != own || metadata.embedding_dim != dim {
        return refuse(format!(
            "the metadata describe another model: heads (index, classes) {described:?} and embedding {}, but the model has {own:?} and {dim}",
            metadata.embedding_dim
        ));
    }
    if !own.is_empty() && model.head_layers == 0 && model.dim != model.backbone_dim() {
        return refuse(format!(
            "model.head_layers = 0 leaves {} features, but model.dim = {}",
            model.backbone_dim(),
            model.dim
        ));
    }
    if let Layout::Transformer(net) = model.layout() {
        let crop = metadata.preprocess.crop;
        if net.patch == 0 || net.grid == 0 || !crop.is_multiple_of(net.patch) {
            return refuse(format!(
                "images of {crop} pixels are not whole patches of model.patch_size = {}",
                net.patch
            ));
        }
    }
    Ok(())
}

fn refuse<T>(reason: impl Into<String>) -> Result<T> {
    Err(Error::Request(reason.into()))
}
