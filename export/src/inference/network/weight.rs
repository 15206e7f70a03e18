//! Constants: what they are, and whether their values are there.

use super::{
    DOUBLE, FLOAT, FLOAT16, INT8, INT32, INT64, MAX_RANK, Origin, Parsed, Refusal, UINT8, refuse,
    text_pair,
};
use crate::inference::wire::{Bytes, Value};
use std::collections::BTreeMap;

/// Most numbers in a list that says how axes are arranged: two for each.
const MAX_INTEGERS: usize = 2 * MAX_RANK;

/// Most entries that say where a constant lies in another file: ONNX knows four.
const MAX_ENTRIES: usize = 16;

/// A constant of the network.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::inference) enum Weight {
    /// `f32` values of this shape.
    Floats(Vec<usize>),
    /// `f16` values of this shape.
    Halves(Vec<usize>),
    /// Whole numbers that stand for `f32` values: weights of 8 bits, biases of 32.
    Quantised {
        /// As `TensorProto.DataType`.
        kind: u64,
        /// Its shape.
        shape: Vec<usize>,
    },
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
pub(in crate::inference) struct Outside<'a> {
    /// The constant.
    pub(in crate::inference) name: &'a str,
    /// The file, as the model names it.
    pub(in crate::inference) location: &'a str,
    /// First byte.
    pub(in crate::inference) offset: u64,
    /// Number of bytes, which is that of the shape; none if this is not known.
    pub(in crate::inference) length: Option<u64>,
    /// SHA-1 of the whole file, in hexadecimal digits, if the model says it.
    pub(in crate::inference) checksum: Option<&'a str>,
    /// Whether the model leaves the length to the end of the file: engines differ in whether they read that far.
    pub(in crate::inference) to_the_end: bool,
}

/// The fields of a constant.
#[derive(Default)]
struct Fields<'a> {
    name: &'a str,
    dims: Vec<u64>,
    kind: u64,
    raw: Option<&'a [u8]>,
    /// Bytes in the list of floats.
    floats: usize,
    /// Numbers in the list of those of up to 32 bits.
    wholes: usize,
    /// Whether there are values in other lists.
    others: bool,
    elsewhere: bool,
    entries: BTreeMap<&'a str, &'a str>,
}

/// Name and content of a weight, whose values are all there or, as the third says, elsewhere.
pub(super) fn parse(
    message: Bytes<'_>,
    origin: Origin,
) -> Parsed<(&str, Weight, Option<Outside<'_>>)> {
    let fields = Fields::read(message)?;
    let Fields { name, kind, .. } = fields;
    let is_known = matches!(kind, FLOAT | FLOAT16 | INT64) || is_quantised(kind);
    if origin == Origin::Own && !is_known && !(kind == DOUBLE && fields.dims == [1]) {
        return refuse(format!(
            "the weight `{name}` is of ONNX type {kind}; only floats of 32 or 16 bits, and 8 bits that stand for them, are supported"
        ));
    }
    let Some(shape) = lengths(&fields.dims, origin) else {
        return refuse(format!(
            "the weight `{name}` has the impossible shape {:?}",
            fields.dims
        ));
    };
    let is_integers = kind == INT64 && origin == Origin::Own;
    // `lengths` has checked that the product fits.
    let expected = width(kind).map(|width| shape.iter().product::<usize>() * width);
    if fields.elsewhere {
        if fields.stored() != Stored::Nowhere || is_integers {
            return refuse(format!("the weight `{name}` is there twice"));
        }
        let outside = parse_outside(name, &fields.entries, expected)?;
        return Ok((name, weight_of(kind, shape, origin), Some(outside)));
    }
    if !fields.entries.is_empty() {
        return refuse(format!(
            "the weight `{name}` names another file but is said to be in this one"
        ));
    }
    let stored = match fields.stored() {
        Stored::Twice => return refuse(format!("the weight `{name}` is there twice")),
        Stored::Bytes(bytes) => Some(bytes),
        Stored::Nowhere => Some(0),
        // A foreign file's numbers may lie in lists of other types, which its engine reads.
        Stored::Otherwise if origin == Origin::Foreign => None,
        Stored::Otherwise => Some(0),
    };
    if is_integers {
        return match fields.raw.and_then(|raw| integers(&shape, raw)) {
            Some(weight) => Ok((name, weight, None)),
            None => refuse(format!(
                "the weight `{name}` of shape {shape:?} is not a short list of whole numbers"
            )),
        };
    }
    if let (Some(stored), Some(expected)) = (stored, expected)
        && stored != expected
    {
        return refuse(format!(
            "the weight `{name}` has {stored} bytes, which are not the values of shape {shape:?}"
        ));
    }
    Ok((name, weight_of(kind, shape, origin), None))
}

