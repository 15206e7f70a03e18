//! A program from its start to its end.

use crate::waiting::{wait_for_lines, wait_until};
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long the last words of a program that has ended are waited for.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// What comes through a pipe, as it comes.
struct Said {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Said {
    fn of(mut pipe: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&bytes);
        let reader = std::thread::spawn(move || {
            let mut part = [0; 4096];
            while let Ok(count @ 1..) = pipe.read(&mut part) {
                let mut bytes = into.lock().expect("nobody panics with it");
                bytes.extend_from_slice(&part[..count]);
            }
        });
        Self { bytes, reader }
    }

    /// So far.
    fn text(&self) -> String {
        let bytes = self.bytes.lock().expect("nobody panics with it");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Whether everybody who had the other end has closed it.
    fn is_all(&self) -> bool {
        self.reader.is_finished()
    }
}

/// A program that was started. It does not outlive the test.
pub(crate) struct Running {
    child: Child,
    stdout: Said,
    stderr: Said,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("starts");
        Self {
            stdout: Said::of(child.stdout.take().expect("a pipe")),
            stderr: Said::of(child.stderr.take().expect("a pipe")),
            child,
        }
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs, and what it has said, as [`wait_until`] asks.
    pub(crate) fn look(&mut self) -> (bool, String) {
        let ended = self.child.try_wait().expect("waits");
        if ended.is_some() {
            // Its last words come through the pipe yet, unless something that it has started keeps that open.
            let until = Instant::now() + LAST_WORDS;
            while !(self.stdout.is_all() && self.stderr.is_all()) && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        let said = format!("{}{}", self.stdout.text(), self.stderr.text());
        (ended.is_none(), said)
    }

    /// Waits until the journal of the run in the folder `run` has so many lines.
    #[track_caller]
    pub(crate) fn reached(&mut self, run: &Path, lines: usize) {
        wait_for_lines(run, lines, || self.look());
    }

    /// Waits for its end, and until all that it has started has closed its output, too.
    #[track_caller]
    pub(crate) fn end(mut self) -> Ran {
        let (stdout, stderr) = (&self.stdout, &self.stderr);
        let mut status = None;
        let ended = || {
            status = status.or(self.child.try_wait().expect("waits"));
            status.is_some() && stdout.is_all() && stderr.is_all()
        };
        let said = || (true, format!("{}{}", stdout.text(), stderr.text()));
        wait_until("end", ended, said);
        Ran {
            code: status.and_then(|status| status.code()),
            stdout: stdout.text(),
            stderr: stderr.text(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended already needs it no more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a program said, and how it ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    #[track_caller]
    pub(crate) fn of(command: &mut Command) -> Self {
        Self::while_running(command, |_| ())
    }

    /// Does `something` with it once it runs.
    #[track_caller]
    pub(crate) fn while_running(
        command: &mut Command,
        something: impl FnOnce(&mut Running),
    ) -> Self {
        let mut running = Running::start(command);
        something(&mut running);
        running.end()
    }

    /// Exit code 0.
    #[track_caller]
    pub(crate) fn succeeded(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self
    }
}

#[test]
fn a_program_that_has_ended_is_not_waited_for() {
    let waited = std::panic::catch_unwind(|| {
        let mut program = Command::new("sh");
        Ran::while_running(program.args(["-c", "echo the reason >&2"]), |running| {
            running.reached(Path::new("no such run"), 3);
        })
    });
    let message = waited.expect_err("in vain");
    let message = message.downcast::<String>().expect("a text");
    let said = "ended without 3 lines of the journal: the reason";
    assert!(message.starts_with(said), "{message}");
}

#[test]
fn a_program_does_not_outlive_a_test_that_fails() {
    let process = Mutex::new(None);
    let failed = std::panic::catch_unwind(|| {
        let mut program = Command::new("sleep");
        Ran::while_running(program.arg("600"), |running| {
            *process.lock().expect("nobody panics with it") = Some(running.id());
            panic!("on purpose");
        })
    });
    assert!(failed.is_err());
    let process = process.into_inner().expect("nobody panics with it");
    let process = process.expect("it was started").to_string();
    let asked = Command::new("kill").args(["-0", &process]).output();
    assert!(!asked.expect("kill runs").status.success(), "it still runs");
}
