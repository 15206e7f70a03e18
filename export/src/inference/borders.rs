//! What goes into the network and what comes out, as the graph declares it and the metadata promise.

use super::network::{Attribute, Border, FLOAT, Network, Node, Refusal, UINT8};
use crate::limits::{MAX_INPUT, input_numbers};
use crate::names;
use selfcls_core::metadata::{HeadInfo, InputKind, Metadata};
use selfcls_core::preprocess::Preprocess;

/// Largest fixed batch.
const MAX_BATCH: usize = 65_536;

/// Most classes of a foreign file.
const MAX_CLASSES: usize = 1_000_000;

/// Names and sizes of the inputs and outputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Borders {
    /// The input.
    pub(super) image: String,
    /// Number of images in every run, if it is fixed.
    pub(super) batch: Option<usize>,
    /// Whether images of any side may go in.
    pub(super) free_sides: bool,
    /// Logits, one entry for each head that has them, by ascending index.
    pub(super) logits: Vec<(usize, Output)>,
    /// Probabilities of the default head.
    pub(super) probabilities: Option<Output>,
    /// The unit embedding.
    pub(super) embedding: Option<Output>,
    /// The backbone's output.
    pub(super) features: Option<Output>,
}

/// `[batch, width]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Output {
    pub(super) name: String,
    pub(super) width: usize,
}

impl Borders {
    /// The borders of a file of this project, which must be those that `metadata` promise.
    pub(super) fn own(network: &Network<'_>, metadata: &Metadata) -> Result<Self, Refusal> {
        let crop = metadata.preprocess.crop;
        let image = match network.inputs.as_slice() {
            [image] if image.name == names::IMAGE => image,
            other => {
                return Err(Refusal::new(format!(
                    "it must have one input, `{}`, but has {other:?}",
                    names::IMAGE
                )));
            }
        };
        let square = |sides: [Option<usize>; 2]| sides == [Some(crop); 2] || sides == [None; 2];
        let (fits, expected) = match (metadata.input, image.axes.as_slice()) {
            (InputKind::Float, &[_, Some(3), height, width]) => (
                image.kind == FLOAT && square([height, width]),
                "[batch, 3, crop, crop] of f32",
            ),
            (InputKind::Uint8, &[_, height, width, Some(3)]) => (
                image.kind == UINT8 && square([height, width]),
                "[batch, crop, crop, 3] of bytes",
            ),
            (InputKind::Any, &[_, None, None, Some(3)]) => {
                (image.kind == UINT8, "[batch, height, width, 3] of bytes")
            }
            (InputKind::Float, _) => (false, "[batch, 3, crop, crop] of f32"),
            (InputKind::Uint8, _) => (false, "[batch, crop, crop, 3] of bytes"),
            (InputKind::Any, _) => (false, "[batch, height, width, 3] of bytes"),
        };
        let batch = image.axes.first().copied().flatten();
        check_batch(batch, crop)?;
        if !fits {
            return Err(Refusal::new(format!(
                "its input is not {expected} with crop {crop}, but {:?} of ONNX type {}",
                image.axes, image.kind
            )));
        }
        let mut borders = Self {
            image: image.name.to_owned(),
            batch,
            free_sides: metadata.input != InputKind::Any && image.axes[2].is_none(),
            logits: Vec::new(),
            probabilities: None,
            embedding: None,
            features: None,
        };
        for output in &network.outputs {
            borders.take(output, metadata)?;
        }
        borders.logits.sort_by_key(|(head, _)| *head);
        if network.outputs.is_empty() {
            return Err(Refusal::new("it has no output".to_owned()));
        }
        if borders.probabilities.is_some() && !comes_from_softmax(network, names::PROBABILITIES) {
            return Err(Refusal::new(format!(
                "its output `{}` does not come from a softmax, so that nothing makes them probabilities",
                names::PROBABILITIES
            )));
        }
        Ok(borders)
    }

    /// Finds the place of an output.
    fn take(&mut self, found: &Border<'_>, metadata: &Metadata) -> Result<(), Refusal> {
        let refused = |expected: String| {
            Err(Refusal::new(format!(
                "it has no single output `{}` {expected}: it is declared as {:?} of ONNX type {}",
                found.name, found.axes, found.kind
            )))
        };
        let (width, place) = match found.name {
            names::PROBABILITIES => {
                let head = metadata.head(metadata.default_head);
                (
                    head.map(|head| head.classes),
                    Place::One(&mut self.probabilities),
                )
            }
            names::EMBEDDING => {
                let width = Some(metadata.embedding_dim).filter(|&width| width > 0);
                (width, Place::One(&mut self.embedding))
            }
            names::FEATURES => (metadata.feature_dim, Place::One(&mut self.features)),
            name => {
                let is_own = |head: &&HeadInfo| names::logits(head.index) == name;
                let head = metadata.heads.iter().find(is_own);
                let index = head.map_or(0, |head| head.index);
                (
                    head.map(|head| head.classes),
                    Place::Logits(index, &mut self.logits),
                )
            }
        };
        let Some(width) = width else {
            return Err(Refusal::new(format!(
                "its metadata say nothing of the output `{}`",
                found.name
            )));
        };
        let axes = [self.batch, Some(width)];
        let output = Output {
            name: found.name.to_owned(),
            width,
        };
        if found.kind != FLOAT || found.axes != axes || !place.fill(output) {
            return refused(format!("[batch, {width}]"));
        }
        Ok(())
    }

