//! The stack machine.

use super::graph::{Graph, Id, Node, Object};
use super::{MAX_BYTES, MAX_NODES, opcode as op};
use std::collections::HashMap;

/// Reads the pickle at the beginning of `bytes`; gives its graph and its length.
///
/// # Errors
/// What is wrong, with the offset.
pub(crate) fn parse(bytes: &[u8]) -> Result<(Graph, usize), String> {
    let window = &bytes[..bytes.len().min(MAX_BYTES as usize)];
    let mut machine = Machine {
        bytes: window,
        position: 0,
        nodes: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
    };
    let result = machine.run();
    let position = machine.position;
    match result {
        Ok(root) => {
            let nodes = machine.nodes;
            Ok((Graph { nodes, root }, position))
        }
        Err(_) if position >= window.len() && window.len() < bytes.len() => Err(format!(
            "the pickle is longer than {} MiB, the most that is read",
            MAX_BYTES >> 20
        )),
        Err(reason) => Err(format!("{reason} at byte {position} of the pickle")),
    }
}

struct Machine<'a> {
    bytes: &'a [u8],
    position: usize,
    nodes: Vec<Node>,
    stack: Vec<Id>,
    /// Heights of the stack at each open mark.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

type Step<T> = Result<T, String>;

impl<'a> Machine<'a> {
    fn run(&mut self) -> Step<Id> {
        loop {
            let code = self.byte()?;
            if code == op::STOP {
                return self.pop();
            }
            self.execute(code)?;
        }
    }

    fn execute(&mut self, code: u8) -> Step<()> {
        match code {
            op::PROTO => match self.byte()? {
                2..=5 => Ok(()),
                other => Err(format!("pickle protocol {other} is not known (2 to 5 are)")),
            },
            op::FRAME => self.take(8).map(|_| ()),
            op::MARK => {
                self.marks.push(self.stack.len());
                Ok(())
            }
            op::POP => self.pop().map(|_| ()),
            op::POP_MARK => self.pop_mark().map(|_| ()),
            op::DUP => {
                let top = self.top()?;
                self.stack.push(top);
                Ok(())
            }
            op::NONE
            | op::NEWTRUE
            | op::NEWFALSE
            | op::BININT
            | op::BININT1
            | op::BININT2
            | op::LONG1
            | op::LONG4
            | op::BINFLOAT => self.number(code),
            op::SHORT_BINUNICODE
            | op::BINUNICODE
            | op::BINUNICODE8
            | op::SHORT_BINSTRING
            | op::BINSTRING
            | op::SHORT_BINBYTES
            | op::BINBYTES
            | op::BINBYTES8
            | op::BYTEARRAY8 => self.string(code),
            op::BINPUT | op::LONG_BINPUT | op::MEMOIZE | op::BINGET | op::LONG_BINGET => {
                self.remember(code)
            }
            op::GLOBAL
            | op::STACK_GLOBAL
            | op::REDUCE
            | op::BUILD
            | op::NEWOBJ
            | op::NEWOBJ_EX
            | op::BINPERSID => self.object(code),
            _ => self.container(code),
        }
    }

    fn number(&mut self, code: u8) -> Step<()> {
        let node = match code {
            op::NONE => Node::None,
            op::NEWTRUE => Node::Bool(true),
            op::NEWFALSE => Node::Bool(false),
            op::BININT => Node::Int(i32::from_le_bytes(self.array()?).into()),
            op::BININT1 => Node::Int(self.byte()?.into()),
            op::BININT2 => Node::Int(u16::from_le_bytes(self.array()?).into()),
            op::LONG1 => {
                let length = self.byte()?;
                long(self.take(length.into())?)
            }
            op::LONG4 => {
                let length = self.length4()?;
                long(self.take(length)?)
            }
            _ => Node::Float(f64::from_be_bytes(self.array()?)),
        };
        self.push(node)
    }

