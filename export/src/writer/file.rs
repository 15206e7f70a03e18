//! A file, and what belongs beside it, appears under its name complete or not at all.

use crate::{Error, Result};
use selfcls_core::atomic;
use selfcls_core::partial::{self, PartialFolder};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A written file that does not have its name yet. Dropped before [`commit`](Self::commit), it disappears; if its process
/// is killed, the next one of that name a day later removes it.
#[derive(Debug)]
pub struct StagedFile {
    /// Beside the final path, and hidden; the files in it have their final names.
    folder: PartialFolder,
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
        let parent = atomic::folder_of(target);
        if !parent.is_dir() {
            return Err(Error::Request(format!(
                "cannot write {}: there is no folder {}; make it, or give another place",
                target.display(),
                parent.display()
            )));
        }
        if target.is_dir() {
            return Err(Error::Request(format!(
                "cannot write {0}: that is a folder; give a file in it, such as {1}",
                target.display(),
                target.join("model.onnx").display()
            )));
        }
        partial::sweep(parent, name);
        let folder = PartialFolder::new(parent, name).map_err(Error::io("write", target))?;
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
        refuse_foreign(&self.target, &target)?;
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

    /// A folder for what is needed until then; it disappears with the file's hidden name.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be created.
    pub fn scratch(&self) -> Result<PathBuf> {
        // No name of a file that is written here: those are the model's own, and that with `.data`.
        let mut name = self.path().into_os_string();
        name.push(".scratch");
        let path = PathBuf::from(name);
        fs::create_dir_all(&path).map_err(Error::io("create", &path))?;
        Ok(path)
    }

    /// The file with the weights, under the name that it will have, if there is one.
    pub fn data_path(&self) -> Option<PathBuf> {
        self.has_data.then(|| data_path(&self.target))
    }

    /// Gives everything its name. Whatever was at the path is replaced, with the weights that it kept beside it; where this
    /// one keeps none there, those go.
    ///
    /// # Errors
    /// [`Error::Io`] if that is not possible; what stood at the path before is then still there, with its weights, or, where
    /// the disk takes not even that back, in the folder that the error names, for a day. If only the weights of before
    /// cannot be removed, or the folder cannot be written to disk, the new file has its name all the same.
    /// [`Error::Request`] if something else lies where the weights are to be, which stays.
    pub fn commit(self) -> Result<()> {
        let target = &self.target;
        let data = data_path(target);
        let is_replaced = keeps_weights_in(target, &data);
        if self.has_data {
            // It may have come since.
            refuse_foreign(target, &data)?;
            return self.commit_both(&data, is_replaced);
        }
        rename(&self.path(), target)?;
        if is_replaced {
            fs::remove_file(&data).map_err(Error::io("remove", &data))?;
        }
        Ok(atomic::sync_folder(atomic::folder_of(target))?)
    }

    /// Gives the weights and the file their names: all of it or, after a failure, nothing.
    fn commit_both(self, data: &Path, is_replaced: bool) -> Result<()> {
        let target = &self.target;
        let old = self.folder.path().join("old");
        let mut moves = Moves::default();
        let moved = (|| {
            // An old file must never be found with the new weights.
            if is_replaced {
                moves.make(target, &old)?;
                moves.make(data, &data_path(&old))?;
            }
            moves.make(&data_path(&self.path()), data)?;
            moves.make(&self.path(), target)
        })();
        if let Err(error) = moved {
            if moves.take_back().is_ok() {
                return Err(error);
            }
            let kept = self.folder.path();
            // What could not be put back must not go with the folder.
            std::mem::forget(self.folder);
            return Err(Error::io("put back", target)(io::Error::other(format!(
                "move it from {} within a day; before, {error}",
                kept.display()
            ))));
        }
        Ok(atomic::sync_folder(atomic::folder_of(target))?)
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

fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(Error::io("write", to))
}

/// Renames that can be taken back.
#[derive(Default)]
struct Moves(Vec<[PathBuf; 2]>);

impl Moves {
    fn make(&mut self, from: &Path, to: &Path) -> Result<()> {
        rename(from, to)?;
        self.0.push([from.to_path_buf(), to.to_path_buf()]);
        Ok(())
    }

