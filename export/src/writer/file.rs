//! A file, and what belongs beside it, appears under its name complete or not at all.

use crate::{Error, Result};
use selfcls_core::atomic;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A written file that does not have its name yet. Dropped before [`commit`](Self::commit), it disappears.
#[derive(Debug)]
pub struct StagedFile {
    /// Beside the final path, and hidden; the files in it have their final names.
    folder: TempDir,
    target: PathBuf,
    has_data: bool,
}

impl StagedFile {
    /// Begins what will be `target`.
    pub(super) fn new(target: &Path) -> Result<Self> {
        let Some(name) = target.file_name() else {
            return Err(Error::Request(format!(
                "{} does not name a file; give one such as model.onnx",
                target.display()
            )));
        };
        let parent = parent(target);
        if !parent.is_dir() {
            return Err(Error::Request(format!(
                "cannot write {}: there is no folder {}; make it, or give another place",
                target.display(),
                parent.display()
            )));
        }
        let mut prefix = std::ffi::OsString::from(".");
        prefix.push(name);
        prefix.push(".");
        let folder = tempfile::Builder::new()
            .prefix(&prefix)
            .suffix(".partial")
            .tempdir_in(parent)
            .map_err(Error::io("write", target))?;
        Ok(Self {
            folder,
            target: target.to_path_buf(),
            has_data: false,
        })
    }

    /// What the file with the weights is called: the file's name and `.data`.
    pub(super) fn data_name(&self) -> Result<String> {
        let data = data_path(&self.target);
        let name = data.file_name().and_then(|name| name.to_str());
        name.map(str::to_owned).ok_or_else(|| {
            Error::Request(format!(
                "{} is not Unicode, so the file cannot name the weights beside it; give it another name",
                self.target.display()
            ))
        })
    }

    /// Adds the file itself.
    pub(super) fn with_model(self, bytes: &[u8]) -> Result<Self> {
        self.add(&self.path(), &self.target, bytes)?;
        Ok(self)
    }

    /// Adds the weights beside it.
    pub(super) fn with_data(mut self, bytes: &[u8]) -> Result<Self> {
        let target = data_path(&self.target);
        self.add(&data_path(&self.path()), &target, bytes)?;
        self.has_data = true;
        Ok(self)
    }

    /// Where the file is for now; what belongs beside it is there too.
    pub fn path(&self) -> PathBuf {
        // Invariant: `new` has seen the name.
        let name = self.target.file_name().unwrap_or_default();
        self.folder.path().join(name)
    }

    /// The file with the weights, under the name that it will have, if there is one.
    pub fn data_path(&self) -> Option<PathBuf> {
        self.has_data.then(|| data_path(&self.target))
    }

    /// Gives everything its name. Whatever was there is replaced.
    ///
    /// # Errors
    /// [`Error::Io`] if that is not possible; what stood at the path before is then still there, unless its
    /// weights were kept beside it.
    pub fn commit(self) -> Result<()> {
        let rename = |from: &Path, to: &Path| fs::rename(from, to).map_err(Error::io("write", to));
        let target = &self.target;
        if self.has_data {
            let data = data_path(target);
            // An old file must never be found with the new weights.
            if data.exists() && target.is_file() {
                fs::remove_file(target).map_err(Error::io("replace", target))?;
            }
            rename(&data_path(&self.path()), &data)?;
        }
        rename(&self.path(), target)?;
        Ok(atomic::sync_folder(parent(target))?)
    }

    /// Writes a file of the folder; errors speak of the name that it was to have.
    fn add(&self, path: &Path, target: &Path, bytes: &[u8]) -> Result<()> {
        let written = File::create_new(path).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        });
        written.map_err(Error::io("write", target))
    }
}

fn data_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(".data");
    name.into()
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(path: &Path, bytes: &[u8]) -> Result<StagedFile> {
        StagedFile::new(path)?.with_model(bytes)
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("folder");
        let mut names: Vec<_> = entries
            .map(|entry| entry.expect("entry").file_name().into_string())
            .map(|name| name.expect("text"))
            .collect();
        names.sort();
        names
    }

    #[test]
    fn replaces_and_leaves_nothing_else() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("model.onnx");
        for bytes in [b"first", b"other"] {
            let staged = stage(&path, bytes).expect("staged");
            assert_eq!(fs::read(staged.path()).expect("readable"), bytes);
            staged.commit().expect("committed");
            assert_eq!(fs::read(&path).expect("readable"), bytes);
        }
        assert_eq!(names(folder.path()), ["model.onnx"]);
    }

    #[test]
    fn weights_beside_the_file_come_with_it() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("model.onnx");
        for round in [b"1", b"2"] {
            let staged = StagedFile::new(&path).expect("new");
            assert_eq!(staged.data_name().expect("text"), "model.onnx.data");
            let staged = staged.with_data(round).expect("data");
            let staged = staged.with_model(round).expect("model");
            assert_eq!(
                staged.data_path(),
                Some(folder.path().join("model.onnx.data"))
            );
            staged.commit().expect("committed");
            for name in ["model.onnx", "model.onnx.data"] {
                assert_eq!(fs::read(folder.path().join(name)).expect("readable"), round);
            }
        }
        assert_eq!(names(folder.path()), ["model.onnx", "model.onnx.data"]);
    }

    #[test]
    fn what_is_not_committed_disappears() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("model.onnx");
        fs::write(&path, "old").expect("written");
        let staged = stage(&path, b"new").expect("staged");
        assert_eq!(names(folder.path()).len(), 2);
        drop(staged);
        assert_eq!(names(folder.path()), ["model.onnx"]);
        assert_eq!(fs::read(&path).expect("readable"), b"old");
    }

    #[test]
    fn a_failure_leaves_no_trace() {
        let folder = tempfile::tempdir().expect("temporary folder");
        // A folder in the way: the rename fails after everything was written.
        let path = folder.path().join("model.onnx");
        fs::create_dir(&path).expect("folder");
        fs::write(path.join("kept"), b"x").expect("file");
        assert!(stage(&path, b"bytes").expect("staged").commit().is_err());
        assert_eq!(names(folder.path()), ["model.onnx"]);

        let missing = folder.path().join("missing/model.onnx");
        let message = stage(&missing, b"bytes")
            .expect_err("no folder")
            .to_string();
        assert!(
            message.contains("no folder") && message.contains("missing"),
            "{message}"
        );
        assert!(stage(Path::new("/"), b"").is_err());
    }
}
