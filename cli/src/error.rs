//! Errors of the binary: what is printed, and the exit code.

use crate::output;
use crate::signals::{self, Request};
use std::path::Path;
use std::process::ExitCode;
use std::{env, fmt, io};

/// What was typed cannot work.
pub(crate) const USAGE: u8 = 2;
/// Stopped after a checkpoint, to be started again.
pub(crate) const REQUEUE: u8 = 75;
/// Stopped by the user.
pub(crate) const INTERRUPTED: u8 = 130;

/// The result of a command.
pub(crate) type Result<T, E = CliError> = std::result::Result<T, E>;

/// A message for the user, one paragraph, with hints on what to do.
#[derive(Debug)]
pub(crate) struct CliError {
    kind: Kind,
    message: String,
    hints: Vec<String>,
    /// Not to be printed: another process says the same.
    unsaid: bool,
}

/// Whose turn it is to change something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// What was typed cannot work on any machine: exit code 2.
    Usage,
    /// It could work, but files, data or devices are not as needed: exit code 1.
    Failure,
    /// The user stopped it, and it can go on: exit code 130, as a shell gives for SIGINT.
    Interrupted,
    /// It made room for something else, and is to be started again: exit code 75, `EX_TEMPFAIL` of sysexits.h.
    Requeue,
}

impl CliError {
    /// Something typed is wrong.
    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// Something failed.
    pub(crate) fn failure(message: impl fmt::Display) -> Self {
        Self::new(Kind::Failure, message)
    }

    /// The user stopped it.
    pub(crate) fn interrupted(message: impl fmt::Display) -> Self {
        Self::new(Kind::Interrupted, message)
    }

    /// The system stopped it, to start it again later.
    pub(crate) fn requeue(message: impl fmt::Display) -> Self {
        Self::new(Kind::Requeue, message)
    }

    /// This process has ended because it was asked to.
    pub(crate) fn stopped(message: impl fmt::Display) -> Self {
        // Launchers report the largest exit code of all ranks. One that was asked by another rank alone gives the
        // smaller of the two, so that whoever was asked by the system decides.
        Self::as_asked(signals::request().unwrap_or(Request::Requeue), message)
    }

    /// A training has ended as `request` wanted it to.
    pub(crate) fn as_asked(request: Request, message: impl fmt::Display) -> Self {
        let error = match request {
            Request::Stop => Self::interrupted(message),
            Request::Requeue => Self::requeue(message),
        };
        error.hint("give the same command again to continue")
    }

    fn new(kind: Kind, message: impl fmt::Display) -> Self {
        Self {
            kind,
            message: message.to_string().trim_end().to_string(),
            hints: Vec::new(),
            unsaid: false,
        }
    }

    /// Leaves the printing to another process, which says the same.
    pub(crate) fn unsaid(mut self) -> Self {
        self.unsaid = true;
        self
    }

    /// Adds a line on what to do.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Where a path that leads nowhere was looked for.
    fn hint_of_missing(self, path: &Path, source: &io::Error) -> Self {
        match env::current_dir() {
            Ok(folder) if source.kind() == io::ErrorKind::NotFound && path.is_relative() => {
                self.hint(format!("looked for in {}", folder.display()))
            }
            _ => self,
        }
    }

    /// 2 for usage, 1 for failure, 75 to be started again, 130 when interrupted.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self.kind {
            Kind::Usage => ExitCode::from(USAGE),
            Kind::Failure => ExitCode::FAILURE,
            Kind::Requeue => ExitCode::from(REQUEUE),
            Kind::Interrupted => ExitCode::from(INTERRUPTED),
        }
    }

    /// Prints `error: ...` and the `hint: ...` lines to standard error, in colour where wanted.
    pub(crate) fn print(&self) {
        if self.unsaid {
            return;
        }
        let error = anstyle::AnsiColor::Red.on_default().bold();
        let hint = anstyle::AnsiColor::Cyan.on_default().bold();
        // Messages have names of files in them.
        anstream::eprintln!("{error}error{error:#}: {}", output::shown(&self.message));
        for text in &self.hints {
            anstream::eprintln!("{hint}hint{hint:#}: {}", output::shown(text));
        }
    }
}

/// As [`CliError::print`] shows it, without colours.
impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        self.hints
            .iter()
            .try_for_each(|hint| write!(f, "\nhint: {hint}"))
    }
}

impl From<selfcls_core::Error> for CliError {
    fn from(error: selfcls_core::Error) -> Self {
        match &error {
            selfcls_core::Error::Config(_) => {
                Self::usage(&error).hint("`selfcls-cli train --help` says what each key means")
            }
            selfcls_core::Error::Io { path, source, .. } => {
                Self::failure(&error).hint_of_missing(path, source)
            }
            selfcls_core::Error::Stopped(_) => Self::stopped(&error),
            _ => Self::failure(&error),
        }
    }
}

impl From<selfcls_export::Error> for CliError {
    fn from(error: selfcls_export::Error) -> Self {
        match error {
            selfcls_export::Error::Core(error) => Self::from(error),
            // A head or an image that was asked for and cannot be.
            selfcls_export::Error::Request(_) => Self::usage(error),
            selfcls_export::Error::Io {
                ref path,
                ref source,
                ..
            } => Self::failure(&error).hint_of_missing(path, source),
            selfcls_export::Error::Model {
                option: Some(option),
                ..
            } => {
                let error = Self::failure(error);
                match LIMITS.iter().find(|(limit, _)| *limit == option) {
                    Some((_, flag)) => error.hint(format!("{flag} N raises `{option}`")),
                    None => error,
                }
            }
            error => Self::failure(error),
        }
    }
}

/// The library speaks of its own options: what they are called here (see `RunningArgs`). More than the default of
/// `max_file_bytes` no ONNX file can have.
const LIMITS: [(&str, &str); 3] = [
    ("max_operations", "--max-operations"),
    ("max_run_bytes", "--max-run-bytes"),
    ("max_data_bytes", "--max-data-bytes"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_that_can_be_raised_are_named_as_they_are_typed() {
        let command = <crate::args::Cli as clap::CommandFactory>::command();
        let predict = command.find_subcommand("predict").expect("a command");
        for (option, flag) in LIMITS {
            let mut arguments = predict.get_arguments();
            assert!(arguments.any(|a| a.get_long() == flag.strip_prefix("--")));
            let error = CliError::from(selfcls_export::Error::Model {
                model: "a.onnx".into(),
                reason: "too large".into(),
                option: Some(option),
            });
            assert_eq!(error.hints, [format!("{flag} N raises `{option}`")]);
        }
    }

    #[test]
    fn impossible_settings_are_usage_errors_and_missing_files_are_not() {
        let config = selfcls_core::Error::Config(vec!["optim.lr = -1 must be positive".into()]);
        assert_eq!(CliError::from(config).kind, Kind::Usage);
        let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
        let missing = selfcls_core::Error::io("read", "a.txt")(missing);
        let missing = CliError::from(missing);
        assert_eq!(missing.kind, Kind::Failure);
        assert!(missing.hints[0].starts_with("looked for in "));
    }
}