/// Where a constant's values are in its message.
#[derive(PartialEq)]
enum Stored {
    Nowhere,
    Twice,
    /// In a list whose length says so many bytes.
    Bytes(usize),
    /// In a list of another type.
    Otherwise,
}

impl<'a> Fields<'a> {
    fn read(message: Bytes<'a>) -> Parsed<Self> {
        let mut fields = Self::default();
        for field in message.fields() {
            let name = fields.name;
            match field? {
                (1, Value::Varint(dim)) => fields.push_axis(dim)?,
                (1, Value::Bytes(packed)) => {
                    for dim in packed.varints() {
                        fields.push_axis(dim?)?;
                    }
                }
                (2, Value::Varint(number)) => fields.kind = number,
                (4, Value::Bytes(packed)) => fields.floats += packed.data.len(),
                (4, Value::Fixed32(_)) => fields.floats += 4,
                (5, Value::Bytes(packed)) => {
                    for whole in packed.varints() {
                        whole?;
                        fields.wholes += 1;
                    }
                }
                (5, Value::Varint(_)) => fields.wholes += 1,
                (6 | 7 | 10 | 11, _) => fields.others = true,
                (8, Value::Bytes(text)) => fields.name = text.text()?,
                (9, Value::Bytes(data)) if fields.raw.is_none() => fields.raw = Some(data.data),
                (3 | 9, _) => return refuse(format!("the weight `{name}` comes in pieces")),
                (13, _) if fields.entries.len() == MAX_ENTRIES => {
                    return refuse(format!(
                        "the weight `{name}` says more than {MAX_ENTRIES} things of another file"
                    ));
                }
                (13, Value::Bytes(entry)) => {
                    let (key, value) = text_pair(entry)?;
                    if fields.entries.insert(key, value).is_some() {
                        return refuse(format!("the weight `{name}` has two entries `{key}`"));
                    }
                }
                (14, Value::Varint(location)) => fields.elsewhere = location != 0,
                _ => {}
            }
        }
        Ok(fields)
    }

    fn push_axis(&mut self, length: u64) -> Parsed<()> {
        if self.dims.len() == MAX_RANK {
            return refuse(format!(
                "the weight `{}` has the impossible shape {:?}, with more axes than {MAX_RANK}",
                self.name, self.dims
            ));
        }
        self.dims.push(length);
        Ok(())
    }

    fn stored(&self) -> Stored {
        let lists = [self.floats > 0, self.wholes > 0, self.others];
        match (self.raw, lists) {
            (None, [false, false, false]) => Stored::Nowhere,
            (Some(raw), [false, false, false]) => Stored::Bytes(raw.len()),
            (None, [true, false, false]) => Stored::Bytes(self.floats),
            (None, [false, true, false]) if is_quantised(self.kind) => {
                Stored::Bytes(self.wholes * width(self.kind).unwrap_or(1))
            }
            (None, [false, _, _]) => Stored::Otherwise,
            _ => Stored::Twice,
        }
    }
}

fn is_quantised(kind: u64) -> bool {
    matches!(kind, INT8 | UINT8 | INT32)
}

/// Bytes of a number, where that is known.
fn width(kind: u64) -> Option<usize> {
    match kind {
        FLOAT | INT32 => Some(4),
        FLOAT16 => Some(2),
        INT64 | DOUBLE => Some(8),
        INT8 | UINT8 => Some(1),
        // Only in foreign files: whole numbers of 16 bits, truth values, whole numbers of 32 and 64 bits without a
        // sign, complex numbers, floats of 16 and 8 bits.
        4 | 5 | 16 => Some(2),
        9 | 17..=20 => Some(1),
        12 => Some(4),
        13 | 14 => Some(8),
        15 => Some(16),
        _ => None,
    }
}

fn weight_of(kind: u64, shape: Vec<usize>, origin: Origin) -> Weight {
    match kind {
        DOUBLE => Weight::Unknown,
        _ if origin == Origin::Foreign => Weight::Unknown,
        FLOAT16 => Weight::Halves(shape),
        kind if is_quantised(kind) => Weight::Quantised { kind, shape },
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
            Refusal::new(format!(
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
        checksum: entries.get("checksum").copied(),
        to_the_end: length.is_none(),
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

/// The axes as lengths, if each is at least 1 (0 in a foreign file) and their product is a count.
fn lengths(dims: &[u64], origin: Origin) -> Option<Vec<usize>> {
    let least = usize::from(origin == Origin::Own);
    let shape: Vec<usize> = dims
        .iter()
        .map(|&dim| usize::try_from(dim).ok().filter(|&n| n >= least))
        .collect::<Option<_>>()?;
    let product = shape
        .iter()
        .try_fold(1usize, |all, &n| all.checked_mul(n))?;
    (product <= isize::MAX as usize / 8).then_some(shape)
}
