//! One process at a time trains into a run directory.

use crate::{Error, Result};
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How often a lock that somebody holds is tried again.
const INTERVAL: Duration = Duration::from_millis(200);

/// Keeps a second process from training into the same run directory; released when dropped, and by
/// the operating system when the process dies.
#[derive(Debug)]
pub struct RunLock {
    _file: File,
}

impl RunLock {
    /// Creates `run` where needed and takes its lock, for which it waits for `patience`: whoever held it before may be
    /// about to end. `stop` ends the waiting, and `say` hears what the user should know.
    ///
    /// # Errors
    /// If another process holds it until then; the error names it, but on Windows, where nobody can read what another has
    /// locked. [`Error::Stopped`] if `stop` ended the waiting.
    pub fn acquire(
        run: &Path,
        patience: Duration,
        stop: &AtomicBool,
        say: &mut dyn FnMut(String),
    ) -> Result<Self> {
        fs::create_dir_all(run).map_err(Error::io("create", run))?;
        let path = run.join(".lock");
        let mut file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(Error::io("create", &path))?;
        let began = Instant::now();
        let mut said = false;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) => {
                    let run = run.display();
                    let holder = holder(&path);
                    if stop.load(Ordering::Relaxed) {
                        return Err(Error::Stopped(format!(
                            "stopped before it began; another process{holder} still had {run}"
                        )));
                    }
                    if began.elapsed() >= patience {
                        return Err(Error::Checkpoint(format!(
                            "{run} is in use by another process{holder}; wait for it, end it, or choose another --out"
                        )));
                    }
                    if !said {
                        said = true;
                        say(format!(
                            "{run} is in use by another process{holder}; waiting for it for {} s",
                            patience.as_secs()
                        ));
                    }
                    std::thread::sleep(INTERVAL.min(patience));
                }
                Err(TryLockError::Error(error)) if knows_no_locks(&error) => {
                    say(format!(
                        "the file system of {} knows no locks ({error}): see to it yourself that no second process trains there",
                        run.display()
                    ));
                    break;
                }
                Err(TryLockError::Error(error)) => return Err(Error::io("lock", &path)(error)),
            }
        }
        // For whoever finds it locked. The lock is held without it as well.
        let _ = note_holder(&mut file);
        Ok(Self { _file: file })
    }

    /// Whether another process holds the lock of `run`, as far as that can be told (not on Windows).
    pub fn is_held_elsewhere(run: &Path) -> bool {
        let path = run.join(".lock");
        let Ok(file) = File::open(&path) else {
            return false;
        };
        // What is free is so again when this returns: whoever takes it now waits a moment.
        if !matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)) {
            return false;
        }
        let own = [host(), std::process::id().to_string()];
        fs::read_to_string(&path).is_ok_and(|text| {
            let mut words = text.split_whitespace();
            !own.iter().all(|own| words.next() == Some(own))
        })
    }
}

/// Writes host, process and time.
fn note_holder(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let seconds = now.map_or(0, |now| now.as_secs());
    writeln!(file, "{} {} {seconds}", host(), std::process::id())
}

/// ` (process 7 on n1, for 90 s)`, as far as the lock's file says so.
fn holder(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let words: Vec<&str> = text.split_whitespace().collect();
    let [host, process, since] = words[..] else {
        return String::new();
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let for_seconds = since
        .parse::<u64>()
        .ok()
        .zip(now.ok())
        .map(|(since, now)| format!(", for {} s", now.as_secs().saturating_sub(since)));
    format!(
        " (process {process} on {host}{})",
        for_seconds.unwrap_or_default()
    )
}

/// This machine's name, without spaces.
fn host() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .or_else(|| std::env::var("HOSTNAME").ok())
        .or_else(|| std::env::var("COMPUTERNAME").ok());
    let name: String = name
        .unwrap_or_default()
        .split_whitespace()
        .collect::<Vec<_>>()
        .join("-");
    match name.is_empty() {
        true => "unknown".to_owned(),
        false => name,
    }
}

