//! A file that takes images of any size, without the operations that resize them.
//!
//! What is left takes the value that they would have made, [`END`]. Only bytes that [`super::opened`] has checked
//! come here; everything else in them is copied as it is, but for weights beside the file, which are put into it:
//! what is left has no place on the disk beside which they could be.

use super::network::{FLOAT, Network, Origin, Outside, Refusal};
use super::pixel_shapes::{self, END};
use super::wire::{self, Bytes, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

// Fields of onnx.proto.
const MODEL_GRAPH: u32 = 7;
const GRAPH_NODE: u32 = 1;
const GRAPH_WEIGHT: u32 = 5;
const GRAPH_INPUT: u32 = 11;
const GRAPH_DECLARED: u32 = 13;
const NODE_OUTPUT: u32 = 2;
const WEIGHT_NAME: u32 = 8;
const WEIGHT_RAW: u32 = 9;
const WEIGHT_ENTRY: u32 = 13;
const WEIGHT_LOCATION: u32 = 14;
const BORDER_NAME: u32 = 1;

/// What is cut, and what is known of it.
pub(super) struct Cut<'a> {
    /// The whole file.
    pub(super) file: &'a [u8],
    /// Where the files with its weights lie, if it has any.
    pub(super) folder: Option<&'a Path>,
    /// The length of the batch axis, if that is fixed.
    pub(super) batch: Option<usize>,
    /// Side of [`END`] in pixels.
    pub(super) side: usize,
}

/// The file from [`END`] on.
pub(super) fn after_resizing(cut: &Cut<'_>) -> Result<Vec<u8>, Refusal> {
    let network = Network::parse(cut.file, Origin::Own)?;
    let (_, rest) = pixel_shapes::split(&network.nodes)?;
    let needed = rest.iter().flat_map(|node| &node.inputs).copied().collect();
    let outside = network.outside.iter().map(|weight| (weight.name, weight));
    let outside = outside.collect();
    let mut model = Vec::with_capacity(cut.file.len());
    for field in Bytes::file(cut.file).fields_as_they_are() {
        match field? {
            (MODEL_GRAPH, Value::Bytes(graph), _) => {
                let graph = cut.graph(graph, &needed, &outside)?;
                wire::push(&mut model, MODEL_GRAPH, &graph);
            }
            (_, _, bytes) => model.extend_from_slice(bytes),
        }
    }
    Ok(model)
}

impl Cut<'_> {
    /// What is left of the graph: the operations after those that resize, and the weights that they need.
    fn graph(
        &self,
        graph: Bytes<'_>,
        needed: &BTreeSet<&str>,
        outside: &BTreeMap<&str, &Outside<'_>>,
    ) -> Result<Vec<u8>, Refusal> {
        let mut rest = Vec::with_capacity(graph.data.len());
        let mut resizing = true;
        for field in graph.fields_as_they_are() {
            match field? {
                (GRAPH_NODE, Value::Bytes(node), bytes) => {
                    if !resizing {
                        rest.extend_from_slice(bytes);
                    }
                    resizing &= !texts(node, NODE_OUTPUT)?.contains(&END);
                }
                (GRAPH_WEIGHT, Value::Bytes(weight), bytes) => {
                    let name = texts(weight, WEIGHT_NAME)?.pop().unwrap_or_default();
                    match outside.get(name) {
                        _ if !needed.contains(name) => {}
                        None => rest.extend_from_slice(bytes),
                        Some(outside) => {
                            let weight = self.with_values(weight, outside)?;
                            wire::push(&mut rest, GRAPH_WEIGHT, &weight);
                        }
                    }
                }
                (GRAPH_INPUT, _, _) => wire::push(&mut rest, GRAPH_INPUT, &self.border()),
                (GRAPH_DECLARED, Value::Bytes(value), bytes) => {
                    let name = texts(value, BORDER_NAME)?.pop().unwrap_or_default();
                    if !pixel_shapes::is_part(name) {
                        rest.extend_from_slice(bytes);
                    }
                }
                (_, _, bytes) => rest.extend_from_slice(bytes),
            }
        }
        Ok(rest)
    }

    /// A weight with its values in it instead of the place where they lie.
    fn with_values(&self, weight: Bytes<'_>, outside: &Outside<'_>) -> Result<Vec<u8>, Refusal> {
        let mut inside = Vec::with_capacity(weight.data.len());
        for field in weight.fields_as_they_are() {
            match field? {
                (WEIGHT_ENTRY | WEIGHT_LOCATION, _, _) => {}
                (_, _, bytes) => inside.extend_from_slice(bytes),
            }
        }
        let folder = self.folder.unwrap_or(Path::new("."));
        wire::push(&mut inside, WEIGHT_RAW, &read(outside, folder)?);
        Ok(inside)
    }

    /// [`END`] as an input, `f32 [batch, 3, side, side]`.
    fn border(&self) -> Vec<u8> {
        let length = |n: usize| {
            let mut axis = Vec::new();
            wire::push_number(&mut axis, 1, n as u64);
            axis
        };
        let batch = self.batch.map_or_else(
            || {
                let mut axis = Vec::new();
                wire::push(&mut axis, 2, b"batch");
                axis
            },
            length,
        );
        let mut shape = Vec::new();
        for axis in [batch, length(3), length(self.side), length(self.side)] {
            wire::push(&mut shape, 1, &axis);
        }
        let mut tensor = Vec::new();
        wire::push_number(&mut tensor, 1, FLOAT);
        wire::push(&mut tensor, 2, &shape);
        let mut kind = Vec::new();
        wire::push(&mut kind, 1, &tensor);
        let mut border = Vec::new();
        wire::push(&mut border, BORDER_NAME, END.as_bytes());
        wire::push(&mut border, 2, &kind);
        border
    }
}

/// All texts of a field.
fn texts<'a>(message: Bytes<'a>, number: u32) -> Result<Vec<&'a str>, Refusal> {
    let mut texts = Vec::new();
    for field in message.fields() {
        match field? {
            (found, Value::Bytes(text)) if found == number => texts.push(text.text()?),
            _ => {}
        }
    }
    Ok(texts)
}

/// The values of a weight in a file of `folder`.
fn read(outside: &Outside<'_>, folder: &Path) -> Result<Vec<u8>, Refusal> {
    let length = outside.length.unwrap_or(0);
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(folder.join(outside.location))?;
        file.seek(SeekFrom::Start(outside.offset))?;
        let mut values = Vec::new();
        file.take(length).read_to_end(&mut values)?;
        Ok(values)
    };
    match read() {
        Ok(values) if values.len() as u64 == length => Ok(values),
        Ok(_) => Err(Refusal(format!(
            "the file {:?} has become shorter while it was read",
            outside.location
        ))),
        Err(error) => Err(Refusal(format!(
            "cannot read the weights in {:?}: {error}",
            outside.location
        ))),
    }
}
