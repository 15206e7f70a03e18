//! Files of `torch.save`, read without PyTorch and without running anything in them.
//!
//! PyTorch 1.6 and later write a zip archive: `<name>/data.pkl`, the object, and `<name>/data/<key>`,
//! the storages of its tensors. PyTorch 0.1.10 to 1.5 wrote one after the other: three pickles that
//! say what the file is, the object, the keys of its storages, and the storages. Many published
//! checkpoints (MoCo v2, SwAV) are of the older kind.
//!
//! The crate `pytorch-reader` (burn 0.22) reads both too, but refuses a whole file when an object of
//! unknown class holds tensors, as the authors' pickled queue does, and forgets the order of
//! dictionaries, which numbers the optimiser's parameters. So the reader is our own.

mod container;
mod dtype;
mod tensor;
mod writer;

pub(super) use container::{SEQUENCE_MAGIC, ZIP_MAGIC};
pub(super) use dtype::Dtype;
pub(super) use tensor::TensorRef;
pub(super) use writer::{Content, torch_file};

use super::pickle::{Graph, Value};
use crate::weights::Array;
use crate::{Error, Result};
use container::Container;
use std::cell::Cell;
use std::path::{Path, PathBuf};

/// An open file of `torch.save`: the object, and tensors that are read when asked for.
#[derive(Debug)]
pub(super) struct TorchFile {
    path: PathBuf,
    graph: Graph,
    container: Container,
    /// Bytes of tensors that may still be read.
    budget: Cell<u64>,
}

/// All tensors read may be this many times as large as the file: several may share a storage, and a
/// hostile file could have thousands do.
const MAX_SHARING: u64 = 4;

impl TorchFile {
    /// Opens `path` and reads the object in it; its tensors stay on disk.
    ///
    /// # Errors
    /// If the file is no file of `torch.save`, is damaged, or is beyond a limit.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let (container, graph) = Container::open(path)?;
        let length = std::fs::metadata(path)
            .map_err(Error::io("read", path))?
            .len();
        Ok(Self {
            path: path.to_path_buf(),
            graph,
            container,
            budget: Cell::new(length.saturating_mul(MAX_SHARING)),
        })
    }

    /// The object.
    pub(super) fn root(&self) -> Value<'_> {
        self.graph.root()
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The values of a floating-point tensor; `name` is for messages.
    ///
    /// # Errors
    /// If it holds no floating-point numbers, or reaches beyond what the file has.
    pub(super) fn array(&self, name: &str, tensor: &TensorRef) -> Result<Array> {
        let values = tensor
            .dtype
            .floats(&self.bytes(name, tensor)?)
            .ok_or_else(|| self.wrong_dtype(name, tensor, "floating-point numbers"))?;
        Ok(Array::new(tensor.shape.clone(), values))
    }

    /// The values of an integer tensor.
    ///
    /// # Errors
    /// As [`array`](Self::array).
    pub(super) fn integers(&self, name: &str, tensor: &TensorRef) -> Result<Vec<i64>> {
        tensor
            .dtype
            .integers(&self.bytes(name, tensor)?)
            .ok_or_else(|| self.wrong_dtype(name, tensor, "integers"))
    }

    /// The bytes of a tensor's values, dense and row-major.
    fn bytes(&self, name: &str, tensor: &TensorRef) -> Result<Vec<u8>> {
        let fail = |reason: String| Error::malformed(&self.path, format!("{name}: {reason}"));
        tensor.check().map_err(fail)?;
        let budget = self.budget.get().checked_sub(tensor.bytes() as u64);
        let Some(budget) = budget else {
            return Err(fail(format!(
                "the tensors read so far are {MAX_SHARING} times as large as the file; no more are read"
            )));
        };
        self.budget.set(budget);
        let storage = self
            .container
            .read(&tensor.storage, tensor.storage_bytes())
            .map_err(fail)?;
        Ok(tensor.gather(&storage))
    }

    fn wrong_dtype(&self, name: &str, tensor: &TensorRef, wanted: &str) -> Error {
        Error::malformed(
            &self.path,
            format!(
                "{name} holds {}, where {wanted} are expected",
                tensor.dtype.name()
            ),
        )
    }
}

#[cfg(test)]
mod tests;