/// What `flock` gives on some network file systems.
fn knows_no_locks(error: &io::Error) -> bool {
    // ENOLCK, for which the standard library has no kind.
    let no_locks = match cfg!(target_os = "linux") {
        true => 37,
        false => 77,
    };
    error.kind() == io::ErrorKind::Unsupported
        || cfg!(unix) && error.raw_os_error() == Some(no_locks)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acquire(run: &Path, patience: u64) -> (Result<RunLock>, Vec<String>) {
        acquire_unless(&AtomicBool::new(false), run, patience)
    }

    fn acquire_unless(
        stop: &AtomicBool,
        run: &Path,
        patience: u64,
    ) -> (Result<RunLock>, Vec<String>) {
        let mut said = Vec::new();
        let patience = Duration::from_millis(patience);
        let lock = RunLock::acquire(run, patience, stop, &mut |line| said.push(line));
        (lock, said)
    }

    #[test]
    fn a_run_is_locked_once_and_says_by_whom() {
        let run = tempfile::tempdir().expect("a folder");
        let (lock, said) = acquire(run.path(), 0);
        let lock = lock.expect("free");
        assert!(said.is_empty());
        let (second, _) = acquire(run.path(), 0);
        let message = second.expect_err("taken").to_string();
        for part in ["is in use by another process", "--out"] {
            assert!(message.contains(part), "no {part:?} in {message}");
        }
        // Nobody who asks to stop waits for it, and that is no failure.
        let asked = AtomicBool::new(true);
        let (stopped, _) = acquire_unless(&asked, run.path(), 3_600_000);
        let stopped = stopped.expect_err("taken");
        assert!(matches!(stopped, Error::Stopped(_)), "{stopped:?}");
        // Windows lets nobody read what another has locked.
        if cfg!(unix) {
            let process = format!("another process (process {} on ", std::process::id());
            for said in [message, stopped.to_string()] {
                for part in [&process, ", for "] {
                    assert!(said.contains(part), "no {part:?} in {said}");
                }
            }
        }
        drop(lock);
        assert!(acquire(run.path(), 0).0.is_ok());
    }

    #[test]
    fn a_lock_of_this_process_is_not_held_elsewhere() {
        let run = tempfile::tempdir().expect("a folder");
        assert!(!RunLock::is_held_elsewhere(run.path()));
        let (lock, _) = acquire(run.path(), 0);
        let lock = lock.expect("free");
        assert!(!RunLock::is_held_elsewhere(run.path()));
        if cfg!(unix) {
            fs::write(run.path().join(".lock"), "elsewhere 7 0\n").expect("writes");
            assert!(RunLock::is_held_elsewhere(run.path()));
        }
        drop(lock);
        assert!(!RunLock::is_held_elsewhere(run.path()));
    }

    #[test]
    fn one_that_is_about_to_end_is_waited_for() {
        let run = tempfile::tempdir().expect("a folder");
        let lock = acquire(run.path(), 0).0.expect("free");
        let began = Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                std::thread::sleep(Duration::from_millis(500));
                drop(lock);
            });
            let (lock, said) = acquire(run.path(), 60_000);
            lock.expect("free in the end");
            assert!(began.elapsed() >= Duration::from_millis(500));
            assert_eq!(said.len(), 1, "{said:?}");
            assert!(said[0].contains("waiting for it for 60 s"), "{said:?}");
        });
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn file_systems_without_locks_are_known() {
        // ENOLCK, ENOSYS, EOPNOTSUPP; EIO and EACCES are something else.
        for number in [37, 38, 95] {
            assert!(knows_no_locks(&io::Error::from_raw_os_error(number)));
        }
        for number in [5, 13] {
            assert!(!knows_no_locks(&io::Error::from_raw_os_error(number)));
        }
    }

    #[test]
    fn what_the_file_does_not_say_is_left_out() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(".lock");
        assert_eq!(holder(&path), "");
        for (text, expected) in [("", ""), ("n1 7\n", ""), ("n1 7 x\n", " (process 7 on n1)")] {
            fs::write(&path, text).expect("writes");
            assert_eq!(holder(&path), expected);
        }
    }
}
