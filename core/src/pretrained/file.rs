//! Files of weights, whatever wrote them.

use super::torch::{Dtype, SEQUENCE_MAGIC, TensorRef, TorchFile, ZIP_MAGIC};
use crate::weights::Array;
use crate::{Error, Result};
use safetensors::SafeTensors;
use std::fs::{self, File};
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// An open file of weights: what `torch.save` wrote (`.pth`, `.pth.tar`, `.pt`), or safetensors.
#[derive(Debug)]
pub(super) enum WeightFile {
    /// Written by PyTorch.
    Torch(TorchFile),
    /// Written by safetensors.
    Safetensors(SafetensorsFile),
}

/// A safetensors file, checked and in memory.
#[derive(Debug)]
pub(super) struct SafetensorsFile {
    path: PathBuf,
    bytes: Vec<u8>,
    tensors: Vec<(String, Entry)>,
}

/// What a state dict has under a name.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Entry {
    /// A tensor of a PyTorch file.
    Torch(TensorRef),
    /// A tensor of a safetensors file.
    Safetensors {
        dtype: Dtype,
        shape: Vec<usize>,
        range: Range<usize>,
    },
    /// No tensor, or one that cannot be read: what it is.
    Other(String),
}

impl WeightFile {
    /// Opens `path`; what it is, its first bytes tell.
    ///
    /// # Errors
    /// If it is neither kind of file, or damaged.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let mut head = Vec::new();
        File::open(path)
            .and_then(|file| {
                file.take(SEQUENCE_MAGIC.len() as u64)
                    .read_to_end(&mut head)
            })
            .map_err(Error::io("read", path))?;
        // A safetensors file begins with the length of its header, of JSON.
        if head.get(8) == Some(&b'{') && !head.starts_with(ZIP_MAGIC) {
            return SafetensorsFile::open(path).map(Self::Safetensors);
        }
        TorchFile::open(path).map(Self::Torch)
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Torch(file) => file.path(),
            Self::Safetensors(file) => &file.path,
        }
    }

    /// The named entries of the dictionary under `container` ("" is the file's own), in order; none if
    /// there is no such dictionary or no tensor in it.
    pub(super) fn entries(&self, container: &str) -> Option<Vec<(String, Entry)>> {
        match self {
            Self::Safetensors(file) => container.is_empty().then(|| file.tensors.clone()),
            Self::Torch(file) => {
                let dictionary = match container {
                    "" => file.root(),
                    key => file.root().get(key)?,
                };
                let mut entries = Vec::new();
                for (name, value) in dictionary.entries()? {
                    let entry = match TensorRef::of(value) {
                        Ok(Some(tensor)) => Entry::Torch(tensor),
                        Ok(None) => Entry::Other(value.kind()),
                        Err(reason) => Entry::Other(reason),
                    };
                    entries.push((name.text()?.to_string(), entry));
                }
                let tensors = |(_, entry): &(String, Entry)| matches!(entry, Entry::Torch(_));
                entries.iter().any(tensors).then_some(entries)
            }
        }
    }

    /// The keys of the file's own dictionary, for messages.
    pub(super) fn keys(&self) -> Vec<String> {
        match self {
            Self::Safetensors(file) => file.tensors.iter().map(|(name, _)| name.clone()).collect(),
            Self::Torch(file) => file
                .root()
                .entries()
                .unwrap_or_default()
                .into_iter()
                .filter_map(|(key, _)| key.text().map(str::to_string))
                .collect(),
        }
    }

    /// The values of a floating-point entry.
    ///
    /// # Errors
    /// If it is no such tensor, the file is damaged, or a value is not finite.
    pub(super) fn array(&self, name: &str, entry: &Entry) -> Result<Array> {
        let fail = |reason: String| Error::malformed(self.path(), format!("{name}: {reason}"));
        let array = match (self, entry) {
            (Self::Torch(file), Entry::Torch(tensor)) => file.array(name, tensor)?,
            (
                Self::Safetensors(file),
                Entry::Safetensors {
                    dtype,
                    shape,
                    range,
                },
            ) => {
                let values = dtype.floats(&file.bytes[range.clone()]).ok_or_else(|| {
                    fail(format!(
                        "holds {}, where floating-point numbers are expected",
                        dtype.name()
                    ))
                })?;
                Array::new(shape.clone(), values)
            }
            (_, Entry::Other(kind)) => return Err(fail(format!("is {kind}, not a tensor"))),
            _ => return Err(fail("is of another file".into())),
        };
        if let Some(value) = array.data.iter().find(|value| !value.is_finite()) {
            return Err(fail(format!(
                "holds {value}; the training that wrote it diverged, take an earlier checkpoint"
            )));
        }
        Ok(array)
    }
}

impl SafetensorsFile {
    fn open(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).map_err(Error::io("read", path))?;
        let (header, metadata) =
            SafeTensors::read_metadata(&bytes).map_err(|error| Error::malformed(path, error))?;
        let start = size_of::<u64>() + header;
        let infos = metadata.tensors();
        let mut tensors = Vec::new();
        for name in metadata.offset_keys() {
            let info = infos[&name];
            let (from, to) = info.data_offsets;
            let entry = match dtype(info.dtype) {
                Some(dtype) => Entry::Safetensors {
                    dtype,
                    shape: info.shape.clone(),
                    // Invariant: `read_metadata` has checked that offsets fit shapes and the file.
                    range: start + from..start + to,
                },
                None => Entry::Other(format!("a tensor of {:?}", info.dtype)),
            };
            tensors.push((name, entry));
        }
        Ok(Self {
            path: path.to_path_buf(),
            bytes,
            tensors,
        })
    }
}

fn dtype(dtype: safetensors::Dtype) -> Option<Dtype> {
    use safetensors::Dtype as S;
    Some(match dtype {
        S::F64 => Dtype::F64,
        S::F32 => Dtype::F32,
        S::F16 => Dtype::F16,
        S::BF16 => Dtype::Bf16,
        S::I64 => Dtype::I64,
        S::I32 => Dtype::I32,
        S::I16 => Dtype::I16,
        S::I8 => Dtype::I8,
        S::U8 => Dtype::U8,
        S::BOOL => Dtype::Bool,
        _ => return None,
    })
}
