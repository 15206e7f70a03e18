//! Protobuf's wire format, read without copying and without trust: every length is checked against what
//! is there before anything is touched.

/// Bytes that are not what the format allows, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WireError {
    /// Offset in the file.
    pub(super) offset: usize,
    /// What is wrong there.
    pub(super) what: &'static str,
}

impl std::fmt::Display for WireError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at byte {}", self.what, self.offset)
    }
}

/// A stretch of the file: one message, string or block of numbers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bytes<'a> {
    /// The content.
    pub(super) data: &'a [u8],
    /// Where `data` begins in the file.
    pub(super) offset: usize,
}

/// The value of a field.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value<'a> {
    /// int32, int64, bool, enum.
    Varint(u64),
    /// double, fixed64; nothing that is read here.
    Fixed64,
    /// string, bytes, message, packed numbers.
    Bytes(Bytes<'a>),
    /// float, fixed32.
    Fixed32(u32),
}

/// The fields of a message, in file order, as (number, value).
pub(super) struct Fields<'a> {
    rest: Bytes<'a>,
    failed: bool,
}

impl<'a> Bytes<'a> {
    /// A whole file.
    pub(super) fn file(data: &'a [u8]) -> Self {
        Self { data, offset: 0 }
    }

    /// Read as a message.
    pub(super) fn fields(self) -> Fields<'a> {
        Fields {
            rest: self,
            failed: false,
        }
    }

    /// As [`Self::fields`], each with all its bytes, for copying.
    pub(super) fn fields_as_they_are(
        self,
    ) -> impl Iterator<Item = Result<(u32, Value<'a>, &'a [u8]), WireError>> {
        let mut fields = self.fields();
        std::iter::from_fn(move || {
            let all = fields.rest.data;
            let field = fields.next()?;
            let taken = all.len() - fields.rest.data.len();
            Some(field.map(|(number, value)| (number, value, &all[..taken])))
        })
    }

    /// Read as packed varints, one at a time: a list of them takes eight times its bytes.
    pub(super) fn varints(self) -> impl Iterator<Item = Result<u64, WireError>> {
        let mut rest = self;
        std::iter::from_fn(move || {
            if rest.data.is_empty() {
                return None;
            }
            let value = rest.varint();
            if value.is_err() {
                rest.data = &[];
            }
            Some(value)
        })
    }

    /// Read as text without NUL (engines pass names on as C strings).
    pub(super) fn text(self) -> Result<&'a str, WireError> {
        match std::str::from_utf8(self.data) {
            Ok(text) if !text.contains('\0') => Ok(text),
            _ => Err(self.error("text that is not UTF-8 or contains NUL")),
        }
    }

    /// An error at the beginning of this stretch.
    pub(super) fn error(&self, what: &'static str) -> WireError {
        WireError {
            offset: self.offset,
            what,
        }
    }

    fn split(&mut self, length: usize) -> Result<Bytes<'a>, WireError> {
        let Some((head, tail)) = self.data.split_at_checked(length) else {
            return Err(self.error("a field longer than the rest of the file"));
        };
        let part = Bytes {
            data: head,
            offset: self.offset,
        };
        *self = Bytes {
            data: tail,
            offset: self.offset + length,
        };
        Ok(part)
    }

    fn varint(&mut self) -> Result<u64, WireError> {
        let mut value = 0u64;
        for (position, &byte) in self.data.iter().take(10).enumerate() {
            let bits = u64::from(byte & 0x7f);
            if position == 9 && bits > 1 {
                break;
            }
            value |= bits << (7 * position);
            if byte < 0x80 {
                self.split(position + 1)?;
                return Ok(value);
            }
        }
        Err(self.error("an unfinished or oversized number"))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let part = self.split(N)?;
        part.data
            .try_into()
            .map_err(|_| part.error("a short number"))
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Result<(u32, Value<'a>), WireError> {
        let start = self.rest;
        let tag = self.rest.varint()?;
        let number = u32::try_from(tag >> 3)
            .ok()
            .filter(|&n| n > 0 && n < 1 << 29);
        let number = number.ok_or_else(|| start.error("an impossible field number"))?;
        let value = match tag & 7 {
            0 => Value::Varint(self.rest.varint()?),
            1 => {
                self.rest.split(8)?;
                Value::Fixed64
            }
            2 => {
                let length = self.rest.varint()?;
                let length = usize::try_from(length)
                    .map_err(|_| start.error("a field longer than the rest of the file"))?;
                Value::Bytes(self.rest.split(length)?)
            }
            5 => Value::Fixed32(u32::from_le_bytes(self.rest.array()?)),
            _ => return Err(start.error("an unknown kind of field")),
        };
        Ok((number, value))
    }
}