    fn string(&mut self, code: u8) -> Step<()> {
        let length = match code {
            op::SHORT_BINUNICODE | op::SHORT_BINSTRING | op::SHORT_BINBYTES => {
                usize::from(self.byte()?)
            }
            op::BINUNICODE | op::BINSTRING | op::BINBYTES => self.length4()?,
            _ => usize::try_from(u64::from_le_bytes(self.array()?))
                .map_err(|_| "a length beyond this machine's memory".to_string())?,
        };
        let bytes = self.take(length)?;
        let node = match code {
            op::SHORT_BINUNICODE | op::BINUNICODE | op::BINUNICODE8 => Node::Text(
                std::str::from_utf8(bytes)
                    .map_err(|_| "a string that is not UTF-8".to_string())?
                    .to_string(),
            ),
            // Python 2's strings are bytes; names are text all the same.
            op::SHORT_BINSTRING | op::BINSTRING => match std::str::from_utf8(bytes) {
                Ok(text) => Node::Text(text.to_string()),
                Err(_) => Node::Bytes(bytes.to_vec()),
            },
            _ => Node::Bytes(bytes.to_vec()),
        };
        self.push(node)
    }

    fn remember(&mut self, code: u8) -> Step<()> {
        match code {
            op::BINGET | op::LONG_BINGET => {
                let key: u32 = if code == op::BINGET {
                    self.byte()?.into()
                } else {
                    u32::from_le_bytes(self.array()?)
                };
                let id = *self
                    .memo
                    .get(&key)
                    .ok_or_else(|| format!("memo entry {key}, which was never put,"))?;
                self.stack.push(id);
            }
            _ => {
                let key: u32 = match code {
                    op::BINPUT => self.byte()?.into(),
                    op::LONG_BINPUT => u32::from_le_bytes(self.array()?),
                    // Invariant: there are no more memo entries than bytes, at most MAX_BYTES.
                    _ => self.memo.len() as u32,
                };
                let top = self.top()?;
                self.memo.insert(key, top);
            }
        }
        Ok(())
    }

    fn container(&mut self, code: u8) -> Step<()> {
        let node = match code {
            op::EMPTY_TUPLE => Node::Tuple(Vec::new()),
            op::TUPLE => Node::Tuple(self.pop_mark()?),
            op::TUPLE1 => Node::Tuple(self.pop_last(1)?),
            op::TUPLE2 => Node::Tuple(self.pop_last(2)?),
            op::TUPLE3 => Node::Tuple(self.pop_last(3)?),
            op::EMPTY_LIST => Node::List(Vec::new()),
            op::LIST => Node::List(self.pop_mark()?),
            op::EMPTY_SET => Node::Set(Vec::new()),
            op::FROZENSET => Node::Set(self.pop_mark()?),
            op::EMPTY_DICT => Node::Dict(Vec::new()),
            op::DICT => Node::Dict(pairs(&self.pop_mark()?)?),
            op::APPEND => {
                let added = self.pop_last(1)?;
                return self.append(added);
            }
            op::APPENDS | op::ADDITEMS => {
                let added = self.pop_mark()?;
                return self.append(added);
            }
            op::SETITEM => {
                let added = self.pop_last(2)?;
                return self.set_items(&added);
            }
            op::SETITEMS => {
                let added = self.pop_mark()?;
                return self.set_items(&added);
            }
            other => {
                return Err(format!(
                    "opcode 0x{other:02x}, which no pickle of protocol 2 to 5 by torch.save has,"
                ));
            }
        };
        self.push(node)
    }

    fn object(&mut self, code: u8) -> Step<()> {
        let node = match code {
            op::GLOBAL => Node::Global {
                module: self.line()?,
                name: self.line()?,
            },
            op::STACK_GLOBAL => {
                let parts = self.pop_last(2)?;
                match (self.node(parts[0]), self.node(parts[1])) {
                    (Node::Text(module), Node::Text(name)) => Node::Global {
                        module: module.clone(),
                        name: name.clone(),
                    },
                    _ => return Err("a class whose name is no string".into()),
                }
            }
            op::BINPERSID => Node::Persistent(self.pop()?),
            op::BUILD => {
                let state = self.pop()?;
                let top = self.top()?;
                // Attributes of a plain container (a state dict's `_metadata`) say nothing we need.
                if let Node::Object(object) = self.node_mut(top) {
                    object.state = Some(state);
                }
                return Ok(());
            }
            _ => {
                if code == op::NEWOBJ_EX {
                    self.pop()?;
                }
                let args = self.pop()?;
                let class = self.pop()?;
                Node::Object(Box::new(Object {
                    class,
                    args,
                    state: None,
                    elements: Vec::new(),
                    items: Vec::new(),
                }))
            }
        };
        self.push(node)
    }

