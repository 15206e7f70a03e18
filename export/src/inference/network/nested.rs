//! What another program's file keeps inside its operations and functions: graphs in graphs, and constants there.
//!
//! What these compute is the engine's business, but an engine also reads the files that they name. Only the
//! graph's own weights may lie beside the file, where they are checked.

use super::{Parsed, refuse};
use crate::inference::wire::{Bytes, Value};

/// Graphs within graphs, as in a loop in a branch.
const MAX_DEPTH: usize = 16;

/// An operation's setting.
pub(super) fn attribute(message: Bytes<'_>) -> Parsed<()> {
    attribute_at(message, 0)
}

/// A function.
pub(super) fn function(message: Bytes<'_>) -> Parsed<()> {
    for field in message.fields() {
        match field? {
            (7, Value::Bytes(inner)) => node(inner, 0)?,
            (11, Value::Bytes(default)) => attribute_at(default, 0)?,
            _ => {}
        }
    }
    Ok(())
}

/// A constant with few values that are not 0.
pub(super) fn sparse(message: Bytes<'_>) -> Parsed<()> {
    for field in message.fields() {
        if let (1 | 2, Value::Bytes(part)) = field? {
            tensor(part)?;
        }
    }
    Ok(())
}

fn attribute_at(message: Bytes<'_>, depth: usize) -> Parsed<()> {
    for field in message.fields() {
        match field? {
            (5 | 10, Value::Bytes(constant)) => tensor(constant)?,
            (6 | 11, Value::Bytes(inner)) => graph(inner, depth + 1)?,
            (22 | 23, Value::Bytes(constant)) => sparse(constant)?,
            _ => {}
        }
    }
    Ok(())
}

fn graph(message: Bytes<'_>, depth: usize) -> Parsed<()> {
    if depth > MAX_DEPTH {
        return refuse(format!("it has more than {MAX_DEPTH} graphs in each other"));
    }
    for field in message.fields() {
        match field? {
            (1, Value::Bytes(inner)) => node(inner, depth)?,
            (5, Value::Bytes(constant)) => tensor(constant)?,
            (15, Value::Bytes(constant)) => sparse(constant)?,
            _ => {}
        }
    }
    Ok(())
}

fn node(message: Bytes<'_>, depth: usize) -> Parsed<()> {
    for field in message.fields() {
        if let (5, Value::Bytes(setting)) = field? {
            attribute_at(setting, depth)?;
        }
    }
    Ok(())
}

fn tensor(message: Bytes<'_>) -> Parsed<()> {
    for field in message.fields() {
        if let (13, _) | (14, Value::Varint(1..)) = field? {
            return refuse(
                "a constant inside its operations or functions lies in another file, and only weights of the graph itself may; save the model with all data in one file",
            );
        }
    }
    Ok(())
}
