//! The files of a checkpoint: contents, hashes, durable writing.

use super::QueueState;
use super::manifest::{FileEntry, Manifest, QueuePosition};
use crate::weights::{Array, StateDict};
use crate::{Error, Result};
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

/// The bytes of a file about to be written.
pub(super) struct Contents(Vec<u8>);

impl Contents {
    pub(super) fn arrays(arrays: &StateDict) -> Result<Self> {
        let bytes: Vec<(&String, Vec<usize>, Vec<u8>)> = arrays
            .iter()
            .map(|(name, array)| (name, array.shape.clone(), float_bytes(&array.data)))
            .collect();
        pack(bytes.iter().map(|(name, shape, bytes)| {
            (name.as_str(), Dtype::F32, shape.clone(), bytes.as_slice())
        }))
    }

    pub(super) fn queue(queue: &QueueState) -> Result<Self> {
        let length = queue.indices.len();
        let dim = queue.embeddings.len() / length.max(1);
        let embeddings = float_bytes(&queue.embeddings);
        let (indices, labels) = (int_bytes(&queue.indices), int_bytes(&queue.labels));
        pack([
            (
                "embeddings",
                Dtype::F32,
                vec![length, dim],
                embeddings.as_slice(),
            ),
            ("indices", Dtype::I64, vec![length], indices.as_slice()),
            ("labels", Dtype::I64, vec![length], labels.as_slice()),
        ])
    }

    pub(super) fn json(value: &impl serde::Serialize) -> Result<Self> {
        serde_json::to_vec_pretty(value)
            .map(Self)
            .map_err(|error| Error::Checkpoint(format!("cannot write the manifest: {error}")))
    }
}

fn pack<'a>(
    tensors: impl IntoIterator<Item = (&'a str, Dtype, Vec<usize>, &'a [u8])>,
) -> Result<Contents> {
    let fail = |error| Error::Checkpoint(format!("cannot pack a checkpoint: {error}"));
    let views = tensors
        .into_iter()
        .map(|(name, dtype, shape, bytes)| Ok((name, TensorView::new(dtype, shape, bytes)?)))
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()
        .map_err(fail)?;
    serialize(views, None).map(Contents).map_err(fail)
}

/// Writes and syncs a new file; returns what the manifest says of it.
pub(super) fn write_synced(path: &Path, contents: &Contents) -> Result<FileEntry> {
    let mut file = File::create_new(path).map_err(Error::io("create", path))?;
    file.write_all(&contents.0)
        .map_err(Error::io("write", path))?;
    file.sync_all().map_err(Error::io("write", path))?;
    Ok(FileEntry {
        bytes: contents.0.len() as u64,
        sha256: hex_sha256(&contents.0),
    })
}

/// Reads a file of a checkpoint and compares it with the manifest.
pub(super) fn read_verified(checkpoint: &Path, file: &str, manifest: &Manifest) -> Result<Vec<u8>> {
    let path = checkpoint.join(file);
    let entry = manifest
        .files
        .get(file)
        .ok_or_else(|| Error::malformed(&path, "the manifest does not list it"))?;
    let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
    if bytes.len() as u64 != entry.bytes {
        return Err(Error::malformed(
            &path,
            format!(
                "{} bytes long, the manifest says {}; {RESTORE}",
                bytes.len(),
                entry.bytes
            ),
        ));
    }
    let sha256 = hex_sha256(&bytes);
    if sha256 != entry.sha256 {
        return Err(Error::malformed(
            &path,
            format!(
                "its SHA-256 is {sha256}, the manifest says {}; {RESTORE}",
                entry.sha256
            ),
        ));
    }
    Ok(bytes)
}

const RESTORE: &str =
    "restore the file, or remove this checkpoint's folder to go back to the one before";

pub(super) fn parse_arrays(path: &Path, bytes: &[u8]) -> Result<StateDict> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| Error::malformed(path, error))?;
    file.tensors()
        .into_iter()
        .map(|(name, view)| {
            let data = floats(path, &name, &view)?;
            Ok((name, Array::new(view.shape(), data)))
        })
        .collect()
}

pub(super) fn parse_queue(
    path: &Path,
    bytes: &[u8],
    position: &QueuePosition,
) -> Result<QueueState> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| Error::malformed(path, error))?;
    let tensor = |name: &str| {
        file.tensor(name)
            .map_err(|error| Error::malformed(path, error))
    };
    Ok(QueueState {
        embeddings: floats(path, "embeddings", &tensor("embeddings")?)?,
        indices: ints(path, "indices", &tensor("indices")?)?,
        labels: ints(path, "labels", &tensor("labels")?)?,
        next: position.next,
        full: position.full,
    })
}

fn floats(path: &Path, name: &str, view: &TensorView<'_>) -> Result<Vec<f32>> {
    expect_dtype(path, name, view, Dtype::F32)?;
    let (values, _) = view.data().as_chunks();
    Ok(values
        .iter()
        .map(|&bytes| f32::from_le_bytes(bytes))
        .collect())
}

fn ints(path: &Path, name: &str, view: &TensorView<'_>) -> Result<Vec<i64>> {
    expect_dtype(path, name, view, Dtype::I64)?;
    let (values, _) = view.data().as_chunks();
    Ok(values
        .iter()
        .map(|&bytes| i64::from_le_bytes(bytes))
        .collect())
}

fn expect_dtype(path: &Path, name: &str, view: &TensorView<'_>, dtype: Dtype) -> Result<()> {
    if view.dtype() == dtype {
        return Ok(());
    }
    Err(Error::malformed(
        path,
        format!("{name} is {:?}, expected {dtype:?}", view.dtype()),
    ))
}

fn float_bytes(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

fn int_bytes(values: &[i64]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

fn hex_sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
