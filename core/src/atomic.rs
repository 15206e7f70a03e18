//! Files that appear whole or not at all.

use crate::partial::{self, PartialFile};
use crate::{Error, Result};
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// Writes `bytes` to a new file beside `path`, syncs it and renames it to `path`. Whatever was at `path` stays until
/// the rename, which replaces it in one step; after an error it is untouched and nothing else is left behind.
///
/// # Errors
/// [`Error::Io`] if the file cannot be created, written, synced or renamed.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut staged = Staged::new(path)?;
    staged.write(bytes)?;
    staged.commit()
}

/// A file in the making, written in parts under another name beside its final one. Dropped before
/// [`commit`](Self::commit), it disappears; if its process is killed, the next one of that name a day later removes it.
#[derive(Debug)]
pub struct Staged {
    partial: PartialFile,
    path: PathBuf,
}

impl Staged {
    /// Begins what will be the file `path`.
    ///
    /// # Errors
    /// [`Error::Io`] if no file can be created there, [`Error::Invalid`] if `path` has no file name.
    pub fn new(path: &Path) -> Result<Self> {
        let Some(name) = path.file_name() else {
            return Err(Error::Invalid(format!(
                "{} is not the name of a file",
                path.display()
            )));
        };
        let folder = folder_of(path);
        partial::sweep(folder, name);
        Ok(Self {
            partial: PartialFile::new(folder, name).map_err(Error::io("create", path))?,
            path: path.to_path_buf(),
        })
    }

    /// Appends `bytes`.
    ///
    /// # Errors
    /// [`Error::Io`] if they cannot be written.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.partial
            .file()
            .write_all(bytes)
            .map_err(Error::io("write", &self.path))
    }

    /// Syncs the file and gives it its final name.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be synced or renamed.
    pub fn commit(mut self) -> Result<()> {
        self.partial
            .file()
            .sync_all()
            .map_err(Error::io("write", &self.path))?;
        fs::rename(self.partial.path(), &self.path).map_err(Error::io("write", &self.path))?;
        sync_folder(folder_of(&self.path))
    }
}

/// The folder of the file `path`; of a mere name the current one, which can be opened, and no empty path, which cannot.
pub fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Makes the entries of a folder durable: what was created or renamed in it survives a power cut.
///
/// # Errors
/// [`Error::Io`] if the folder cannot be opened or the disk fails.
pub fn sync_folder(folder: &Path) -> Result<()> {
    // Windows cannot open a folder as a file; there a rename is durable by itself.
    if cfg!(unix) {
        let synced = File::open(folder).and_then(|open| open.sync_all());
        match synced {
            // Some network file systems cannot sync a folder: they decide by themselves.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::InvalidInput | ErrorKind::Unsupported
                ) => {}
            other => other.map_err(Error::io("sync", folder))?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_whole_files_and_leaves_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.txt");
        for text in ["one", "two"] {
            write(&path, text.as_bytes()).expect("written");
            assert_eq!(fs::read_to_string(&path).expect("read"), text);
        }
        // A folder cannot be replaced by a file.
        let taken = folder.path().join("taken");
        fs::create_dir(&taken).expect("created");
        let error = write(&taken, b"x").expect_err("refused").to_string();
        assert!(error.contains("taken"), "{error}");
        let missing = folder.path().join("no/such/folder.txt");
        let error = write(&missing, b"x").expect_err("refused").to_string();
        assert!(error.contains("folder.txt"), "{error}");
        let names: Vec<_> = fs::read_dir(folder.path())
            .expect("listed")
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        assert_eq!(names.len(), 2, "{names:?}");
    }

    /// As when a process was killed long ago: the file is there, and nobody holds it.
    #[test]
    fn what_a_killed_process_has_left_does_not_stay() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.html");
        let left = folder.path().join(".a.html.0123456789abcdef.partial");
        fs::write(&left, "half a page").expect("written");
        let file = File::options().write(true).open(&left).expect("opens");
        file.set_modified(std::time::UNIX_EPOCH).expect("set");
        let other = Staged::new(&path).expect("begun");
        write(&path, b"page").expect("written");
        assert!(!left.exists() && other.partial.path().exists());
        other.commit().expect("committed");
        let entries = fs::read_dir(folder.path()).expect("listed");
        assert_eq!(entries.count(), 1);
    }
}
