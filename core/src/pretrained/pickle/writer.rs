//! Pickles for PyTorch (protocol 2) and detectron2 (3) to read.

use super::opcode as op;

/// Appends opcodes; what they must add up to is the caller's business.
#[derive(Debug)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// A pickle that has only begun.
    pub(crate) fn new(protocol: u8) -> Self {
        Self {
            bytes: vec![op::PROTO, protocol],
        }
    }

    /// The finished pickle.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.bytes.push(op::STOP);
        self.bytes
    }

    /// `True` or `False`.
    pub(crate) fn bool(&mut self, value: bool) -> &mut Self {
        self.code(if value { op::NEWTRUE } else { op::NEWFALSE })
    }

    /// An integer from 0 up.
    pub(crate) fn size(&mut self, value: usize) -> &mut Self {
        match u8::try_from(value) {
            Ok(small) => self.code(op::BININT1).raw(&[small]),
            // Eight bytes, signed: sizes of what is in memory never set the highest bit.
            Err(_) => {
                let bytes = (value as u64).to_le_bytes();
                self.code(op::LONG1).raw(&[8]).raw(&bytes)
            }
        }
    }

    /// A string.
    pub(crate) fn text(&mut self, value: &str) -> &mut Self {
        self.code(op::BINUNICODE).counted(value.as_bytes())
    }

    /// Bytes; protocol 3 and up. At most 4 GiB, which no array of a model reaches.
    pub(crate) fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.code(op::BINBYTES).counted(value)
    }

    /// A class or function.
    pub(crate) fn global(&mut self, module: &str, name: &str) -> &mut Self {
        self.code(op::GLOBAL)
            .raw(format!("{module}\n{name}\n").as_bytes())
    }

    /// A tuple of sizes.
    pub(crate) fn sizes(&mut self, values: &[usize]) -> &mut Self {
        self.mark();
        for &value in values {
            self.size(value);
        }
        self.tuple()
    }

    /// Begins a tuple or the items of a dictionary.
    pub(crate) fn mark(&mut self) -> &mut Self {
        self.code(op::MARK)
    }

    /// The values since the last mark as a tuple.
    pub(crate) fn tuple(&mut self) -> &mut Self {
        self.code(op::TUPLE)
    }

    /// `()`.
    pub(crate) fn empty_tuple(&mut self) -> &mut Self {
        self.code(op::EMPTY_TUPLE)
    }

    /// `{}`.
    pub(crate) fn empty_dict(&mut self) -> &mut Self {
        self.code(op::EMPTY_DICT)
    }

    /// Puts the keys and values since the last mark into the dictionary before it.
    pub(crate) fn set_items(&mut self) -> &mut Self {
        self.code(op::SETITEMS)
    }

    /// Calls the global before the last value with that value, a tuple.
    pub(crate) fn call(&mut self) -> &mut Self {
        self.code(op::REDUCE)
    }

    /// Gives the object before the last value that value as its state.
    pub(crate) fn build(&mut self) -> &mut Self {
        self.code(op::BUILD)
    }

    /// `None`.
    pub(crate) fn none(&mut self) -> &mut Self {
        self.code(op::NONE)
    }

    /// A signed integer.
    pub(crate) fn int(&mut self, value: i32) -> &mut Self {
        self.code(op::BININT).raw(&value.to_le_bytes())
    }

    /// The last value as the identifier of what is kept outside.
    pub(crate) fn persistent(&mut self) -> &mut Self {
        self.code(op::BINPERSID)
    }

    fn code(&mut self, code: u8) -> &mut Self {
        self.raw(&[code])
    }

    fn counted(&mut self, bytes: &[u8]) -> &mut Self {
        let length = bytes.len() as u32;
        self.raw(&length.to_le_bytes()).raw(bytes)
    }

    fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self
    }
}
