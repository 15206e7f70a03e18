//! Operations and their settings.

use super::{MAX_RANK, Origin, Parsed, nested, refuse};
use crate::inference::wire::{Bytes, Value};
use std::collections::BTreeMap;

/// Most values that an operation reads, or makes: a `Concat` of a large network has some hundred.
const MAX_NAMES: usize = 1024;

/// Most numbers in a list: before and after each axis.
const MAX_INTEGERS: usize = 2 * MAX_RANK;

/// An operation.
#[derive(Debug, Clone, Default)]
pub(in crate::inference) struct Node<'a> {
    /// What it does, e.g. `Conv`.
    pub(in crate::inference) op: &'a str,
    /// Its name, for messages.
    pub(in crate::inference) name: &'a str,
    /// Names of the values it reads.
    pub(in crate::inference) inputs: Vec<&'a str>,
    /// Names of the values it makes.
    pub(in crate::inference) outputs: Vec<&'a str>,
    /// Its settings; of a foreign file `axis` alone.
    pub(in crate::inference) attributes: BTreeMap<&'a str, Attribute>,
}

/// A setting of an operation.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::inference) enum Attribute {
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

pub(super) fn parse(message: Bytes<'_>, origin: Origin) -> Parsed<Node<'_>> {
    let mut node = Node::default();
    for field in message.fields() {
        match field? {
            (1 | 2, _) if node.inputs.len().max(node.outputs.len()) == MAX_NAMES => {
                return refuse(format!(
                    "`{}` has more than {MAX_NAMES} inputs or outputs",
                    node.name
                ));
            }
            (1, Value::Bytes(text)) => node.inputs.push(text.text()?),
            (2, Value::Bytes(text)) => node.outputs.push(text.text()?),
            (3, Value::Bytes(text)) => node.name = text.text()?,
            (4, Value::Bytes(text)) => node.op = text.text()?,
            (5, Value::Bytes(attribute)) if origin == Origin::Foreign => {
                nested::attribute(attribute)?;
                // Which two of, nobody can rely on.
                if let Ok((name @ "axis", value)) = parse_attribute(attribute)
                    && node.attributes.insert(name, value).is_some()
                {
                    node.attributes.insert(name, Attribute::Other);
                }
            }
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
    let (mut text, mut other) = (false, false);
    let mut kind = 0;
    for field in message.fields() {
        match field? {
            (1, Value::Bytes(text)) => name = text.text()?,
            (2, Value::Fixed32(bits)) => single = Some(Attribute::Float(f32::from_bits(bits))),
            (3, Value::Varint(number)) => single = Some(Attribute::Int(number as i64)),
            (4, Value::Bytes(_)) => text = true,
            (8, Value::Varint(number)) => push(&mut ints, name, number)?,
            (8, Value::Bytes(packed)) => {
                for number in packed.varints() {
                    push(&mut ints, name, number?)?;
                }
            }
            (20, Value::Varint(number)) => kind = number,
            // A comment.
            (13, _) => {}
            _ => other = true,
        }
    }
    // proto3 writers leave zeros out, so the declared type decides. A value of another type beside it is nothing
    // that an honest writer leaves, and nothing to rely on all readers to pass over.
    let value = match (kind, single, text, ints.is_empty()) {
        _ if other => Attribute::Other,
        (1, Some(Attribute::Float(value)), false, true) => Attribute::Float(value),
        (1, None, false, true) => Attribute::Float(0.0),
        (2, Some(Attribute::Int(value)), false, true) => Attribute::Int(value),
        (2, None, false, true) => Attribute::Int(0),
        (3, None, _, true) => Attribute::Text,
        (7, None, false, _) => Attribute::Ints(ints),
        _ => Attribute::Other,
    };
    Ok((name, value))
}

fn push(ints: &mut Vec<i64>, name: &str, number: u64) -> Parsed<()> {
    if ints.len() == MAX_INTEGERS {
        return refuse(format!(
            "the setting `{name}` has more than {MAX_INTEGERS} numbers"
        ));
    }
    ints.push(number as i64);
    Ok(())
}
