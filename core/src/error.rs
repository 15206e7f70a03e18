//! The error type of the crate.

use std::path::{Path, PathBuf};

/// What can go wrong, each with the thing it concerns and, where there is one, the fix.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was attempted, as a verb: `read`, `create`, `rename`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// A file was read but is not what it should be.
    #[error("{}: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and the fix where there is one.
        reason: String,
    },
    /// One or more configuration values are impossible; all of them are listed.
    #[error("{}", list_problems(.0))]
    Config(Vec<String>),
    /// The data cannot serve the request (empty folder, too few images, no labels, ...).
    #[error("{0}")]
    Data(String),
    /// A checkpoint or run directory does not fit the request.
    #[error("{0}")]
    Checkpoint(String),
    /// An argument of a function is outside its domain.
    #[error("{0}")]
    Invalid(String),
    /// An inference engine failed.
    #[error(transparent)]
    Network(Box<dyn std::error::Error + Send + Sync>),
    /// It was asked to stop before it had begun: nothing has changed.
    #[error("{0}")]
    Stopped(String),
    /// Training left the domain of finite numbers.
    #[error("{0}")]
    Diverged(String),
    /// A device has not enough memory for what was asked of it.
    #[error("{0}")]
    Memory(String),
    /// A device, or a library, failed in the middle of a computation.
    #[error("{0}")]
    Failed(String),
    /// Another process of the run is gone or out of step.
    #[error("{0}")]
    Peers(String),
}

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An [`Error::Io`] maker for `map_err`.
    pub fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }

    /// An [`Error::Malformed`] for `path`.
    pub fn malformed(path: impl AsRef<Path>, reason: impl std::fmt::Display) -> Self {
        Self::Malformed {
            path: path.as_ref().to_path_buf(),
            reason: reason.to_string(),
        }
    }
}

fn list_problems(problems: &[String]) -> String {
    match problems {
        [one] => format!("the configuration cannot work: {one}"),
        many => {
            let mut text = format!("the configuration has {} problems:", many.len());
            for problem in many {
                text.push_str("\n  - ");
                text.push_str(problem);
            }
            text
        }
    }
}
