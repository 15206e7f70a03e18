//! A file that takes images of any size, without the operations that resize them.
//!
//! What is left takes the value that they would have made, [`END`]. Only bytes that [`super::opened`] has checked
//! come here; everything else in them is copied as it is.

use super::network::{FLOAT, Network, Origin, Refusal};
use super::pixel_shapes::{self, END};
use super::wire::{self, Bytes, Value};
use std::collections::BTreeSet;

// Fields of onnx.proto.
const MODEL_GRAPH: u32 = 7;
const GRAPH_NODE: u32 = 1;
const GRAPH_WEIGHT: u32 = 5;
const GRAPH_INPUT: u32 = 11;
const GRAPH_DECLARED: u32 = 13;
const NODE_OUTPUT: u32 = 2;
const WEIGHT_NAME: u32 = 8;
const BORDER_NAME: u32 = 1;

/// What is cut, and what is known of it.
pub(super) struct Cut<'a> {
    /// The whole file.
    pub(super) file: &'a [u8],
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
    let mut model = Vec::with_capacity(cut.file.len());
    for field in Bytes::file(cut.file).fields_as_they_are() {
        match field? {
            (MODEL_GRAPH, Value::Bytes(graph), _) => {
                let graph = cut.graph(graph, &needed)?;
                wire::push(&mut model, MODEL_GRAPH, &graph);
            }
            (_, _, bytes) => model.extend_from_slice(bytes),
        }
    }
    Ok(model)
}

impl Cut<'_> {
    /// What is left of the graph: the operations after those that resize, and the weights that they need.
    fn graph(&self, graph: Bytes<'_>, needed: &BTreeSet<&str>) -> Result<Vec<u8>, Refusal> {
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
                    if needed.contains(name) {
                        rest.extend_from_slice(bytes);
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
