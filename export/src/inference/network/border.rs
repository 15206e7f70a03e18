//! Values with declared types.

use super::{MAX_RANK, Parsed, refuse};
use crate::inference::wire::{Bytes, Value};

/// A value with a declared type.
#[derive(Debug, Default)]
pub(in crate::inference) struct Border<'a> {
    /// Its name.
    pub(in crate::inference) name: &'a str,
    /// Its elements, as `TensorProto.DataType`; 0 if it is no tensor.
    pub(in crate::inference) kind: u64,
    /// Its axes; `None` where the length is free.
    pub(in crate::inference) axes: Vec<Option<usize>>,
}

pub(super) fn parse(message: Bytes<'_>) -> Parsed<Border<'_>> {
    let mut border = Border::default();
    for field in message.fields() {
        match field? {
            (1, Value::Bytes(text)) => border.name = text.text()?,
            (2, Value::Bytes(value_type)) => {
                for field in value_type.fields() {
                    if let (1, Value::Bytes(tensor)) = field? {
                        border.kind = tensor_type(border.name, tensor, &mut border.axes)?;
                    }
                }
            }
            _ => {}
        }
    }
    Ok(border)
}

fn tensor_type(name: &str, message: Bytes<'_>, axes: &mut Vec<Option<usize>>) -> Parsed<u64> {
    let mut kind = 0;
    for field in message.fields() {
        match field? {
            (1, Value::Varint(number)) => kind = number,
            (2, Value::Bytes(shape)) => {
                for field in shape.fields() {
                    if let (1, Value::Bytes(dim)) = field? {
                        if axes.len() == MAX_RANK {
                            return refuse(format!("`{name}` has too many axes"));
                        }
                        axes.push(length(dim)?);
                    }
                }
            }
            _ => {}
        }
    }
    Ok(kind)
}

fn length(message: Bytes<'_>) -> Parsed<Option<usize>> {
    let mut length = None;
    for field in message.fields() {
        if let (1, Value::Varint(number)) = field? {
            // 0 and negative lengths come from writers that mean "free".
            length = usize::try_from(number as i64).ok().filter(|&n| n > 0);
        }
    }
    Ok(length)
}
