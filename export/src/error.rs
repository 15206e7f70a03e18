//! The error type of the crate.

use std::path::PathBuf;

/// What can go wrong, each with the thing it concerns and, where there is one, the fix.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Metadata, an image or a configuration was refused by the core crate.
    #[error(transparent)]
    Core(#[from] selfcls_core::Error),
    /// A file could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was attempted, as a verb: `read`, `write`, `rename`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// The weights are not those of the configured model; every problem is listed.
    #[error("the weights do not fit the model:{}", bullets(.0))]
    Weights(Vec<String>),
    /// The request contradicts the model (a head that it does not have, ...).
    #[error("{0}")]
    Request(String),
    /// A file is not a classifier that this crate may hand to an engine.
    #[error("{model}: {reason}")]
    Model {
        /// The path, or `the model` for bytes in memory.
        model: String,
        /// What is wrong with it, and the fix where there is one.
        reason: String,
        /// The field of `Options` that is to be raised, where that is the fix.
        option: Option<&'static str>,
    },
    /// A file that does not say how images are prepared for it, which nobody has said instead.
    #[error(
        "{model}: {reason}; if another program wrote it, say in `Options::preprocessing` how it wants its images"
    )]
    Foreign {
        /// The path, or `the model` for bytes in memory.
        model: String,
        /// What it lacks.
        reason: String,
    },
    /// No engine of the requested kind can be used.
    #[error("{0}")]
    Engine(String),
    /// The engine refused the network or failed while running it.
    #[error("{engine} cannot {action}: {reason}")]
    Run {
        /// The engine in use.
        engine: String,
        /// What was attempted, as a verb phrase.
        action: &'static str,
        /// The engine's own words.
        reason: String,
    },
    /// What the network says of an image is not finite; its other answers are not worse for it.
    #[error(
        "{engine} cannot give the outputs: a value of `{output}`{} is not a finite number; the weights or the image's values are damaged",
        place(*.image)
    )]
    NotFinite {
        /// The engine in use.
        engine: String,
        /// The output that has the value.
        output: String,
        /// Which image of those that were given; none where the answer comes with its image.
        image: Option<usize>,
    },
}

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An [`Error::Io`] maker for `map_err`.
    #[cfg(any(feature = "writer", feature = "onnxruntime", feature = "tract"))]
    pub(crate) fn io(
        action: &'static str,
        path: impl AsRef<std::path::Path>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}

fn place(image: Option<usize>) -> String {
    image.map_or(String::new(), |image| format!(" for image {image}"))
}

fn bullets(problems: &[String]) -> String {
    problems.iter().fold(String::new(), |mut text, problem| {
        text.push_str("\n  - ");
        text.push_str(problem);
        text
    })
}
