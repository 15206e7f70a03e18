//! A file appears under its name complete or not at all.

use crate::{Error, Result};
use selfcls_core::atomic;
use std::path::Path;

/// Writes `bytes` to `path` as [`atomic::write`] does.
///
/// # Errors
/// [`Error::Request`] if `path` names no file, [`Error::Core`] if it cannot be written; what stood at
/// `path` before is then still there, and nothing else is left.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    if path.file_name().is_none() {
        return Err(Error::Request(format!(
            "{} does not name a file; give one such as model.onnx",
            path.display()
        )));
    }
    Ok(atomic::write(path, bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

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
