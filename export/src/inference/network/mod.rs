//! What an ONNX file declares, read before any engine sees it.
//!
//! Engines assume that a file was written by somebody who meant well: tract's C interface ends the process
//! where the file contradicts itself, and both allocate what it asks for. So the file is parsed here first,
//! without copying the weights, and everything that a classifier has no use for is refused: nested graphs,
//! functions, foreign operator sets. Of other programs' files ([`Origin::Foreign`]) only the frame is held
//! to these rules; what their operations may be is the engine's business. Lists are held to their limits while they
//! are read: an empty entry takes two bytes of a file and twenty times as much when it is taken apart.

mod border;
mod nested;
mod node;
mod weight;

pub(super) use border::Border;
pub(super) use node::{Attribute, Node};
pub(super) use weight::{Outside, Weight};

use super::wire::{Bytes, Value, WireError};
use selfcls_core::config::Transformer;
use std::collections::{BTreeMap, BTreeSet};

/// Operations in a block of a vision transformer as the writer has it: 32, with weights of 16 bits 38, and 104 where
/// onnxruntime's tools have rounded all but its softmax to 8 bits.
const IN_BLOCK: usize = 110;
/// Operations in everything else. A thousand classifiers, the most that a network may have, and the conversions of their
/// weights are half of them.
const BESIDE_BLOCKS: usize = 4_000;
/// Most operations in a network: whatever can be trained can also be exported, and rounded to 8 bits.
const MAX_NODES: usize = Transformer::MAX_DEPTH * IN_BLOCK + BESIDE_BLOCKS;
/// Most inputs, outputs, values whose shapes are declared, and weights, all together.
const MAX_NAMED: usize = 4 * MAX_NODES;
/// Most entries of the metadata.
const MAX_METADATA: usize = 10_000;
/// Most axes of a tensor.
const MAX_RANK: usize = 8;
/// Newest operator set that the engines at hand are known to read.
const MAX_OPSET: i64 = 21;
/// `TensorProto.DataType.FLOAT`.
pub(super) const FLOAT: u64 = 1;
/// `TensorProto.DataType.UINT8`.
pub(super) const UINT8: u64 = 2;
/// `TensorProto.DataType.INT8`.
pub(super) const INT8: u64 = 3;
/// `TensorProto.DataType.INT32`.
pub(super) const INT32: u64 = 6;
/// `TensorProto.DataType.INT64`.
const INT64: u64 = 7;
/// `TensorProto.DataType.FLOAT16`.
const FLOAT16: u64 = 10;
/// `TensorProto.DataType.DOUBLE`.
const DOUBLE: u64 = 11;

/// Who wrote a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// This project: everything in it must be known.
    Own,
    /// Any program: the caller vouches for it.
    Foreign,
}

/// The graph and its metadata; names borrow from the file.
#[derive(Debug, Default)]
pub(super) struct Network<'a> {
    /// The borders, in order.
    pub(super) inputs: Vec<Border<'a>>,
    /// The borders, in order.
    pub(super) outputs: Vec<Border<'a>>,
    /// Values inside the graph whose shapes the file declares.
    pub(super) declared: Vec<Border<'a>>,
    /// The constants, all complete but for those in `outside`.
    pub(super) weights: BTreeMap<&'a str, Weight>,
    /// Constants whose values lie in another file.
    pub(super) outside: Vec<Outside<'a>>,
    /// The operations in order of execution.
    pub(super) nodes: Vec<Node<'a>>,
    /// `metadata_props`.
    pub(super) metadata: BTreeMap<&'a str, &'a str>,
}

/// Why a file is refused.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) reason: String,
    /// The option that would let it pass, if there is one.
    pub(super) option: Option<&'static str>,
}

impl Refusal {
    pub(super) fn new(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            option: None,
        }
    }

    /// Such a file passes if `option` of [`Options`](super::Options) is raised.
    pub(super) fn unless(self, option: &'static str) -> Self {
        Self {
            option: Some(option),
            ..self
        }
    }
}

impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        Self::new(reason)
    }
}

impl From<WireError> for Refusal {
    fn from(error: WireError) -> Self {
        Self::new(format!(
            "not a complete ONNX file ({error}); if it was copied or downloaded, fetch it again"
        ))
    }
}

type Parsed<T> = Result<T, Refusal>;

fn refuse<T>(reason: impl Into<String>) -> Parsed<T> {
    Err(Refusal::new(reason))
}