    /// The borders of another program's file, whose images are prepared as `preprocess` says, and what else
    /// can be said of it.
    pub(super) fn foreign(
        network: &Network<'_>,
        preprocess: Preprocess,
    ) -> Result<(Self, Metadata), Refusal> {
        // Old files list their weights among the inputs.
        let is_weight = |name: &str| network.weights.contains_key(name);
        let mut inputs = network.inputs.iter().filter(|input| !is_weight(input.name));
        let (Some(image), None) = (inputs.next(), inputs.next()) else {
            return Err(Refusal::new(
                "it does not have one input, the image".to_owned(),
            ));
        };
        let crop = preprocess.crop;
        let free_or = |axis: Option<usize>, length: usize| axis.is_none_or(|n| n == length);
        let (input, sides) = match (image.kind, image.axes.as_slice()) {
            (FLOAT, &[_, channels, height, width]) if free_or(channels, 3) => {
                (InputKind::Float, [height, width])
            }
            (UINT8, &[_, height, width, channels]) if free_or(channels, 3) => {
                (InputKind::Uint8, [height, width])
            }
            _ => {
                return Err(Refusal::new(format!(
                    "its input `{}` is {:?} of ONNX type {}, neither [batch, 3, height, width] of f32 nor [batch, height, width, 3] of bytes",
                    image.name, image.axes, image.kind
                )));
            }
        };
        if let Some(side) = sides.into_iter().flatten().find(|&side| side != crop) {
            return Err(Refusal::new(format!(
                "its input has a side of {side} pixels, and the preprocessing crops to {crop}; crop to {side}"
            )));
        }
        let scores = |output: &&Border<'_>| output.kind == FLOAT && output.axes.len() == 2;
        let Some(output) = network.outputs.iter().find(scores) else {
            return Err(Refusal::new(
                "it has no output [batch, classes] of f32".to_owned(),
            ));
        };
        let Some(classes @ 1..=MAX_CLASSES) = output.axes[1] else {
            return Err(Refusal::new(format!(
                "its output `{}` does not declare how many classes it has",
                output.name
            )));
        };
        let batch = image.axes[0];
        check_batch(batch, crop)?;
        let found = Output {
            name: output.name.to_owned(),
            width: classes,
        };
        let made_by = maker(network, output.name);
        let is_probable = made_by.is_some_and(|node| node.op == "Softmax");
        // Of a table the last axis is the second one, which old operator sets and new ones take by themselves.
        let axis = made_by.and_then(|node| node.attributes.get("axis"));
        if is_probable && !matches!(axis, None | Some(Attribute::Int(1 | -1))) {
            return Err(Refusal::new(format!(
                "its output `{}` is a softmax over another axis than the classes of an image; export it with axis 1, or without the softmax",
                output.name
            )));
        }
        let borders = Self {
            image: image.name.to_owned(),
            batch,
            free_sides: sides == [None; 2],
            logits: Vec::from_iter((!is_probable).then(|| (0, found.clone()))),
            probabilities: is_probable.then_some(found),
            embedding: None,
            features: None,
        };
        Ok((borders, Metadata::foreign(input, preprocess, classes)))
    }
}

/// The operation that makes a value.
fn maker<'n, 'a>(network: &'n Network<'a>, name: &str) -> Option<&'n Node<'a>> {
    let mut nodes = network.nodes.iter();
    nodes.find(|node| node.outputs.contains(&name))
}

/// Whether a softmax makes the value, rounded to 8 bits after it or not.
fn comes_from_softmax(network: &Network<'_>, name: &str) -> bool {
    let mut made_by = maker(network, name);
    for rounding in ["DequantizeLinear", "QuantizeLinear"] {
        if let Some(node) = made_by.filter(|node| node.op == rounding) {
            let read = node.inputs.first();
            made_by = read.and_then(|name| maker(network, name));
        }
    }
    made_by.is_some_and(|node| node.op == "Softmax")
}

/// A fixed batch is filled up to its length, so that is what a file makes us allocate.
fn check_batch(batch: Option<usize>, side: usize) -> Result<(), Refusal> {
    match batch {
        Some(batch) if batch > MAX_BATCH || input_numbers(batch, side).is_none() => {
            Err(Refusal::new(format!(
                "its fixed batch of {batch} images of {side} pixels is more than {MAX_BATCH} images or {MAX_INPUT} numbers; export it with a smaller one, or none"
            )))
        }
        _ => Ok(()),
    }
}

/// Where an output goes.
enum Place<'a> {
    One(&'a mut Option<Output>),
    Logits(usize, &'a mut Vec<(usize, Output)>),
}

impl Place<'_> {
    /// Puts it there, if the place is empty.
    fn fill(self, output: Output) -> bool {
        match self {
            Self::One(place) if place.is_none() => *place = Some(output),
            Self::Logits(index, all) if all.iter().all(|(known, _)| *known != index) => {
                all.push((index, output));
            }
            _ => return false,
        }
        true
    }
}
