//! Protobuf messages taken apart and put together again, to make files that no honest writer makes.

/// A message as its fields, in order.
#[derive(Clone)]
pub(crate) struct Message(pub(crate) Vec<(u64, Value)>);

/// A field's value.
#[derive(Clone)]
pub(crate) enum Value {
    Number(u64),
    Fixed32([u8; 4]),
    Bytes(Vec<u8>),
}

impl Message {
    /// Takes a valid message apart, one level deep.
    pub(crate) fn parse(mut bytes: &[u8]) -> Self {
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let tag = varint(&mut bytes);
            let value = match tag & 7 {
                0 => Value::Number(varint(&mut bytes)),
                2 => {
                    let length = varint(&mut bytes) as usize;
                    Value::Bytes(take(&mut bytes, length).to_vec())
                }
                5 => Value::Fixed32(take(&mut bytes, 4).try_into().expect("four bytes")),
                kind => panic!("field kind {kind}"),
            };
            fields.push((tag >> 3, value));
        }
        Self(fields)
    }

    /// Puts the message together.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (number, value) in &self.0 {
            match value {
                Value::Number(n) => {
                    push_varint(&mut bytes, number << 3);
                    push_varint(&mut bytes, *n);
                }
                Value::Fixed32(data) => {
                    push_varint(&mut bytes, number << 3 | 5);
                    bytes.extend(data);
                }
                Value::Bytes(data) => {
                    push_varint(&mut bytes, number << 3 | 2);
                    push_varint(&mut bytes, data.len() as u64);
                    bytes.extend(data);
                }
            }
        }
        bytes
    }

    /// Appends a number.
    pub(crate) fn number(mut self, field: u64, value: u64) -> Self {
        self.0.push((field, Value::Number(value)));
        self
    }

    /// Appends text, bytes or an encoded message.
    pub(crate) fn bytes(mut self, field: u64, value: impl AsRef<[u8]>) -> Self {
        self.0.push((field, Value::Bytes(value.as_ref().to_vec())));
        self
    }

    /// Changes the first message in `field` for which `which` holds; there must be one.
    pub(crate) fn edit(
        &mut self,
        field: u64,
        which: impl Fn(&Self) -> bool,
        change: impl FnOnce(&mut Self),
    ) {
        let parts = self.0.iter_mut().filter(|(number, _)| *number == field);
        for (_, value) in parts {
            let Value::Bytes(bytes) = value else { continue };
            let mut inner = Self::parse(bytes);
            if which(&inner) {
                change(&mut inner);
                *bytes = inner.encode();
                return;
            }
        }
        panic!("nothing to change in field {field}");
    }

    /// Whether `field` holds exactly this text.
    pub(crate) fn has_text(&self, field: u64, text: &str) -> bool {
        let same = |value: &Value| matches!(value, Value::Bytes(bytes) if bytes == text.as_bytes());
        self.0
            .iter()
            .any(|(number, value)| *number == field && same(value))
    }

    /// Replaces everything in `field` by one value.
    pub(crate) fn set(&mut self, field: u64, value: Value) {
        self.0.retain(|(number, _)| *number != field);
        self.0.push((field, value));
    }
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (head, tail) = bytes.split_at(length);
    *bytes = tail;
    head
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let byte = take(bytes, 1)[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    value
}

fn push_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}
