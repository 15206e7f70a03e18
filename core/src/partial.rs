//! What is not finished yet: hidden files and folders beside their final place, and what processes that were killed have
//! left of them.
//!
//! A killed process cannot remove its unfinished files. Whoever makes one holds a lock on it, and the system lets go of
//! that with the process: what nobody holds is abandoned, and [`sweep`] removes it. A process's number would not tell, for
//! containers and machines that share a disk have equal ones.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, TryLockError};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How the names of unfinished files end.
const ENDING: &str = ".partial";

/// Digits of a name that tell it from all others.
const DIGITS: usize = 16;

/// How long nobody has changed what is abandoned: longer than anything is in the making.
const ABANDONED: Duration = Duration::from_secs(24 * 60 * 60);

/// How often another name is tried before something else must be wrong.
const ATTEMPTS: usize = 100;

/// A file in the making, `.NAME.<random>.partial`. It is held as long as this lives, and removed with it unless it has got
/// another name.
#[derive(Debug)]
pub struct PartialFile {
    file: File,
    path: PathBuf,
    /// Whether it stays when this is dropped.
    stays: bool,
}

impl PartialFile {
    /// A new, empty file in `folder`, of what will be called `name`.
    ///
    /// # Errors
    /// If it cannot be created there.
    pub fn new(folder: &Path, name: &OsStr) -> io::Result<Self> {
        for _ in 0..ATTEMPTS {
            let random = RandomState::new().hash_one(());
            if let Some(made) = Self::called(folder.join(hidden(name, random)))? {
                return Ok(made);
            }
        }
        Err(ErrorKind::AlreadyExists.into())
    }

    /// The new file `path`; none if the name is taken, or a sweep was faster than the lock.
    fn called(path: PathBuf) -> io::Result<Option<Self>> {
        let file = match File::create_new(&path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(None),
            created => created?,
        };
        let held = match file.try_lock() {
            Ok(()) => path.try_exists()?,
            Err(TryLockError::WouldBlock) => false,
            // A file system without locks, on which nothing is ever swept.
            Err(TryLockError::Error(_)) => true,
        };
        Ok(held.then_some(Self {
            file,
            path,
            stays: false,
        }))
    }

