//! Programs that run beside a test, which looks at what they do meanwhile.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// No test may last longer, however busy the machine.
const LIMIT: Duration = Duration::from_secs(150);

/// One of them. It does not outlive the test.
pub(crate) struct Started {
    child: Child,
    log: PathBuf,
    since: Instant,
}

impl Started {
    /// Starts `command`, which says everything into the file `log`.
    pub(crate) fn new(command: &mut Command, log: PathBuf) -> Self {
        let file = File::create(&log).expect("creates");
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("another handle"))
            .stderr(file);
        Self {
            child: command.spawn().expect("starts"),
            log,
            since: Instant::now(),
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has said.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until the journal of the run in the folder `run` has so many lines.
    pub(crate) fn reached(&mut self, run: &Path, lines: usize) {
        while count(run) < lines {
            let ended = self.child.try_wait().expect("waits");
            assert!(
                ended.is_none(),
                "ended before {lines} lines: {}",
                self.said()
            );
            self.pause(&format!("no {lines} lines"));
        }
    }

    /// Waits for its end, and gives its exit code.
    pub(crate) fn code(&mut self) -> Option<i32> {
        loop {
            if let Some(status) = self.child.try_wait().expect("waits") {
                return status.code();
            }
            self.pause("no end");
        }
    }

    fn pause(&self, missed: &str) {
        assert!(
            self.since.elapsed() < LIMIT,
            "{missed} in {LIMIT:?}: {}",
            self.said()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // One that has ended already needs it no more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines that the journal of a run has.
pub(crate) fn count(run: &Path) -> usize {
    let journal = fs::read_to_string(run.join("metrics.jsonl"));
    journal.unwrap_or_default().lines().count()
}