    fn append(&mut self, added: Vec<Id>) -> Step<()> {
        let top = self.top()?;
        match self.node_mut(top) {
            Node::List(elements) | Node::Set(elements) => elements.extend(added),
            Node::Object(object) => object.elements.extend(added),
            _ => return Err("elements for what is no list".into()),
        }
        Ok(())
    }

    fn set_items(&mut self, added: &[Id]) -> Step<()> {
        let added = pairs(added)?;
        let top = self.top()?;
        match self.node_mut(top) {
            Node::Dict(items) => items.extend(added),
            Node::Object(object) => object.items.extend(added),
            _ => return Err("items for what is no dictionary".into()),
        }
        Ok(())
    }

    fn push(&mut self, node: Node) -> Step<()> {
        if self.nodes.len() == MAX_NODES {
            return Err(format!(
                "more than {MAX_NODES} values, the most that are read,"
            ));
        }
        // Invariant: MAX_NODES fits u32.
        self.stack.push(Id(self.nodes.len() as u32));
        self.nodes.push(node);
        Ok(())
    }

    fn node(&self, id: Id) -> &Node {
        &self.nodes[id.0 as usize]
    }

    fn node_mut(&mut self, id: Id) -> &mut Node {
        &mut self.nodes[id.0 as usize]
    }

    /// How far down the stack may be popped: not past the last mark.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self) -> Step<Id> {
        match self.stack.last() {
            Some(&id) if self.stack.len() > self.floor() => Ok(id),
            _ => Err("an empty stack".into()),
        }
    }

    fn pop(&mut self) -> Step<Id> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn pop_last(&mut self, count: usize) -> Step<Vec<Id>> {
        match self.stack.len().checked_sub(count) {
            Some(start) if start >= self.floor() => Ok(self.stack.split_off(start)),
            _ => Err("too few values on the stack".into()),
        }
    }

    fn pop_mark(&mut self) -> Step<Vec<Id>> {
        let start = self.marks.pop().ok_or("no mark on the stack")?;
        Ok(self.stack.split_off(start))
    }

    fn take(&mut self, length: usize) -> Step<&'a [u8]> {
        let rest = &self.bytes[self.position..];
        let taken = rest.get(..length).ok_or_else(|| {
            self.position = self.bytes.len();
            "the pickle ends too early".to_string()
        })?;
        self.position += length;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Step<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn byte(&mut self) -> Step<u8> {
        let [byte] = self.array::<1>()?;
        Ok(byte)
    }

    fn length4(&mut self) -> Step<usize> {
        let length = u32::from_le_bytes(self.array()?);
        usize::try_from(length).map_err(|_| "a length beyond this machine's memory".into())
    }

    fn line(&mut self) -> Step<String> {
        let rest = &self.bytes[self.position..];
        let length = rest.iter().position(|&byte| byte == b'\n');
        let bytes = self.take(length.unwrap_or(rest.len() + 1))?;
        self.position += 1;
        String::from_utf8(bytes.to_vec()).map_err(|_| "a name that is not UTF-8".into())
    }
}

fn pairs(ids: &[Id]) -> Step<Vec<(Id, Id)>> {
    let (pairs, []) = ids.as_chunks::<2>() else {
        return Err("a key without a value".into());
    };
    Ok(pairs.iter().map(|&[key, value]| (key, value)).collect())
}

/// A little-endian two's complement integer of any length.
fn long(bytes: &[u8]) -> Node {
    if bytes.len() > 8 {
        return Node::Long;
    }
    let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let mut all = [if negative { 0xff } else { 0 }; 8];
    all[..bytes.len()].copy_from_slice(bytes);
    Node::Int(i64::from_le_bytes(all))
}
