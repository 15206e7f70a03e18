//! The binary as a user meets it: output, exit codes and messages, in fresh directories.

#![allow(clippy::unwrap_used)]

mod demo;
mod images;
mod killed;
mod launch;
mod metrics;
mod predict;
#[cfg(unix)]
mod signals;
#[cfg(unix)]
mod slurm;
mod sources;
mod usage;

use std::path::Path;
use std::process::{Command, Output, Stdio};

/// The binary, in `folder`, without the caller's colour settings.
fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_selfcls-cli"));
    command.current_dir(folder).args(args).stdin(Stdio::null());
    for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"] {
        command.env_remove(name);
    }
    command
}

struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
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

fn run_in(folder: &Path, args: &[&str]) -> Ran {
    command(folder, args).output().unwrap().into()
}

fn run(args: &[&str]) -> Ran {
    run_in(tempfile::tempdir().unwrap().path(), args)
}

impl Ran {
    /// Exit code 0 and nothing on standard error.
    #[track_caller]
    fn succeeded(self) -> String {
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
    fn failed(self, code: i32, parts: &[&str]) {
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
    fn failed_with_notes(self, code: i32, parts: &[&str]) {
        let error = self.stderr.find("error: ").unwrap_or_default();
        Self {
            stderr: self.stderr[error..].to_string(),
            ..self
        }
        .failed(code, parts);
    }
}
