//! The binary as a process, and what becomes of it.

use super::launchers::is_of_a_launcher;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// The binary, in `folder`, without the caller's colour settings. No launcher speaks to it that may have started this test.
pub(crate) fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_selfcls-cli"));
    command.current_dir(folder).args(args).stdin(Stdio::null());
    let of_callers = ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"];
    for (name, _) in std::env::vars_os() {
        if name
            .to_str()
            .is_some_and(|name| of_callers.contains(&name) || is_of_a_launcher(name))
        {
            command.env_remove(name);
        }
    }
    command
}

/// What a program said and how it ended.
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// Runs it in `folder`.
pub(crate) fn run_in(folder: &Path, args: &[&str]) -> Ran {
    command(folder, args).output().unwrap().into()
}

/// Runs it in a folder of its own.
pub(crate) fn run(args: &[&str]) -> Ran {
    run_in(tempfile::tempdir().unwrap().path(), args)
}

impl Ran {
    /// Exit code 0.
    #[track_caller]
    pub(crate) fn fine(self) -> Self {
        assert_eq!(self.code, Some(0), "{}{}", self.stdout, self.stderr);
        self
    }

    /// Exit code 0; gives standard output.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        self.fine().stdout
    }

    /// Exit code 0 and nothing on standard error.
    #[track_caller]
    pub(crate) fn succeeded(self) -> String {
        assert_eq!(
            (self.code, self.stderr.as_str()),
            (Some(0), ""),
            "{}",
            self.stdout
        );
        self.stdout
    }

    /// This exit code, nothing on standard output, and a message with all of `parts`.
    #[track_caller]
    pub(crate) fn failed(self, code: i32, parts: &[&str]) {
        assert_eq!(
            (self.code, self.stdout.as_str()),
            (Some(code), ""),
            "{}",
            self.stderr
        );
        assert!(self.stderr.starts_with("error: "), "{}", self.stderr);
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        for part in parts {
            assert!(
                self.stderr.contains(part),
                "no {part:?} in:\n{}",
                self.stderr
            );
        }
    }

    /// As [`Ran::failed`], with notes before the error.
    #[track_caller]
    pub(crate) fn failed_with_notes(self, code: i32, parts: &[&str]) {
        let error = self.stderr.find("error: ").unwrap_or_default();
        Self {
            stderr: self.stderr[error..].to_string(),
            ..self
        }
        .failed(code, parts);
    }
}
