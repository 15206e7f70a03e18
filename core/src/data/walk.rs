//! Image files below folders, found one after the other.

use super::decode::is_image_name;
use crate::{Error, Result};
use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use walkdir::{DirEntry, FilterEntry, WalkDir};

/// The images among `paths`, in order: files as they are, of folders all images below them, sorted. A folder is
/// read as its turn comes, so that any number of images takes no memory.
///
/// # Errors
/// If a path does not exist.
pub fn images_in(paths: &[PathBuf]) -> Result<ImagesIn> {
    for path in paths {
        fs::metadata(path).map_err(Error::io("open", path))?;
    }
    Ok(ImagesIn {
        paths: paths.iter().cloned().collect(),
        folder: None,
        is_empty: false,
    })
}

/// What [`images_in`] finds. A folder that cannot be read, or holds no image, is an error in its place.
pub struct ImagesIn {
    paths: VecDeque<PathBuf>,
    folder: Option<Below>,
    /// Whether the current folder has held no image so far.
    is_empty: bool,
}

impl Iterator for ImagesIn {
    type Item = Result<PathBuf>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(folder) = &mut self.folder {
                match folder.next() {
                    Some(found) => {
                        self.is_empty = false;
                        return Some(found);
                    }
                    None if self.is_empty => {
                        let message = format!("{} holds no images", folder.root.display());
                        self.folder = None;
                        return Some(Err(Error::Data(message)));
                    }
                    None => self.folder = None,
                }
            }
            let path = self.paths.pop_front()?;
            if !path.is_dir() {
                return Some(Ok(path));
            }
            self.folder = Some(Below::new(&path));
            self.is_empty = true;
        }
    }
}

/// The image files below a folder, each with the folder's path before its own, sorted.
///
/// Hidden files and folders and files that are not images by their name are passed over.
pub(super) struct Below {
    root: PathBuf,
    walk: FilterEntry<walkdir::IntoIter, fn(&DirEntry) -> bool>,
    /// Files that were passed over for their names.
    pub(super) others: usize,
}

impl Below {
    pub(super) fn new(root: &Path) -> Self {
        let walk = WalkDir::new(root).follow_links(true).sort_by_file_name();
        Self {
            root: root.to_path_buf(),
            walk: walk
                .into_iter()
                .filter_entry(is_visible as fn(&DirEntry) -> bool),
            others: 0,
        }
    }
}

fn is_visible(entry: &DirEntry) -> bool {
    entry.depth() == 0 || !entry.file_name().as_encoded_bytes().starts_with(b".")
}

impl Iterator for Below {
    type Item = Result<PathBuf>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let entry = match self.walk.next()? {
                Ok(entry) => entry,
                // A link back to a folder above: its images are listed already.
                Err(error) if error.loop_ancestor().is_some() => continue,
                Err(error) => {
                    let path = error.path().unwrap_or(&self.root).to_path_buf();
                    return Some(Err(Error::io("read", path)(error.into())));
                }
            };
            if !entry.file_type().is_file() {
                continue;
            }
            if is_image_name(entry.path()) {
                return Some(Ok(entry.into_path()));
            }
            self.others += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_folders_in_order() {
        let root = tempfile::tempdir().expect("a folder");
        for name in [
            "b/2.png",
            "b/1.jpg",
            "a/3.png",
            "a/.4.png",
            "a/notes.txt",
            "none/x.txt",
        ] {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("creates");
            fs::write(path, "").expect("writes");
        }
        let paths = ["b", "none", "a/notes.txt", "a"].map(|name| root.path().join(name));
        let found: Vec<_> = images_in(&paths).expect("all exist").collect();
        let name = |found: &Result<PathBuf>| match found {
            Ok(path) => path
                .strip_prefix(root.path())
                .expect("below")
                .display()
                .to_string(),
            Err(error) => error.to_string(),
        };
        let names: Vec<String> = found.iter().map(name).collect();
        assert_eq!(names[..2], ["b/1.jpg", "b/2.png"]);
        assert!(names[2].ends_with("none holds no images"), "{}", names[2]);
        assert_eq!(names[3..], ["a/notes.txt", "a/3.png"]);
        let missing = images_in(&[root.path().join("c")]).err().expect("refused");
        assert!(missing.to_string().contains("cannot open"), "{missing}");
    }
}
