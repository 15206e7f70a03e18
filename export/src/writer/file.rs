//! A file appears under its name complete or not at all.

use crate::{Error, Result};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Writes `bytes` beside `path`, syncs, renames onto `path`, and syncs the folder.
///
/// # Errors
/// [`Error::Io`]; what stood at `path` before is then still there, and nothing else is left.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = beside(path)?;
    let written = write_synced(&temporary, bytes)
        .and_then(|()| fs::rename(&temporary, path).map_err(Error::io("create", path)));
    if written.is_err() {
        // Best effort: the first error is the one worth telling.
        let _ = fs::remove_file(&temporary);
        return written;
    }
    sync_folder(path)
}

fn beside(path: &Path) -> Result<PathBuf> {
    let Some(name) = path.file_name() else {
        return Err(Error::Request(format!(
            "{} does not name a file; give one such as model.onnx",
            path.display()
        )));
    };
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}.partial", std::process::id()));
    Ok(path.with_file_name(hidden))
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = File::create(path).map_err(Error::io("create", path))?;
    file.write_all(bytes).map_err(Error::io("write", path))?;
    file.sync_all().map_err(Error::io("write", path))
}

/// Makes the rename survive a power cut. Only Unix can open a folder for that.
fn sync_folder(path: &Path) -> Result<()> {
    if cfg!(unix) {
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(Error::io("sync", folder))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_and_leaves_nothing_else() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("model.onnx");
        replace(&path, b"first").expect("new file");
        replace(&path, b"second").expect("existing file");
        assert_eq!(fs::read(&path).expect("readable"), b"second");
        assert_eq!(fs::read_dir(folder.path()).expect("folder").count(), 1);
    }

    #[test]
    fn a_failure_leaves_no_trace() {
        let folder = tempfile::tempdir().expect("temporary folder");
        // A folder in the way: the rename fails after the temporary file was written.
        let path = folder.path().join("model.onnx");
        fs::create_dir(&path).expect("folder");
        fs::write(path.join("kept"), b"x").expect("file");
        assert!(replace(&path, b"bytes").is_err());
        assert_eq!(fs::read_dir(folder.path()).expect("folder").count(), 1);

        let missing = folder.path().join("missing/model.onnx");
        let message = replace(&missing, b"bytes")
            .expect_err("no folder")
            .to_string();
        assert!(message.contains("missing"), "{message}");
        assert!(replace(Path::new("/"), b"").is_err());
    }
}
