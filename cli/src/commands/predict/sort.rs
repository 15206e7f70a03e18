//! Images into folders of their classes: copied or linked, never moved, and nothing is ever overwritten.

use crate::error::{CliError, Result};
use selfcls_core::partial::{self, PartialFile};
use selfcls_export::Classifier;
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use tempfile::TempPath;

/// The folder of images that are given no class.
const UNSURE: &str = "unsure";

/// Longest name of a class's folder in bytes; file systems allow 255.
const LONGEST: usize = 120;

/// How an image gets into its folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Copy,
    Link,
}

/// Puts images into folders.
pub(super) struct Sorter {
    folder: PathBuf,
    way: Way,
    /// Name of each class's folder.
    names: Vec<String>,
    /// Folders of classes that have been looked into for what killed processes have left.
    swept: BTreeSet<String>,
    placed: usize,
    /// Images that an earlier run has placed.
    there: usize,
}

impl Sorter {
    /// Images are placed below `folder`, which must not lie where `images` are searched: its own copies would be found
    /// there.
    pub(super) fn new(
        folder: &Path,
        way: Way,
        images: &[PathBuf],
        classifier: &Classifier,
    ) -> Result<Self> {
        let resolved = resolved(folder).map_err(|error| cannot("create", folder, &error))?;
        for image in images {
            if fs::canonicalize(image).is_ok_and(|image| resolved.starts_with(image)) {
                return Err(CliError::usage(format!(
                    "{} lies in {}, whose images are to be sorted",
                    folder.display(),
                    image.display()
                ))
                .hint("choose a folder beside it: the copies would be sorted again"));
            }
        }
        let metadata = classifier.metadata();
        let head = classifier.head().and_then(|index| metadata.head(index));
        let (classes, given) = match head {
            Some(head) => (head.classes, head.names.as_deref()),
            None => (0, None),
        };
        fs::create_dir_all(folder).map_err(|error| cannot("create", folder, &error))?;
        Ok(Self {
            folder: folder.to_path_buf(),
            way,
            names: folder_names(classes, given),
            swept: BTreeSet::new(),
            placed: 0,
            there: 0,
        })
    }

    /// Puts the image into the folder of `class`.
    pub(super) fn place(&mut self, image: &Path, class: Option<usize>) -> Result<()> {
        let name = class.map_or(UNSURE, |class| self.names[class].as_str());
        let folder = self.folder.join(name);
        if self.way == Way::Copy && !self.swept.contains(name) {
            self.swept.insert(name.to_owned());
            partial::sweep(&folder, OsStr::new(Staged::NAME));
        }
        let placed = fs::create_dir_all(&folder).and_then(|()| place(image, &folder, self.way));
        match placed {
            Ok(Placed::Now) => self.placed += 1,
            Ok(Placed::Before) => self.there += 1,
            Err(error) => {
                let action = match self.way {
                    Way::Copy => "copy",
                    Way::Link => "link",
                };
                return Err(CliError::failure(format!(
                    "cannot {action} {} into {}: {error}",
                    image.display(),
                    folder.display()
                ))
                .hint("the same command goes on where it stopped"));
            }
        }
        Ok(())
    }

    /// What has been done, in words.
    pub(super) fn summary(&self) -> String {
        let done = match self.way {
            Way::Copy => "copied into",
            Way::Link => "linked from",
        };
        let before = match self.there {
            0 => String::new(),
            there => format!("; {there} were there already"),
        };
        format!(
            "{} images {done} {}{before}",
            self.placed,
            self.folder.display()
        )
    }
}

/// Whether there was anything to do.
#[derive(Debug, PartialEq, Eq)]
enum Placed {
    Now,
    Before,
}

