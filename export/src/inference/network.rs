//! What an ONNX file declares, read before any engine sees it.
//!
//! Engines assume that a file was written by somebody who meant well: tract's C interface ends the process
//! where the file contradicts itself, and both allocate what it asks for. So the file is parsed here first,
//! without copying the weights, and everything that a classifier has no use for is refused: nested graphs,
//! functions, foreign operator sets. Of other programs' files ([`Origin::Foreign`]) only the frame is held
//! to these rules; what their operations may be is the engine's business.

use super::wire::{Bytes, Value, WireError};
use std::collections::BTreeMap;

/// Most operations in a network; a ResNet-152 has about 500.
const MAX_NODES: usize = 20_000;
/// Most axes of a tensor.
const MAX_RANK: usize = 8;
/// Most numbers in a list that says how axes are arranged: two for each.
const MAX_INTEGERS: usize = 2 * MAX_RANK;
/// Newest operator set that the engines at hand are known to read.
const MAX_OPSET: i64 = 21;
/// `TensorProto.DataType.FLOAT`.
pub(super) const FLOAT: u64 = 1;
/// `TensorProto.DataType.UINT8`.
pub(super) const UINT8: u64 = 2;
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

/// A constant of the network.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Weight {
    /// `f32` values of this shape.
    Floats(Vec<usize>),
    /// `f16` values of this shape.
    Halves(Vec<usize>),
    /// A single `f64`, of which sizes are computed, or, of a foreign file, anything.
    Unknown,
    /// A few whole numbers, such as a shape, and whether they are a list (of one axis) or a single one.
    Integers {
        /// The numbers.
        values: Vec<i64>,
        /// False for a scalar.
        list: bool,
    },
}

/// Where the values of a constant lie in another file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outside<'a> {
    /// The constant.
    pub(super) name: &'a str,
    /// The file, as the model names it.
    pub(super) location: &'a str,
    /// First byte.
    pub(super) offset: u64,
    /// Number of bytes, which is that of the shape; none if this is not known.
    pub(super) length: Option<u64>,
}

/// A value with a declared type.
#[derive(Debug, Default)]
pub(super) struct Border<'a> {
    /// Its name.
    pub(super) name: &'a str,
    /// Its elements, as `TensorProto.DataType`; 0 if it is no tensor.
    pub(super) kind: u64,
    /// Its axes; `None` where the length is free.
    pub(super) axes: Vec<Option<usize>>,
}

/// An operation.
#[derive(Debug, Clone, Default)]
pub(super) struct Node<'a> {
    /// What it does, e.g. `Conv`.
    pub(super) op: &'a str,
    /// Its name, for messages.
    pub(super) name: &'a str,
    /// Names of the values it reads.
    pub(super) inputs: Vec<&'a str>,
    /// Names of the values it makes.
    pub(super) outputs: Vec<&'a str>,
    /// Its settings.
    pub(super) attributes: BTreeMap<&'a str, Attribute>,
}

/// A setting of an operation.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Attribute {
    /// One integer.
    Int(i64),
    /// One number.
    Float(f32),
    /// A list of integers.
    Ints(Vec<i64>),
    /// A word.
    Text,
    /// Anything else; no operation of a classifier has one.
    Other,
}

/// Why a file is refused.
#[derive(Debug)]
pub(super) struct Refusal(pub(super) String);

impl From<WireError> for Refusal {
    fn from(error: WireError) -> Self {
        Self(format!(
            "not a complete ONNX file ({error}); if it was copied or downloaded, fetch it again"
        ))
    }
}

type Parsed<T> = Result<T, Refusal>;