    /// The last one first.
    fn take_back(self) -> Result<()> {
        self.0
            .iter()
            .rev()
            .try_for_each(|[from, to]| rename(to, from))
    }
}

fn data_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(".data");
    name.into()
}

/// Refuses to put weights where something else lies than those of the model at `target`: nobody asked for its end.
fn refuse_foreign(target: &Path, data: &Path) -> Result<()> {
    if data.symlink_metadata().is_ok() && !keeps_weights_in(target, data) {
        return Err(Error::Request(format!(
            "{} is there and does not belong to {}; remove it or give another name",
            data.display(),
            target.display()
        )));
    }
    Ok(())
}

/// A larger model has its weights in itself.
const LARGEST_WITHOUT_WEIGHTS: u64 = 64 << 20;

/// Whether the model at `model` keeps weights in the file `data` beside it.
fn keeps_weights_in(model: &Path, data: &Path) -> bool {
    let size = |path: &Path| {
        let found = path.symlink_metadata().ok().filter(fs::Metadata::is_file);
        found.map(|found| found.len())
    };
    let is_small = size(model).is_some_and(|size| size <= LARGEST_WITHOUT_WEIGHTS);
    let (Some(name), Some(_), true) = (data.file_name(), size(data), is_small) else {
        return false;
    };
    // ONNX's entry `location` of a weight, as protobuf writes it.
    let mut entry = b"location\x12".to_vec();
    let name = name.as_encoded_bytes();
    if prost::encode_length_delimiter(name.len(), &mut entry).is_err() {
        return false;
    }
    entry.extend(name);
    let bytes = fs::read(model).unwrap_or_default();
    bytes.windows(entry.len()).any(|part| part == entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(path: &Path, bytes: &[u8]) -> Result<StagedFile> {
        StagedFile::new(path)?.with_model(bytes)
    }

    /// Stands for one that keeps its weights in `model.onnx.data`.
    const MODEL: &[u8] = b"..location\x12\x0fmodel.onnx.data..";

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
        for round in [MODEL, b"..location\x12\x0fmodel.onnx.data, and once more"] {
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
    fn what_is_no_models_is_not_taken_for_its_weights() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("model.onnx");
        let data = folder.path().join("model.onnx.data");
        let refused = |result: Result<StagedFile>| {
            let message = result.expect_err("foreign").to_string();
            for part in ["model.onnx.data is there and", "give another name"] {
                assert!(message.contains(part), "no {part:?} in {message}");
            }
        };
        // With no model, and with one that has its weights in itself.
        for model in [None, Some(b"a model")] {
            if let Some(model) = model {
                fs::write(&path, model).expect("written");
            }
            fs::write(&data, "somebody's").expect("written");
            refused(StagedFile::new(&path).and_then(|staged| staged.with_data(b"new")));
            assert_eq!(fs::read(&data).expect("readable"), b"somebody's");
            fs::remove_file(&data).expect("removed");
            // It comes while the model is being compared.
            let staged = StagedFile::new(&path).and_then(|staged| staged.with_data(b"new"));
            let staged = staged.and_then(|staged| staged.with_model(MODEL));
            let staged = staged.expect("staged");
            fs::write(&data, "somebody's").expect("written");
            let result = staged.commit().expect_err("foreign").to_string();
            assert!(result.contains("does not belong to"), "{result}");
            assert_eq!(fs::read(&data).expect("readable"), b"somebody's");
            assert_eq!(fs::read(&path).ok().as_deref(), model.map(|m| &m[..]));
        }
        assert_eq!(names(folder.path()), ["model.onnx", "model.onnx.data"]);
    }

    /// It could not be replaced, and the model would be gone by then.
    #[test]
    fn a_folder_where_the_weights_would_be_costs_nothing() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("model.onnx");
        let data = folder.path().join("model.onnx.data");
        fs::write(&path, MODEL).expect("written");
        let staged = StagedFile::new(&path).and_then(|staged| staged.with_data(b"new"));
        let staged = staged.and_then(|staged| staged.with_model(MODEL));
        let staged = staged.expect("staged");
        fs::create_dir(&data).expect("a folder");
        assert!(staged.commit().is_err());
        let again = StagedFile::new(&path).and_then(|staged| staged.with_data(b"new"));
        assert!(again.is_err());
        assert_eq!(fs::read(&path).expect("readable"), MODEL);
        assert_eq!(names(folder.path()), ["model.onnx", "model.onnx.data"]);
    }

    /// Whichever rename fails, the model of before is there with its weights, and the next export has its place.
    #[test]
    fn what_cannot_be_replaced_stays_with_its_weights() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("model.onnx");
        let data = folder.path().join("model.onnx.data");
        let fails = |lost: fn(&Path) -> PathBuf| {
            let staged = StagedFile::new(&path).and_then(|staged| staged.with_data(b"new"));
            let staged = staged.and_then(|staged| staged.with_model(MODEL));
            let staged = staged.expect("staged");
            fs::remove_file(lost(&staged.path())).expect("removed");
            assert!(matches!(staged.commit(), Err(Error::Io { .. })));
        };
        for lost in [data_path as fn(&Path) -> PathBuf, Path::to_path_buf] {
            fails(lost);
            assert!(names(folder.path()).is_empty());
            // With the weights in itself.
            fs::write(&path, "old").expect("written");
            fails(lost);
            assert_eq!(names(folder.path()), ["model.onnx"]);
            assert_eq!(fs::read(&path).expect("readable"), b"old");
            fs::write(&path, MODEL).expect("written");
            fs::write(&data, "old weights").expect("written");
            fails(lost);
            assert_eq!(names(folder.path()), ["model.onnx", "model.onnx.data"]);
            assert_eq!(fs::read(&path).expect("readable"), MODEL);
            assert_eq!(fs::read(&data).expect("readable"), b"old weights");
            for path in [&path, &data] {
                fs::remove_file(path).expect("removed");
            }
        }
    }

    #[test]
    fn what_is_not_committed_disappears() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("model.onnx");
        fs::write(&path, "old").expect("written");
        let staged = stage(&path, b"new").expect("staged");
        fs::write(staged.scratch().expect("made").join("trials"), "x").expect("written");
        // A file that is held, and a folder.
        assert_eq!(names(folder.path()).len(), 3);
        drop(staged);
        assert_eq!(names(folder.path()), ["model.onnx"]);
        assert_eq!(fs::read(&path).expect("readable"), b"old");
    }

    /// As when a process was killed long ago: nobody holds what it has left.
    #[test]
    fn what_a_killed_process_has_left_is_removed_by_the_next() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("model.onnx");
        let left = folder.path().join(".model.onnx.0123456789abcdef.partial");
        fs::write(&left, "").expect("written");
        let file = File::options().write(true).open(&left).expect("opens");
        file.set_modified(std::time::UNIX_EPOCH).expect("set");
        let contents = left.with_extension("partial.d");
        fs::create_dir(&contents).expect("folder");
        fs::write(contents.join("model.onnx"), "half").expect("written");
        let other = stage(&path, b"other").expect("staged");
        stage(&path, b"new")
            .expect("staged")
            .commit()
            .expect("committed");
        assert_eq!(names(folder.path()).len(), 3);
        other.commit().expect("committed");
        assert_eq!(names(folder.path()), ["model.onnx"]);
    }

    #[test]
    fn weights_of_the_file_of_before_go_with_it() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("model.onnx");
        let data = folder.path().join("model.onnx.data");
        for (before, expected) in [
            (MODEL, &["model.onnx"][..]),
            // Whose it is, nobody knows.
            (
                b"..location\x12\x10model.onnx.data2..",
                &["model.onnx", "model.onnx.data"],
            ),
        ] {
            fs::write(&path, before).expect("written");
            fs::write(&data, "weights").expect("written");
            let staged = stage(&path, b"new").expect("staged");
            staged.commit().expect("committed");
            assert_eq!(names(folder.path()), expected);
        }
    }

    #[test]
    fn a_failure_leaves_no_trace() {
        let folder = tempfile::tempdir().expect("temporary folder");
        // A folder in the way: noticed at once, and, where it comes later, when everything has been written.
        let path = folder.path().join("model.onnx");
        let staged = stage(&path, b"bytes").expect("staged");
        fs::create_dir(&path).expect("folder");
        fs::write(path.join("kept"), b"x").expect("file");
        assert!(staged.commit().is_err());
        let message = stage(&path, b"bytes").expect_err("a folder").to_string();
        assert!(message.contains("that is a folder"), "{message}");
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