/// Puts `image` into `folder` under its own name, or, where another file has that, under one with a number.
fn place(image: &Path, folder: &Path, way: Way) -> io::Result<Placed> {
    let original = fs::canonicalize(image)?;
    let mut staged = None;
    for number in 1.. {
        let target = folder.join(numbered(image, number));
        // Looked at without following it: a link that leads nowhere is somebody's too.
        let created = match (target.symlink_metadata(), way) {
            (Ok(found), _) if is_placed(&original, &target, &found, way)? => {
                return Ok(Placed::Before);
            }
            (Ok(_), _) => continue,
            (Err(error), _) if error.kind() != ErrorKind::NotFound => return Err(error),
            (Err(_), Way::Link) => link(&original, &target),
            (Err(_), Way::Copy) => {
                let copy = match staged.take() {
                    Some(copy) => copy,
                    None => Staged::copy(&original, folder)?,
                };
                staged.insert(copy).appear(&target)
            }
        };
        match created {
            Ok(()) => return Ok(Placed::Now),
            // Another process was faster.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("too many files of that name"))
}

/// Whether what is at `target` is `original`, placed by an earlier run.
fn is_placed(original: &Path, target: &Path, found: &fs::Metadata, way: Way) -> io::Result<bool> {
    match way {
        Way::Link => Ok(found.is_symlink() && fs::read_link(target)? == original),
        Way::Copy if !found.is_file() || found.len() != fs::metadata(original)?.len() => Ok(false),
        Way::Copy => same_content(original, target),
    }
}

fn same_content(a: &Path, b: &Path) -> io::Result<bool> {
    let (mut a, mut b) = (File::open(a)?, File::open(b)?);
    let (mut left, mut right) = (Vec::new(), Vec::new());
    loop {
        left.clear();
        right.clear();
        const PART: u64 = 1 << 16;
        let read = a.by_ref().take(PART).read_to_end(&mut left)?;
        b.by_ref().take(PART).read_to_end(&mut right)?;
        if left != right {
            return Ok(false);
        }
        if read == 0 {
            return Ok(true);
        }
    }
}

/// A copy under a hidden name, which disappears unless it is given another.
struct Staged {
    file: PartialFile,
    /// When the original was last changed, where the file system knows.
    changed: Option<SystemTime>,
}

impl Staged {
    /// What the hidden files are called.
    const NAME: &str = "sorting";

    /// Copies the file with its permissions.
    fn copy(original: &Path, folder: &Path) -> io::Result<Self> {
        let mut from = File::open(original)?;
        let mut file = PartialFile::new(folder, OsStr::new(Self::NAME))?;
        // Everything through the open file: what now has its name is not looked at.
        let copy = file.file();
        let found = from.metadata()?;
        // Before anything is in it that not everybody may read.
        copy.set_permissions(found.permissions())?;
        io::copy(&mut from, copy)?;
        Ok(Self {
            file,
            changed: found.modified().ok(),
        })
    }

    /// Gives it the name `target`, if that is free, and the time of the original's last change, by which photos are
    /// sorted.
    fn appear(&mut self, target: &Path) -> io::Result<()> {
        self.take_name(target)?;
        if let Some(changed) = self.changed {
            // Not before: an old file with a hidden name is taken for an abandoned one. Where a file system keeps no
            // times, it has today's date.
            let _ = self.file.file().set_modified(changed);
        }
        Ok(())
    }

    fn take_name(&self, target: &Path) -> io::Result<()> {
        let staged = TempPath::try_from_path(self.file.path())?;
        let Err(failed) = staged.persist_noclobber(target) else {
            return Ok(());
        };
        // It may be given another name.
        failed.path.keep().map_err(|failed| failed.error)?;
        if failed.error.kind() == ErrorKind::AlreadyExists {
            return Err(failed.error);
        }
        // Some file systems, of network disks above all, can neither rename without overwriting nor link.
        File::create_new(target)?;
        fs::rename(self.file.path(), target).inspect_err(|_| {
            // Empty, and this process's own.
            let _ = fs::remove_file(target);
        })
    }
}

#[cfg(unix)]
fn link(original: &Path, target: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(original, target)
}

#[cfg(windows)]
fn link(original: &Path, target: &Path) -> io::Result<()> {
    std::os::windows::fs::symlink_file(original, target)
}

/// `a.jpg`, `a-2.jpg`, `a-3.jpg`...
fn numbered(image: &Path, number: usize) -> OsString {
    if number == 1 {
        return image.file_name().unwrap_or_default().to_owned();
    }
    let mut name = image.file_stem().unwrap_or_default().to_owned();
    name.push(format!("-{number}"));
    if let Some(ending) = image.extension() {
        name.push(".");
        name.push(ending);
    }
    name
}

/// The absolute path of what may not exist yet, without links.
fn resolved(path: &Path) -> io::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    for ancestor in path.ancestors() {
        if let (Ok(real), Ok(rest)) = (fs::canonicalize(ancestor), path.strip_prefix(ancestor)) {
            return Ok(real.join(rest));
        }
    }
    Ok(path)
}

/// A folder's name for each class: what it is called, as far as every system allows that, or its number. All differ,
/// also where upper and lower case are the same.
fn folder_names(classes: usize, given: Option<&[String]>) -> Vec<String> {
    let digits = classes.saturating_sub(1).to_string().len();
    let number = |class: usize| format!("class-{class:0digits$}");
    let mut taken = BTreeSet::from([UNSURE.to_owned()]);
    (0..classes)
        .map(|class| {
            let name = given.and_then(|names| safe(names.get(class)?));
            let mut name = name.unwrap_or_else(|| number(class));
            // Another class may be called so, too.
            while !taken.insert(name.to_lowercase()) {
                name = format!("{name} ({})", number(class));
            }
            name
        })
        .collect()
}

/// `name` as the name of a folder on any system; none if nothing is left of it.
fn safe(name: &str) -> Option<String> {
    const RESERVED: [&str; 6] = ["con", "prn", "aux", "nul", "com", "lpt"];
    let replaced: String = name
        .chars()
        .map(|c| match c {
            '/' | '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|' => '_',
            c if c.is_control() => '_',
            c => c,
        })
        .collect();
    let mut end = replaced.len().min(LONGEST);
    while !replaced.is_char_boundary(end) {
        end -= 1;
    }
    // Hidden folders would be passed over by the next search, and Windows drops dots and spaces at the end.
    let trimmed = replaced[..end].trim().trim_end_matches(['.', ' ']);
    let trimmed = trimmed.trim_start_matches('.').trim_start();
    let stem = trimmed.split('.').next().unwrap_or_default().to_lowercase();
    let device = stem.trim_end_matches(|c: char| c.is_ascii_digit());
    match trimmed {
        "" => None,
        _ if RESERVED.contains(&device) => Some(format!("{trimmed}_")),
        _ => Some(trimmed.to_owned()),
    }
}

fn cannot(action: &str, path: &Path, error: &io::Error) -> CliError {
    CliError::failure(format!("cannot {action} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Machines and containers that share a disk sort its photos side by side.
    #[test]
    fn copies_do_not_mix() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        for name in ["1.jpg", "2.jpg"] {
            fs::write(path(name), name).expect("written");
        }
        let mut first = Staged::copy(&path("1.jpg"), folder.path()).expect("copied");
        let mut second = Staged::copy(&path("2.jpg"), folder.path()).expect("copied");
        first.appear(&path("a.jpg")).expect("there");
        let taken = second.appear(&path("a.jpg")).expect_err("taken");
        assert_eq!(taken.kind(), ErrorKind::AlreadyExists);
        let text = |name: &str| fs::read_to_string(path(name)).expect("text");
        second.appear(&path("b.jpg")).expect("there");
        assert_eq!([text("a.jpg"), text("b.jpg")], ["1.jpg", "2.jpg"]);
        drop((first, second));
        assert_eq!(fs::read_dir(folder.path()).expect("listed").count(), 4);
    }

    /// A photo of last year is copied now: until it has its name, that is what tells it from what was left.
    #[test]
    fn old_photos_are_not_swept_while_they_are_copied() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        fs::write(path("1.jpg"), "photo").expect("written");
        let original = File::options().write(true).open(path("1.jpg"));
        let original = original.expect("opens");
        original.set_modified(SystemTime::UNIX_EPOCH).expect("set");
        let changed = |path: &Path| fs::metadata(path).and_then(|found| found.modified());
        let mut copy = Staged::copy(&path("1.jpg"), folder.path()).expect("copied");
        let hidden = changed(copy.file.path()).expect("a time");
        assert_ne!(hidden, SystemTime::UNIX_EPOCH);
        copy.appear(&path("a.jpg")).expect("there");
        let named = changed(&path("a.jpg")).expect("a time");
        assert_eq!(named, SystemTime::UNIX_EPOCH);
    }

    #[test]
    fn class_names_become_folder_names() {
        for (name, expected) in [
            ("cat", Some("cat")),
            ("red fox", Some("red fox")),
            ("a/b", Some("a_b")),
            ("..", None),
            (".", None),
            ("", None),
            ("  ", None),
            ("../../etc", Some("_.._etc")),
            (".hidden", Some("hidden")),
            ("what?", Some("what_")),
            ("end. ", Some("end")),
            ("C:\\x", Some("C__x")),
            ("nul", Some("nul_")),
            ("COM1.txt", Some("COM1.txt_")),
            ("a\nb\0", Some("a_b_")),
        ] {
            assert_eq!(safe(name).as_deref(), expected, "{name:?}");
        }
        let long = safe(&"ö".repeat(500)).expect("a name");
        assert!(long.len() <= LONGEST && long.chars().all(|c| c == 'ö'));
    }

    #[test]
    fn folders_of_different_classes_differ() {
        assert_eq!(folder_names(11, None)[3], "class-03");
        let names = ["Cat", "cat", "a/b", "a:b", "..", "unsure"].map(str::to_owned);
        let folders = folder_names(6, Some(&names));
        assert_eq!(
            folders,
            [
                "Cat",
                "cat (class-1)",
                "a_b",
                "a_b (class-3)",
                "class-4",
                "unsure (class-5)"
            ]
        );
        // Also where a class is called as another one's folder.
        let names = ["a (class-2)", "a", "A", "a (class-2) (class-2)"].map(str::to_owned);
        let folders = folder_names(4, Some(&names)).into_iter();
        let different: BTreeSet<_> = folders.map(|name| name.to_lowercase()).collect();
        assert_eq!(different.len(), 4, "{different:?}");
    }

    #[test]
    fn names_that_clash_are_numbered() {
        let name = |number| numbered(Path::new("x/a.b.jpg"), number);
        assert_eq!([name(1), name(2)], ["a.b.jpg", "a.b-2.jpg"]);
        assert_eq!(numbered(Path::new("photo"), 3), "photo-3");
    }

    #[test]
    fn nothing_is_overwritten_and_nothing_placed_twice() {
        let root = tempfile::tempdir().expect("a folder");
        let path = |name: &str| root.path().join(name);
        for folder in ["x", "y", "out"] {
            fs::create_dir(path(folder)).expect("created");
        }
        fs::write(path("x/a.jpg"), "one").expect("written");
        fs::write(path("y/a.jpg"), "two").expect("written");
        fs::write(path("out/a.jpg"), "mine").expect("written");
        for (round, expected) in [Placed::Now, Placed::Before].into_iter().enumerate() {
            for image in ["x/a.jpg", "y/a.jpg"] {
                let placed = place(&path(image), &path("out"), Way::Copy).expect("placed");
                assert_eq!(placed, expected, "round {round}");
            }
        }
        let text = |name: &str| fs::read_to_string(path(name)).expect("read");
        assert_eq!(text("out/a.jpg"), "mine");
        assert_eq!(text("out/a-2.jpg"), "one");
        assert_eq!(text("out/a-3.jpg"), "two");
        assert_eq!(fs::read_dir(path("out")).expect("listed").count(), 3);
        let time = |name: &str| {
            let metadata = fs::metadata(path(name)).expect("is there");
            metadata.modified().expect("a time")
        };
        assert_eq!(time("out/a-2.jpg"), time("x/a.jpg"));
    }
}