    /// The file, open for writing.
    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Its name for now.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for PartialFile {
    fn drop(&mut self) {
        if !self.stays {
            // After a rename there is nothing to remove, and after a failure nothing better to do.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A folder in the making, as [`PartialFile`]: an empty file of that kind, which is held, and the folder beside it.
#[derive(Debug)]
pub struct PartialFolder {
    file: PartialFile,
}

impl PartialFolder {
    /// A new, empty folder in `folder`, of what will be called `name`.
    ///
    /// # Errors
    /// If it cannot be created there.
    pub fn new(folder: &Path, name: &OsStr) -> io::Result<Self> {
        let file = PartialFile::new(folder, name)?;
        fs::create_dir(contents(&file.path))?;
        Ok(Self { file })
    }

    /// Its name.
    pub fn path(&self) -> PathBuf {
        contents(&self.file.path)
    }
}

impl Drop for PartialFolder {
    fn drop(&mut self) {
        // A sweep finds what stays by its file.
        self.file.stays = !is_removed(&self.path());
    }
}

/// Removes what killed processes have left unfinished of `name` in `folder`, a day after. What a living process holds
/// stays; what cannot be removed stays too.
pub fn sweep(folder: &Path, name: &OsStr) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        // A link is not of our making.
        if is_hidden(&entry.file_name(), name) && entry.file_type().is_ok_and(|kind| kind.is_file())
        {
            remove_abandoned(&entry.path());
        }
    }
}

fn remove_abandoned(path: &Path) {
    // Network file systems lock only what is open for writing; the copy of a file that may not be written to is not.
    let opened = File::options().write(true).open(path);
    let Ok(file) = opened.or_else(|_| File::open(path)) else {
        return;
    };
    if is_old(&file) && file.try_lock().is_ok() {
        // What could not be removed is found by its file the next time.
        if is_removed(&contents(path)) {
            let _ = fs::remove_file(path);
        }
    }
}

/// Whether its last change is long past.
fn is_old(file: &File) -> bool {
    let changed = file.metadata().and_then(|found| found.modified());
    // A time that is still to come is another machine's.
    let age = changed.ok().and_then(|changed| changed.elapsed().ok());
    age.is_some_and(|age| age >= ABANDONED)
}

/// Removes `folder`; whether it is gone. Of a file there is none.
fn is_removed(folder: &Path) -> bool {
    match fs::remove_dir_all(folder) {
        Ok(()) => true,
        Err(error) => error.kind() == ErrorKind::NotFound,
    }
}

fn hidden(name: &OsStr, random: u64) -> OsString {
    let mut hidden = OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{random:0DIGITS$x}{ENDING}"));
    hidden
}

fn is_hidden(found: &OsStr, name: &OsStr) -> bool {
    let found = found.as_encoded_bytes();
    let random = found
        .strip_prefix(b".")
        .and_then(|rest| rest.strip_prefix(name.as_encoded_bytes()))
        .and_then(|rest| rest.strip_prefix(b"."))
        .and_then(|rest| rest.strip_suffix(ENDING.as_bytes()));
    random.is_some_and(|random| random.len() == DIGITS && random.iter().all(u8::is_ascii_hexdigit))
}

/// The folder that belongs to the file `path`.
fn contents(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(".d");
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::time::SystemTime;

    const DAY: u64 = 24 * 60 * 60;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("listed");
        let names = entries.map(|entry| entry.expect("an entry").file_name());
        let mut names: Vec<_> = names
            .map(|name| name.into_string().expect("text"))
            .collect();
        names.sort();
        names
    }

    /// As if `path` had been left so long ago.
    fn age(path: &Path, seconds: u64) {
        let file = File::options().write(true).open(path).expect("opens");
        let then = SystemTime::now() - Duration::from_secs(seconds);
        file.set_modified(then).expect("set");
    }

    #[test]
    fn what_nobody_holds_is_swept() {
        let root = tempfile::tempdir().expect("a folder");
        let (folder, name) = (root.path(), OsStr::new("a.html"));
        let mut held = PartialFile::new(folder, name).expect("made");
        let open = PartialFolder::new(folder, name).expect("made");
        held.file().write_all(b"half").expect("written");
        // Left by a process that is gone.
        let left = folder.join(hidden(name, 7));
        fs::create_dir(contents(&left)).expect("made");
        fs::write(contents(&left).join("model"), "half").expect("written");
        // What only looks like it.
        let others = [
            ".a.html.partial",
            ".a.html.0000000000000007",
            ".a.html.000000000000000g.partial",
            ".b.html.0000000000000007.partial",
            "a.html.0000000000000007.partial",
        ];
        for path in others
            .iter()
            .map(|name| folder.join(name))
            .chain([left.clone()])
        {
            fs::write(&path, "").expect("written");
            age(&path, DAY);
        }
        for path in [held.path(), open.file.path()] {
            age(path, DAY);
        }
        assert_eq!(names(folder).len(), 3 + 2 + others.len());
        sweep(folder, name);
        let kept = names(folder);
        assert_eq!(kept.len(), 3 + others.len(), "{kept:?}");
        assert!(held.path().is_file() && open.path().is_dir());
        assert!(!left.exists() && !contents(&left).exists());
        drop((held, open));
        assert_eq!(names(folder), {
            let mut others = others.map(str::to_owned);
            others.sort();
            others
        });
    }

    /// Where locks are one machine's own, nobody seems to hold what another machine has just begun.
    #[test]
    fn what_is_young_may_be_another_machines() {
        let root = tempfile::tempdir().expect("a folder");
        let left = root.path().join(hidden(OsStr::new("a"), 7));
        fs::write(&left, "half").expect("written");
        for (seconds, stays) in [(0, true), (DAY - 60, true), (DAY, false)] {
            age(&left, seconds);
            sweep(root.path(), OsStr::new("a"));
            assert_eq!(left.exists(), stays, "{seconds}");
        }
    }

    /// By its file alone it is found again.
    #[test]
    fn what_cannot_be_removed_is_tried_again() {
        let root = tempfile::tempdir().expect("a folder");
        let (folder, name) = (root.path(), OsStr::new("a.html"));
        // No folder, so that it is not removed as one.
        let left = folder.join(hidden(name, 7));
        for path in [left.clone(), contents(&left)] {
            fs::write(path, "").expect("written");
        }
        let open = PartialFolder::new(folder, name).expect("made");
        fs::remove_dir(open.path()).expect("removed");
        fs::write(open.path(), "").expect("written");
        age(&left, DAY);
        sweep(folder, name);
        age(open.file.path(), DAY);
        drop(open);
        assert_eq!(names(folder).len(), 4, "{:?}", names(folder));
        for path in fs::read_dir(folder).expect("listed") {
            let path = path.expect("an entry").path();
            if path.extension() == Some(OsStr::new("d")) {
                fs::remove_file(path).expect("removed");
            }
        }
        sweep(folder, name);
        assert_eq!(names(folder), Vec::<String>::new());
    }

    /// Two processes with equal numbers, as in two containers, would otherwise write into one file.
    #[test]
    fn a_name_that_is_taken_is_not_written_to() {
        let root = tempfile::tempdir().expect("a folder");
        let path = root.path().join(hidden(OsStr::new("a"), 1));
        fs::write(&path, "another's").expect("written");
        assert!(PartialFile::called(path.clone()).expect("looked").is_none());
        assert_eq!(fs::read_to_string(&path).expect("read"), "another's");
        let made = |_| PartialFile::new(root.path(), OsStr::new("a")).expect("made");
        let all: Vec<_> = (0..100).map(made).collect();
        let mut paths: Vec<_> = all.iter().map(PartialFile::path).collect();
        paths.sort();
        paths.dedup();
        assert_eq!(paths.len(), 100);
    }

    #[test]
    #[cfg(unix)]
    fn a_link_is_left_alone() {
        let root = tempfile::tempdir().expect("a folder");
        let photo = root.path().join("photo.jpg");
        fs::write(&photo, "photo").expect("written");
        // What it leads to would be old enough.
        age(&photo, DAY);
        let link = root.path().join(hidden(OsStr::new("a"), 1));
        std::os::unix::fs::symlink(&photo, &link).expect("linked");
        sweep(root.path(), OsStr::new("a"));
        assert!(link.is_symlink() && photo.is_file());
    }
}
