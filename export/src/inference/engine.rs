//! Which program runs the network: ONNX Runtime where its library is found, tract (built in) otherwise.
//!
//! Either can be left out of a program by leaving out the cargo feature of its name.

use super::Provider;
#[cfg(feature = "onnxruntime")]
use super::onnxruntime::{self, Runtime};
use crate::{Error, Result};
use std::fmt;
use std::path::PathBuf;

/// The environment variable that names ONNX Runtime's library, as in all of ort's documentation.
pub const LIBRARY_VARIABLE: &str = "ORT_DYLIB_PATH";

/// Which engine to use.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum EngineChoice {
    /// The ONNX Runtime that this process uses already; else that of `ORT_DYLIB_PATH` (an error if that is set and does
    /// not work) or of a well-known place; else tract. Of the engines that the program was built with.
    #[default]
    Auto,
    /// ONNX Runtime from `ORT_DYLIB_PATH` or a well-known place; an error if there is none.
    OnnxRuntime,
    /// ONNX Runtime from this library; an error if it does not work.
    OnnxRuntimeAt(PathBuf),
    /// The built-in pure-Rust engine: needs nothing, one thread per image.
    Tract,
}

/// The engine in use.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Engine {
    /// ONNX Runtime, loaded at run time.
    OnnxRuntime(Library),
    /// tract, built in.
    Tract,
}

/// A library of ONNX Runtime that has been loaded and offers what is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Library {
    /// Absolute path of the file.
    pub path: PathBuf,
    /// ONNX Runtime's version, e.g. `1.31.1`.
    pub version: String,
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OnnxRuntime(Library { path, version }) => {
                write!(f, "ONNX Runtime {version} ({})", path.display())
            }
            Self::Tract => f.write_str("tract (built in)"),
        }
    }
}

/// An engine, ready to load networks.
#[derive(Clone)]
pub(super) enum Selected {
    #[cfg(feature = "onnxruntime")]
    OnnxRuntime(Runtime),
    #[cfg(feature = "tract")]
    Tract,
}

impl Selected {
    /// Which one it is.
    pub(super) fn engine(&self) -> Engine {
        match self {
            #[cfg(feature = "onnxruntime")]
            Self::OnnxRuntime(runtime) => Engine::OnnxRuntime(runtime.library.clone()),
            #[cfg(feature = "tract")]
            Self::Tract => Engine::Tract,
        }
    }
}

/// The engine that was asked for. Whoever asks for `providers` asks for ONNX Runtime.
pub(super) fn select(choice: &EngineChoice, providers: &[Provider]) -> Result<Selected> {
    // Before a library is loaded, so that a request that cannot be met leaves the choice of one open.
    for provider in providers {
        if *choice == EngineChoice::Tract {
            return Err(Error::Engine(format!(
                "{provider} was asked for, and {} has none: take ONNX Runtime, its library named in {LIBRARY_VARIABLE}, or leave the provider out",
                Engine::Tract
            )));
        }
        provider.is_built_in()?;
    }
    match choice {
        EngineChoice::Tract => tract(),
        #[cfg(feature = "onnxruntime")]
        _ => match onnxruntime::select(choice, providers.first())? {
            Some(runtime) => Ok(Selected::OnnxRuntime(runtime)),
            None => tract(),
        },
        #[cfg(not(feature = "onnxruntime"))]
        EngineChoice::Auto => tract(),
        #[cfg(not(feature = "onnxruntime"))]
        _ => Err(is_missing("ONNX Runtime", "onnxruntime")),
    }
}

#[cfg(feature = "tract")]
#[allow(
    clippy::unnecessary_wraps,
    reason = "without the feature there is none"
)]
fn tract() -> Result<Selected> {
    Ok(Selected::Tract)
}

#[cfg(not(feature = "tract"))]
fn tract() -> Result<Selected> {
    Err(is_missing("tract", "tract"))
}

/// For an engine that this program was built without.
#[cfg(not(all(feature = "onnxruntime", feature = "tract")))]
fn is_missing(engine: &str, feature: &str) -> Error {
    Error::Engine(format!(
        "{engine} is not part of this program: build it with the feature `{feature}` of selfcls-export, or choose another engine"
    ))
}
