//! Pickles as plain data.
//!
//! A pickle is a program for a small stack machine; Python runs it, imports what it names and calls
//! what it says. Here the machine only records: a class is its name, a call is the name with its
//! arguments, and nothing is imported, called or expanded. What is read is a graph of nodes that
//! refer to each other by number, so shared and cyclic values cost nothing, and a file cannot make
//! the reader recurse or copy: a hostile one can waste at most memory in proportion to its size,
//! which [`MAX_BYTES`] and [`MAX_NODES`] bound.
//!
//! Opcodes are those that Python 2 and 3 write in protocols 2 to 5; `torch.save` uses 2.

mod graph;
mod machine;
mod opcode;
mod writer;

pub(super) use graph::{Graph, Value};
pub(super) use machine::parse;
pub(super) use writer::Writer;

/// Longest pickle read, 64 MiB. The weights are outside it: the largest checkpoints have some hundred
/// kilobytes.
pub(super) const MAX_BYTES: u64 = 64 << 20;

/// Most values in a pickle; a checkpoint of ten thousand tensors has about half a million.
pub(super) const MAX_NODES: usize = 4_000_000;

#[cfg(test)]
mod tests;