fn refuse<T>(reason: impl Into<String>) -> Parsed<T> {
    Err(Refusal(reason.into()))
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
                (8, Value::Bytes(import)) => {
                    let (domain, version) = opset_import(import)?;
                    match domain {
                        "" | "ai.onnx" => opset = Some(version),
                        _ if origin == Origin::Foreign => {}
                        _ => {
                            return refuse(format!(
                                "it needs the operators of `{domain}`, which no engine here has"
                            ));
                        }
                    }
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

    fn graph(&mut self, graph: Bytes<'a>, origin: Origin) -> Parsed<()> {
        for field in graph.fields() {
            match field? {
                (1, Value::Bytes(node)) => {
                    if self.nodes.len() == MAX_NODES {
                        return refuse(format!("it has more than {MAX_NODES} operations"));
                    }
                    self.nodes.push(parse_node(node, origin)?);
                }
                (5, Value::Bytes(tensor)) => {
                    let (name, weight, outside) = parse_weight(tensor, origin)?;
                    if name.is_empty() || self.weights.insert(name, weight).is_some() {
                        return refuse(format!("two weights are called `{name}`"));
                    }
                    self.outside.extend(outside);
                }
                (11, Value::Bytes(info)) => self.inputs.push(parse_border(info)?),
                (12, Value::Bytes(info)) => self.outputs.push(parse_border(info)?),
                // Engines take these for hints.
                (13, Value::Bytes(info)) if origin == Origin::Own => {
                    self.declared.push(parse_border(info)?);
                }
                (14 | 15, _) if origin == Origin::Own => {
                    return refuse("it has quantised or sparse weights, which are not supported");
                }
                _ => {}
            }
        }
        Ok(())
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

fn parse_node(message: Bytes<'_>, origin: Origin) -> Parsed<Node<'_>> {
    let mut node = Node::default();
    for field in message.fields() {
        match field? {
            (1, Value::Bytes(text)) => node.inputs.push(text.text()?),
            (2, Value::Bytes(text)) => node.outputs.push(text.text()?),
            (3, Value::Bytes(text)) => node.name = text.text()?,
            (4, Value::Bytes(text)) => node.op = text.text()?,
            (5, Value::Bytes(attribute)) => {
                let (name, value) = parse_attribute(attribute)?;
                if node.attributes.insert(name, value).is_some() {
                    return refuse(format!("`{}` has two settings `{name}`", node.name));
                }
            }
            (7, Value::Bytes(domain))
                if origin == Origin::Own && !matches!(domain.text()?, "" | "ai.onnx") =>
            {
                return refuse(format!(
                    "`{}` is not one of ONNX's own operators",
                    node.name
                ));
            }
            _ => {}
        }
    }
    Ok(node)
}

fn parse_attribute(message: Bytes<'_>) -> Parsed<(&str, Attribute)> {
    let mut name = "";
    let mut ints = Vec::new();
    let mut single = None;
    let mut kind = 0;
    for field in message.fields() {
        match field? {
            (1, Value::Bytes(text)) => name = text.text()?,
            (2, Value::Fixed32(bits)) => single = Some(Attribute::Float(f32::from_bits(bits))),
            (3, Value::Varint(number)) => single = Some(Attribute::Int(number as i64)),
            (8, Value::Varint(number)) => ints.push(number as i64),
            (8, Value::Bytes(packed)) => ints.extend(packed.varints()?.iter().map(|&n| n as i64)),
            (20, Value::Varint(number)) => kind = number,
            _ => {}
        }
    }
    // proto3 writers leave zeros out, so the declared type decides.
    let value = match (kind, single) {
        (1, Some(Attribute::Float(value))) => Attribute::Float(value),
        (1, None) => Attribute::Float(0.0),
        (2, Some(Attribute::Int(value))) => Attribute::Int(value),
        (2, None) => Attribute::Int(0),
        (3, None) => Attribute::Text,
        (7, None) => Attribute::Ints(ints),
        _ => Attribute::Other,
    };
    Ok((name, value))
}

/// Name and content of a weight, whose values are all there or, as the third says, elsewhere.
fn parse_weight(message: Bytes<'_>, origin: Origin) -> Parsed<(&str, Weight, Option<Outside<'_>>)> {
    let mut name = "";
    let mut dims = Vec::new();
    let mut kind = 0;
    let mut raw = None;
    let mut floats = 0;
    let mut others = false;
    let mut elsewhere = false;
    let mut entries = BTreeMap::new();
    for field in message.fields() {
        match field? {
            (1, Value::Varint(dim)) => dims.push(dim),
            (1, Value::Bytes(packed)) => dims.extend(packed.varints()?),
            (2, Value::Varint(number)) => kind = number,
            (4, Value::Bytes(packed)) => floats += packed.data.len(),
            (4, Value::Fixed32(_)) => floats += 4,
            (5..=7 | 10 | 11, _) => others = true,
            (8, Value::Bytes(text)) => name = text.text()?,
            (9, Value::Bytes(data)) if raw.is_none() => raw = Some(data.data),
            (3 | 9, _) => return refuse(format!("the weight `{name}` comes in pieces")),
            (13, Value::Bytes(entry)) => {
                let (key, value) = text_pair(entry)?;
                if entries.insert(key, value).is_some() {
                    return refuse(format!("the weight `{name}` has two entries `{key}`"));
                }
            }
            (14, Value::Varint(location)) => elsewhere = location != 0,
            _ => {}
        }
    }
    let is_known = matches!(kind, FLOAT | FLOAT16 | INT64) || kind == DOUBLE && dims == [1];
    if origin == Origin::Own && !is_known {
        return refuse(format!(
            "the weight `{name}` is of ONNX type {kind}; only 32-bit and 16-bit floats are supported"
        ));
    }
    let Some(shape) = lengths(&dims, origin) else {
        return refuse(format!(
            "the weight `{name}` has the impossible shape {dims:?}"
        ));
    };
    let width = match kind {
        FLOAT => Some(4),
        FLOAT16 => Some(2),
        INT64 | DOUBLE => Some(8),
        _ => None,
    };
    // `lengths` has checked that the product fits.
    let expected = width.map(|width: usize| shape.iter().product::<usize>() * width);
    if elsewhere {
        if raw.is_some() || floats > 0 || others || (kind == INT64 && origin == Origin::Own) {
            return refuse(format!("the weight `{name}` is there twice"));
        }
        let outside = parse_outside(name, &entries, expected)?;
        return Ok((name, weight_of(kind, shape, origin), Some(outside)));
    }
    if !entries.is_empty() {
        return refuse(format!(
            "the weight `{name}` names another file but is said to be in this one"
        ));
    }
    if kind == INT64 && origin == Origin::Own {
        return match raw
            .filter(|_| floats == 0)
            .and_then(|raw| integers(&shape, raw))
        {
            Some(weight) => Ok((name, weight, None)),
            None => refuse(format!(
                "the weight `{name}` of shape {shape:?} is not a short list of whole numbers"
            )),
        };
    }
    let stored = match (raw, floats) {
        // A foreign file's numbers may lie in lists of other types, which its engine reads.
        (None, 0) if others && origin == Origin::Foreign => None,
        (Some(raw), 0) => Some(raw.len()),
        (None, floats) => Some(floats),
        (Some(_), _) => return refuse(format!("the weight `{name}` is there twice")),
    };
    if let (Some(stored), Some(expected)) = (stored, expected)
        && stored != expected
    {
        return refuse(format!(
            "the weight `{name}` has {stored} bytes, which are not the values of shape {shape:?}"
        ));
    }
    Ok((name, weight_of(kind, shape, origin), None))
}

fn weight_of(kind: u64, shape: Vec<usize>, origin: Origin) -> Weight {
    match kind {
        DOUBLE => Weight::Unknown,
        _ if origin == Origin::Foreign => Weight::Unknown,
        FLOAT16 => Weight::Halves(shape),
        _ => Weight::Floats(shape),
    }
}

/// Where the model says that the values of `name`, `expected` bytes, lie. Whether they do, and whether that
/// may be read, is checked where the model's folder is known.
fn parse_outside<'a>(
    name: &'a str,
    entries: &BTreeMap<&'a str, &'a str>,
    expected: Option<usize>,
) -> Parsed<Outside<'a>> {
    let number = |key: &str| match entries.get(key) {
        None => Ok(None),
        Some(text) => text.parse::<u64>().map(Some).map_err(|_| {
            Refusal(format!(
                "the weight `{name}` has {key} {text:?} in another file"
            ))
        }),
    };
    let Some(location) = entries.get("location") else {
        return refuse(format!(
            "the weight `{name}` lies in another file without a name"
        ));
    };
    let length = number("length")?;
    let expected = expected.map(|bytes| bytes as u64);
    if let (Some(length), Some(expected)) = (length, expected)
        && length != expected
    {
        return refuse(format!(
            "the weight `{name}` has {length} bytes in another file instead of {expected}"
        ));
    }
    Ok(Outside {
        name,
        location,
        offset: number("offset")?.unwrap_or(0),
        length: length.or(expected),
    })
}

/// One whole number, or a list of at most as many as a tensor has borders.
fn integers(shape: &[usize], raw: &[u8]) -> Option<Weight> {
    let list = match shape {
        [] => false,
        [1..=MAX_INTEGERS] => true,
        _ => return None,
    };
    let (values, rest) = raw.as_chunks();
    let expected = shape.iter().product::<usize>();
    if values.len() != expected || !rest.is_empty() {
        return None;
    }
    let values = values.iter().map(|&bytes| i64::from_le_bytes(bytes));
    Some(Weight::Integers {
        values: values.collect(),
        list,
    })
}

/// The axes as lengths, if each is at least 1 (0 in a foreign file), there are few, and their product is
/// a count.
fn lengths(dims: &[u64], origin: Origin) -> Option<Vec<usize>> {
    let least = usize::from(origin == Origin::Own);
    let shape: Vec<usize> = dims
        .iter()
        .map(|&dim| usize::try_from(dim).ok().filter(|&n| n >= least))
        .collect::<Option<_>>()?;
    let product = shape
        .iter()
        .try_fold(1usize, |all, &n| all.checked_mul(n))?;
    (shape.len() <= MAX_RANK && product <= isize::MAX as usize / 8).then_some(shape)
}

fn parse_border(message: Bytes<'_>) -> Parsed<Border<'_>> {
    let mut border = Border::default();
    for field in message.fields() {
        match field? {
            (1, Value::Bytes(text)) => border.name = text.text()?,
            (2, Value::Bytes(value_type)) => {
                for field in value_type.fields() {
                    if let (1, Value::Bytes(tensor)) = field? {
                        border.kind = parse_tensor_type(tensor, &mut border.axes)?;
                    }
                }
            }
            _ => {}
        }
    }
    if border.axes.len() > MAX_RANK {
        return refuse(format!("`{}` has too many axes", border.name));
    }
    Ok(border)
}

fn parse_tensor_type(message: Bytes<'_>, axes: &mut Vec<Option<usize>>) -> Parsed<u64> {
    let mut kind = 0;
    for field in message.fields() {
        match field? {
            (1, Value::Varint(number)) => kind = number,
            (2, Value::Bytes(shape)) => {
                for field in shape.fields() {
                    if let (1, Value::Bytes(dim)) = field? {
                        axes.push(parse_dim(dim)?);
                    }
                }
            }
            _ => {}
        }
    }
    Ok(kind)
}

fn parse_dim(message: Bytes<'_>) -> Parsed<Option<usize>> {
    let mut length = None;
    for field in message.fields() {
        if let (1, Value::Varint(number)) = field? {
            // 0 and negative lengths come from writers that mean "free".
            length = usize::try_from(number as i64).ok().filter(|&n| n > 0);
        }
    }
    Ok(length)
}
