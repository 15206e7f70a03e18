//! Image files below folders, found one after the other.

use super::decode::is_image_name;
use crate::{Error, Result};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use walkdir::{DirEntry, WalkDir};

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
        passed_over: PassedOver::default(),
    })
}

/// Endings that are counted apart; of files with others only the number is known.
const ENDINGS: usize = 50;

/// Files that were passed over because their names are not those of images, by their endings in small letters. Clones
/// count together.
#[derive(Debug, Clone, Default)]
pub struct PassedOver(Arc<Mutex<BTreeMap<String, usize>>>);

impl PassedOver {
    fn add(&self, file: &Path) {
        let ending = file.extension().map_or_else(
            || "without an ending".to_owned(),
            |ending| format!(".{}", ending.to_string_lossy().to_lowercase()),
        );
        // A count is whole whatever happens to whom.
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = counts.len() < ENDINGS || counts.contains_key(&ending);
        let ending = if is_known {
            ending
        } else {
            "others".to_owned()
        };
        *counts.entry(ending).or_default() += 1;
    }

    /// How many there have been so far.
    pub fn count(&self) -> usize {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.values().sum()
    }
}

/// The endings with their numbers, the most frequent first: `3 .heic, 1 .txt`.
impl fmt::Display for PassedOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut counts: Vec<(&String, &usize)> = counts.iter().collect();
        counts.sort_by_key(|&(_, &count)| std::cmp::Reverse(count));
        let parts: Vec<String> = counts
            .iter()
            .map(|(ending, count)| format!("{count} {ending}"))
            .collect();
        f.write_str(&parts.join(", "))
    }
}

/// What [`images_in`] finds. A folder that cannot be read, or holds no image, is an error in its place.
pub struct ImagesIn {
    paths: VecDeque<PathBuf>,
    folder: Option<Below>,
    /// Whether the current folder has held no image so far.
    is_empty: bool,
    passed_over: PassedOver,
}

impl ImagesIn {
    /// What is passed over in folders, which grows with the search.
    pub fn passed_over(&self) -> PassedOver {
        self.passed_over.clone()
    }
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
            self.folder = Some(Below {
                passed_over: self.passed_over.clone(),
                ..Below::new(&path)
            });
            self.is_empty = true;
        }
    }
}

/// The image files below a folder, each with the folder's path before its own, sorted.
///
/// Hidden files and folders and files that are not images by their name are passed over. A folder that several links lead
/// to is searched through the first of them: links to folders of links would multiply their images without end.
pub(super) struct Below {
    root: PathBuf,
    walk: walkdir::IntoIter,
    /// Where links have led so far, each with the link.
    linked: BTreeMap<PathBuf, PathBuf>,
    /// Links directly in the folder that were passed over, each with the one that led there before.
    pub(super) twice: Vec<[PathBuf; 2]>,
    /// Files that were passed over for their names.
    pub(super) passed_over: PassedOver,
}

impl Below {
    pub(super) fn new(root: &Path) -> Self {
        let walk = WalkDir::new(root).follow_links(true).sort_by_file_name();
        Self {
            root: root.to_path_buf(),
            walk: walk.into_iter(),
            linked: BTreeMap::new(),
            twice: Vec::new(),
            passed_over: PassedOver::default(),
        }
    }

    /// Whether what is in the folder does not count.
    fn is_skipped(&mut self, folder: &DirEntry) -> bool {
        if is_hidden(folder) {
            return true;
        }
        if !folder.path_is_symlink() {
            return false;
        }
        let Ok(real) = fs::canonicalize(folder.path()) else {
            return false;
        };
        let Some(first) = self.linked.get(&real) else {
            self.linked.insert(real, folder.path().to_path_buf());
            return false;
        };
        if folder.depth() == 1 {
            self.twice
                .push([folder.path().to_path_buf(), first.clone()]);
        }
        true
    }
}

fn is_hidden(entry: &DirEntry) -> bool {
    entry.depth() > 0 && entry.file_name().as_encoded_bytes().starts_with(b".")
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
            if entry.file_type().is_dir() {
                if self.is_skipped(&entry) {
                    self.walk.skip_current_dir();
                }
                continue;
            }
            if !entry.file_type().is_file() || is_hidden(&entry) {
                continue;
            }
            if is_image_name(entry.path()) {
                return Some(Ok(entry.into_path()));
            }
            self.passed_over.add(entry.path());
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
            "a/.hidden/5.png",
            "none/x.TXT",
            "none/y.heic",
            "none/README",
        ] {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("creates");
            fs::write(path, "").expect("writes");
        }
        let paths = ["b", "none", "a/notes.txt", "a"].map(|name| root.path().join(name));
        let search = images_in(&paths).expect("all exist");
        let passed_over = search.passed_over();
        let found: Vec<_> = search.collect();
        assert_eq!(passed_over.count(), 4);
        assert_eq!(
            passed_over.to_string(),
            "2 .txt, 1 .heic, 1 without an ending"
        );
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

    #[test]
    #[cfg(unix)]
    fn links_do_not_multiply() {
        let root = tempfile::tempdir().expect("a folder");
        for level in 0..9 {
            let folder = root.path().join(format!("level{level}"));
            fs::create_dir(&folder).expect("creates");
            for link in ["a", "b", "c"] {
                let target = format!("../level{}", level + 1);
                std::os::unix::fs::symlink(target, folder.join(link)).expect("links");
            }
        }
        fs::create_dir(root.path().join("level9")).expect("creates");
        fs::write(root.path().join("level9/1.png"), "").expect("writes");
        let found = images_in(&[root.path().to_path_buf()]).expect("exists");
        // By the links once, and by itself. There are 3 to the power of 9 ways.
        let found: Result<Vec<_>> = found.collect();
        assert_eq!(found.expect("listed").len(), 2);
    }

    #[test]
    fn the_number_of_endings_is_bounded() {
        let passed_over = PassedOver::default();
        for index in 0..1000 {
            passed_over.add(Path::new(&format!("a.x{index}")));
        }
        assert_eq!(passed_over.count(), 1000);
        assert!(passed_over.to_string().starts_with("950 others, "));
    }
}