/// Appends the field `number` with a message, text or bytes.
pub(super) fn push(message: &mut Vec<u8>, number: u32, value: &[u8]) {
    push_varint(message, u64::from(number) << 3 | 2);
    push_varint(message, value.len() as u64);
    message.extend_from_slice(value);
}

/// Appends the field `number` with a number.
pub(super) fn push_number(message: &mut Vec<u8>, number: u32, value: u64) {
    push_varint(message, u64::from(number) << 3);
    push_varint(message, value);
}

fn push_varint(message: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        message.push(value as u8 | 0x80);
        value >>= 7;
    }
    message.push(value as u8);
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Value<'a>), WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.rest.data.is_empty() {
            return None;
        }
        let field = self.field();
        self.failed = field.is_err();
        Some(field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(data: &[u8]) -> Result<Vec<u32>, WireError> {
        Bytes::file(data)
            .fields()
            .map(|field| Ok(field?.0))
            .collect()
    }

    #[test]
    fn reads_each_kind_of_field() {
        let data = [
            0x08, 0x96, 0x01, // 1: 150
            0x11, 1, 0, 0, 0, 0, 0, 0, 0, // 2: 64 bits
            0x1a, 2, b'h', b'i', // 3: "hi"
            0x25, 0, 0, 0x80, 0x3f, // 4: 1.0f32
        ];
        let fields: Vec<_> = Bytes::file(&data)
            .fields()
            .map(|f| f.expect("valid"))
            .collect();
        assert!(matches!(fields[0], (1, Value::Varint(150))));
        assert!(matches!(fields[1], (2, Value::Fixed64)));
        let (3, Value::Bytes(text)) = fields[2] else {
            panic!("{:?}", fields[2]);
        };
        assert_eq!((text.text(), text.offset), (Ok("hi"), 14));
        assert!(matches!(fields[3], (4, Value::Fixed32(0x3f80_0000))));
    }

    #[test]
    fn what_is_pushed_is_read_again_and_copied_whole() {
        let mut data = vec![0x11, 1, 0, 0, 0, 0, 0, 0, 0]; // 2: 64 bits
        push(&mut data, 3, &[b'x'; 200]);
        push_number(&mut data, 300, u64::MAX);
        let fields = Bytes::file(&data).fields_as_they_are();
        let fields: Vec<_> = fields.map(|field| field.expect("valid")).collect();
        assert!(matches!(fields[1], (3, Value::Bytes(text), _) if text.data.len() == 200));
        assert!(matches!(fields[2], (300, Value::Varint(u64::MAX), _)));
        let copy: Vec<u8> = fields
            .iter()
            .flat_map(|(_, _, bytes)| *bytes)
            .copied()
            .collect();
        assert_eq!(copy, data);
    }

    #[test]
    fn packed_numbers_end_with_the_first_that_is_none() {
        let all = |data| -> Vec<_> { Bytes::file(data).varints().collect() };
        assert_eq!(all(&[]), []);
        assert_eq!(all(&[5, 0x96, 0x01]), [Ok(5), Ok(150)]);
        let found = all(&[5, 0x80]);
        assert!(matches!(found[..], [Ok(5), Err(_)]), "{found:?}");
    }

    #[test]
    fn refuses_what_does_not_fit() {
        for (data, offset) in [
            (&[0x08][..], 1),      // no value
            (&[0x08, 0x80], 1),    // unfinished number
            (&[0x1a, 5, 1, 2], 2), // longer than the file
            (&[0x11, 1, 2, 3], 1), // short fixed64
            (&[0x0b], 0),          // a group
            (&[0x00, 0x00], 0),    // field 0
            (&[0x08, 1, 0x0f], 2), // wire type 7
            (
                &[
                    0x1a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01,
                ],
                11,
            ),
            (
                &[
                    0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02,
                ],
                1,
            ),
        ] {
            let error = all(data).expect_err("must be refused");
            assert_eq!(error.offset, offset, "{data:x?}: {error}");
        }
    }

    #[test]
    fn text_has_no_nul() {
        assert!(Bytes::file(b"a\0b").text().is_err());
        assert!(Bytes::file(&[0xff]).text().is_err());
    }
}