impl<'a> Network<'a> {
    /// Parses a whole file.
    pub(super) fn parse(file: &'a [u8], origin: Origin) -> Parsed<Self> {
        let mut network = Self::default();
        let mut graphs = 0;
        let mut opset = None;
        for field in Bytes::file(file).fields() {
            match field? {
                (7, Value::Bytes(graph)) => {
                    graphs += 1;
                    network.graph(graph, origin)?;
                }
                // Of other sets there may be a list, as onnxruntime's tools write it: no operation may be
                // one of theirs.
                (8, Value::Bytes(import)) => {
                    if let ("" | "ai.onnx", version) = opset_import(import)? {
                        opset = Some(version);
                    }
                }
                (14, _) if network.metadata.len() == MAX_METADATA => {
                    return refuse(format!("it has more than {MAX_METADATA} metadata"));
                }
                (14, Value::Bytes(entry)) => {
                    let (key, value) = text_pair(entry)?;
                    if network.metadata.insert(key, value).is_some() {
                        return refuse(format!("the metadata have two entries `{key}`"));
                    }
                }
                (20, _) => {
                    return refuse("it contains training steps; export it for inference");
                }
                (25, _) if origin == Origin::Own => {
                    return refuse("it contains functions; export it for inference");
                }
                (25, Value::Bytes(function)) => nested::function(function)?,
                _ => {}
            }
        }
        match (graphs, opset) {
            (1, Some(1..=MAX_OPSET)) => Ok(network),
            (1, Some(1..)) if origin == Origin::Foreign => Ok(network),
            (1, Some(newer)) => {
                refuse(format!("operator set {newer} is not from 1 to {MAX_OPSET}"))
            }
            _ => refuse("not an ONNX file: it has no single graph and operator set"),
        }
    }

    /// Whether weights are whole numbers.
    pub(super) fn is_quantised(&self) -> bool {
        let mut weights = self.weights.values();
        weights.any(|weight| matches!(weight, Weight::Quantised { .. }))
    }

    /// Whether a softmax is rounded to whole numbers, which tract (0.23.9) then computes in whole numbers, and
    /// wrongly.
    pub(super) fn rounds_softmax(&self) -> bool {
        let made = self.nodes.iter().filter(|node| node.op == "Softmax");
        let made: BTreeSet<&str> = made.flat_map(|node| &node.outputs).copied().collect();
        let mut rounding = self.nodes.iter().filter(|node| node.op == "QuantizeLinear");
        rounding.any(|node| node.inputs.first().is_some_and(|name| made.contains(name)))
    }

    fn graph(&mut self, graph: Bytes<'a>, origin: Origin) -> Parsed<()> {
        for field in graph.fields() {
            match field? {
                (1, Value::Bytes(node)) => {
                    if self.nodes.len() == MAX_NODES {
                        return refuse(format!("it has more than {MAX_NODES} operations"));
                    }
                    self.nodes.push(node::parse(node, origin)?);
                }
                (5 | 11 | 12 | 13, _) if self.named() == MAX_NAMED => {
                    return refuse(format!(
                        "it has more than {MAX_NAMED} weights, inputs, outputs and declared values"
                    ));
                }
                (5, Value::Bytes(tensor)) => {
                    let (name, weight, outside) = weight::parse(tensor, origin)?;
                    if name.is_empty() || self.weights.insert(name, weight).is_some() {
                        return refuse(format!("two weights are called `{name}`"));
                    }
                    self.outside.extend(outside);
                }
                (11, Value::Bytes(info)) => self.inputs.push(border::parse(info)?),
                (12, Value::Bytes(info)) => self.outputs.push(border::parse(info)?),
                // Engines take these for hints.
                (13, Value::Bytes(info)) if origin == Origin::Own => {
                    self.declared.push(border::parse(info)?);
                }
                (14 | 15, _) if origin == Origin::Own => {
                    return refuse("it has quantised or sparse weights, which are not supported");
                }
                (15, Value::Bytes(constant)) => nested::sparse(constant)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn named(&self) -> usize {
        self.inputs.len() + self.outputs.len() + self.declared.len() + self.weights.len()
    }
}

fn opset_import(message: Bytes<'_>) -> Parsed<(&str, i64)> {
    let (mut domain, mut version) = ("", 0);
    for field in message.fields() {
        match field? {
            (1, Value::Bytes(text)) => domain = text.text()?,
            (2, Value::Varint(number)) => version = number as i64,
            _ => {}
        }
    }
    Ok((domain, version))
}

fn text_pair(message: Bytes<'_>) -> Parsed<(&str, &str)> {
    let (mut key, mut value) = ("", "");
    for field in message.fields() {
        match field? {
            (1, Value::Bytes(text)) => key = text.text()?,
            (2, Value::Bytes(text)) => value = text.text()?,
            _ => {}
        }
    }
    Ok((key, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_softmax_that_is_rounded_is_found() {
        let node = |op, input, output| Node {
            op,
            inputs: vec![input],
            outputs: vec![output],
            ..Node::default()
        };
        let mut network = Network {
            nodes: vec![node("Softmax", "a", "b"), node("Relu", "b", "c")],
            ..Network::default()
        };
        network.nodes.push(node("QuantizeLinear", "c", "d"));
        assert!(!network.rounds_softmax());
        network.nodes.push(node("QuantizeLinear", "b", "e"));
        assert!(network.rounds_softmax());
    }
}
