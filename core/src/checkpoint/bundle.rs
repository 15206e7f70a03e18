//! A checkpoint's files in memory, as they travel to other processes.

use super::files::{self, read_verified};
use super::manifest::Manifest;
use super::{MANIFEST, MODEL, OPTIMIZER, OptimizerState, QUEUE, Snapshot};
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The contents of a checkpoint's files, by name.
#[derive(Debug, Clone)]
pub struct Files {
    /// Where they come from, for messages.
    folder: PathBuf,
    contents: BTreeMap<String, Vec<u8>>,
}

/// Reads the files of a checkpoint folder.
///
/// # Errors
/// If one is missing or differs from the manifest.
pub fn read(checkpoint: &Path) -> Result<Files> {
    let mut files = Files::empty(checkpoint);
    let path = checkpoint.join(MANIFEST);
    let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
    let manifest = Manifest::parse(&path, &text)?;
    files.put(MANIFEST, text.into_bytes());
    let queue = manifest.queue.is_some().then_some(QUEUE);
    for name in [MODEL, OPTIMIZER].into_iter().chain(queue) {
        files.put(name, read_verified(checkpoint, name, &manifest)?);
    }
    Ok(files)
}

impl Files {
    /// No files yet, of a checkpoint that messages call `folder`.
    pub fn empty(folder: impl AsRef<Path>) -> Self {
        Self {
            folder: folder.as_ref().to_path_buf(),
            contents: BTreeMap::new(),
        }
    }

    /// The names of the files.
    pub fn names(&self) -> Vec<&str> {
        self.contents.keys().map(String::as_str).collect()
    }

    /// Takes a file out; one that is not there is empty.
    pub fn take(&mut self, name: &str) -> Vec<u8> {
        self.contents.remove(name).unwrap_or_default()
    }

    /// Puts a file in.
    pub fn put(&mut self, name: &str, contents: Vec<u8>) {
        self.contents.insert(name.to_string(), contents);
    }

    /// What they hold.
    ///
    /// # Errors
    /// If a file is missing or malformed.
    pub fn snapshot(mut self) -> Result<Snapshot> {
        // Each file goes as soon as it is parsed: a queue alone may be half a gigabyte.
        let mut get = |name: &str| {
            let path = self.folder.join(name);
            match self.contents.remove(name) {
                Some(contents) => Ok((path, contents)),
                None => Err(Error::malformed(&path, "it is missing")),
            }
        };
        let (path, manifest) = get(MANIFEST)?;
        let text =
            std::str::from_utf8(&manifest).map_err(|error| Error::malformed(&path, error))?;
        let manifest = Manifest::parse(&path, text)?;
        let model = {
            let (path, model) = get(MODEL)?;
            files::parse_arrays(&path, &model)?
        };
        let moments = {
            let (path, moments) = get(OPTIMIZER)?;
            files::parse_arrays(&path, &moments)?
        };
        let optimizer = OptimizerState {
            moments,
            steps: manifest.optimizer_steps.clone(),
        };
        let queue = match &manifest.queue {
            None => None,
            Some(position) => {
                let (path, queue) = get(QUEUE)?;
                Some(files::parse_queue(&path, &queue, position)?)
            }
        };
        Ok(Snapshot {
            manifest,
            model,
            optimizer,
            queue,
        })
    }
}
