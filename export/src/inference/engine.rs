//! Which program runs the network: ONNX Runtime where its library is found, tract (built in) otherwise.
//!
//! `ort` binds a process to one engine for good: the first interface set wins. So the choice is made
//! once, here, and a later request that contradicts it is refused instead of silently ignored.

use super::Provider;
use super::library::{LIBRARY_VARIABLE, Library, file_name, places, remedy};
use crate::{Error, Result};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Which engine to use.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum EngineChoice {
    /// The engine that this process uses already; else ONNX Runtime from `ORT_DYLIB_PATH` (an error if that
    /// is set and does not work) or from a well-known place; else tract.
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

/// The process's engine, ready to load networks.
#[derive(Clone)]
pub(super) struct Selected {
    /// Which one it is.
    pub(super) engine: Engine,
    /// What sessions are made in.
    pub(super) environment: ort::environment::Environment,
}

/// Kept until the process ends: the engines do not support being started twice.
static SELECTED: Mutex<Option<Selected>> = Mutex::new(None);

/// The engine that this process is bound to, if a classifier has been opened.
pub fn in_use() -> Option<Engine> {
    selected().as_ref().map(|selected| selected.engine.clone())
}

/// What sessions are made in, if a classifier has been opened. `ort` allows one environment in a process: an
/// application that runs other networks with it makes their sessions here.
pub fn environment() -> Option<ort::environment::Environment> {
    let selected = selected();
    selected
        .as_ref()
        .map(|selected| selected.environment.clone())
}

fn selected() -> MutexGuard<'static, Option<Selected>> {
    // The value is replaced in one assignment, so a panic elsewhere cannot have left it half-written.
    SELECTED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The process's engine, chosen now if this is the first request. Whoever asks for `providers` asks for ONNX Runtime.
pub(super) fn select(choice: &EngineChoice, providers: &[Provider]) -> Result<Selected> {
    // Before the process is bound to an engine, so that a request that cannot be met leaves it free.
    for provider in providers {
        if *choice == EngineChoice::Tract {
            return Err(has_no_providers(*provider));
        }
        provider.is_built_in()?;
    }
    let mut selected = selected();
    if let Some(existing) = &*selected {
        return match (providers.first(), &existing.engine) {
            (Some(provider), Engine::Tract) => Err(has_no_providers(*provider)),
            _ => agree(existing, choice),
        };
    }
    let engine = match choice {
        EngineChoice::Tract => Engine::Tract,
        EngineChoice::OnnxRuntimeAt(path) => Engine::OnnxRuntime(Library::check(path)?),
        EngineChoice::OnnxRuntime | EngineChoice::Auto => match (find()?, providers.first()) {
            ((Some(library), _), _) => Engine::OnnxRuntime(library),
            (_, None) if *choice == EngineChoice::Auto => Engine::Tract,
            ((None, passed_over), provider) => return Err(none_found(provider, &passed_over)),
        },
    };
    let environment = start(&engine)?;
    Ok(selected
        .insert(Selected {
            engine,
            environment,
        })
        .clone())
}

fn has_no_providers(provider: Provider) -> Error {
    Error::Engine(format!(
        "{provider} was asked for, and {} has none: {}",
        Engine::Tract,
        remedy()
    ))
}

fn find() -> Result<(Option<Library>, Vec<String>)> {
    match std::env::var_os(LIBRARY_VARIABLE) {
        Some(path) if !path.is_empty() => {
            let library = Library::check(path.as_ref()).map_err(|error| {
                Error::Engine(format!("{LIBRARY_VARIABLE} is set, but {error}"))
            })?;
            Ok((Some(library), Vec::new()))
        }
        _ => Ok(Library::search()),
    }
}

fn none_found(provider: Option<&Provider>, passed_over: &[String]) -> Error {
    let wanted = provider.map_or(String::new(), |provider| {
        format!("{provider} was asked for, and ")
    });
    let mut message = format!(
        "{wanted}no ONNX Runtime library found, neither named in {LIBRARY_VARIABLE} nor as {} in {}: {}",
        file_name(),
        places(),
        remedy()
    );
    for reason in passed_over {
        message.push_str("\n  - passed over: ");
        message.push_str(reason);
    }
    Error::Engine(message)
}

/// Accepts a choice that the running engine satisfies.
fn agree(existing: &Selected, choice: &EngineChoice) -> Result<Selected> {
    let satisfied = match (choice, &existing.engine) {
        (EngineChoice::Auto, _)
        | (EngineChoice::Tract, Engine::Tract)
        | (EngineChoice::OnnxRuntime, Engine::OnnxRuntime(_)) => true,
        (EngineChoice::OnnxRuntimeAt(path), Engine::OnnxRuntime(library)) => {
            path.canonicalize().is_ok_and(|path| path == library.path)
        }
        _ => false,
    };
    if satisfied {
        return Ok(existing.clone());
    }
    let asked = match choice {
        EngineChoice::OnnxRuntimeAt(path) => format!("ONNX Runtime at {}", path.display()),
        EngineChoice::OnnxRuntime => "ONNX Runtime".to_owned(),
        EngineChoice::Tract | EngineChoice::Auto => "tract".to_owned(),
    };
    Err(Error::Engine(format!(
        "this process runs {} and cannot change to {asked}; choose the engine before the first model is opened, or use another process",
        existing.engine
    )))
}

/// Hands the engine's interface to `ort` and makes the environment.
fn start(engine: &Engine) -> Result<ort::environment::Environment> {
    let failed = |reason: String| Error::Engine(format!("{engine} cannot start: {reason}"));
    let builder = match engine {
        Engine::Tract => {
            ort::set_api(ort_tract::api());
            ort::init()
        }
        // `Library::check` has made sure that nothing in here panics.
        Engine::OnnxRuntime(library) => {
            ort::init_from(&library.path).map_err(|error| failed(error.to_string()))?
        }
    };
    // The application may have used ort before; then ort kept that interface and said nothing.
    let runs_tract = ort::info().contains("ort-tract");
    if runs_tract != (*engine == Engine::Tract) {
        return Err(failed(format!(
            "the application has set up ort with another engine before ({})",
            ort::info()
        )));
    }
    builder
        .with_name("selfcls")
        .with_telemetry(false)
        .build()
        .map_err(|error| failed(error.to_string()))
}
