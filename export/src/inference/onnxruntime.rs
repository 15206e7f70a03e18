//! ONNX Runtime: the library of this process, and networks in it.
//!
//! `ort` binds a process to one library for good: the first one wins. So it is chosen once, here, and a later request
//! that contradicts it is refused instead of silently ignored.

use super::library::{file_name, places, remedy};
use super::pixels::{Part, Slice};
use super::sessions::{Found, Source};
use super::{EngineChoice, LIBRARY_VARIABLE, Library, Provider};
use crate::{Error, Result};
use ort::environment::Environment;
use ort::ep::ExecutionProviderDispatch;
use ort::session::builder::GraphOptimizationLevel;
use ort::session::{Session, SessionOutputs};
use ort::value::TensorRef;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// ONNX Runtime's name for the folder that holds the weights of a model in memory.
const FOLDER: &str = "session.model_external_initializers_file_folder_path";

/// The process's ONNX Runtime, ready to load networks.
#[derive(Clone)]
pub(super) struct Runtime {
    pub(super) library: Library,
    /// What sessions are made in.
    pub(super) environment: Environment,
}

/// Kept until the process ends: it does not support being started twice.
static RUNTIME: Mutex<Option<Runtime>> = Mutex::new(None);

fn runtime() -> MutexGuard<'static, Option<Runtime>> {
    // The value is replaced in one assignment, so a panic elsewhere cannot have left it half-written.
    RUNTIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The library that this process has loaded, if a classifier has been opened with ONNX Runtime.
pub fn in_use() -> Option<Library> {
    runtime().as_ref().map(|runtime| runtime.library.clone())
}

/// What sessions of ONNX Runtime are made in, if a classifier has been opened with it. `ort` allows one environment in
/// a process: an application that runs other networks with it makes their sessions here.
pub fn environment() -> Option<Environment> {
    let runtime = runtime();
    runtime.as_ref().map(|runtime| runtime.environment.clone())
}

/// The process's ONNX Runtime, loaded now if this is the first request; none where there is no library and `choice` and
/// `provider` allow another engine, which is part of the program.
pub(super) fn select(
    choice: &EngineChoice,
    provider: Option<&Provider>,
) -> Result<Option<Runtime>> {
    let mut runtime = runtime();
    if let Some(existing) = &*runtime {
        return agree(existing, choice).map(Some);
    }
    let library = match choice {
        EngineChoice::OnnxRuntimeAt(path) => Library::check(path)?,
        _ => match find()? {
            (Some(library), _) => library,
            (None, _)
                if *choice == EngineChoice::Auto
                    && provider.is_none()
                    && cfg!(feature = "tract") =>
            {
                return Ok(None);
            }
            (None, passed_over) => return Err(none_found(provider, &passed_over)),
        },
    };
    let environment = start(&library)?;
    let started = Runtime {
        library,
        environment,
    };
    Ok(Some(runtime.insert(started).clone()))
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

/// Accepts a choice that the loaded library satisfies.
fn agree(existing: &Runtime, choice: &EngineChoice) -> Result<Runtime> {
    match choice {
        EngineChoice::OnnxRuntimeAt(path)
            if path.canonicalize().ok().as_ref() != Some(&existing.library.path) =>
        {
            Err(Error::Engine(format!(
                "this process runs ONNX Runtime {} ({}) and cannot change to that at {}; choose the library before the first model is opened, or use another process",
                existing.library.version,
                existing.library.path.display(),
                path.display()
            )))
        }
        _ => Ok(existing.clone()),
    }
}

/// Hands the library to `ort` and makes the environment.
fn start(library: &Library) -> Result<Environment> {
    let failed = |reason: String| {
        Error::Engine(format!(
            "ONNX Runtime {} ({}) cannot start: {reason}",
            library.version,
            library.path.display()
        ))
    };
    // `Library::check` has made sure that nothing in here panics.
    let builder = ort::init_from(&library.path).map_err(|error| failed(error.to_string()))?;
    // The application may have used ort before; then ort kept that interface and said nothing.
    if ort::info().contains("ort-tract") {
        let before = ort::info();
        return Err(failed(format!(
            "the application has set up ort with another engine before ({before})"
        )));
    }
    builder
        .with_name("selfcls")
        .with_telemetry(false)
        .build()
        .map_err(|error| failed(error.to_string()))
}

/// How networks are loaded.
pub(super) struct Loader {
    pub(super) runtime: Runtime,
    /// Threads of each.
    pub(super) threads: usize,
    /// Whether they wait busily.
    pub(super) spin: bool,
    /// Execution providers, in the order of trying.
    pub(super) providers: Vec<ExecutionProviderDispatch>,
}

impl Loader {
    /// Loads `source`, whose input is called `input`.
    pub(super) fn load(&self, source: &Source, input: &str) -> Result<Network, String> {
        let load = || -> ort::Result<Session> {
            let mut builder = Session::builder(&self.runtime.environment)?
                .with_optimization_level(GraphOptimizationLevel::All)?
                .with_intra_threads(self.threads)?
                .with_intra_op_spinning(self.spin)?;
            if !self.providers.is_empty() {
                builder = builder.with_execution_providers(self.providers.clone())?;
            }
            if let Some(folder) = &source.folder {
                builder = builder.with_config_entry(FOLDER, folder)?;
            }
            builder.commit_from_memory(&source.file)
        };
        Ok(Network {
            session: load().map_err(words)?,
            input: input.to_owned(),
        })
    }
}

/// A loaded network.
pub(super) struct Network {
    session: Session,
    /// The name of the input.
    input: String,
}

impl Network {
    /// Runs `images`.
    pub(super) fn run(&mut self, images: &Part<'_>) -> Result<SessionOutputs<'_>, String> {
        let input = self.input.as_str();
        let shape = images.shape();
        let outputs = match images.values {
            Slice::Floats(values) => {
                let tensor = TensorRef::from_array_view((shape, values)).map_err(words)?;
                self.session.run(ort::inputs![input => tensor])
            }
            Slice::Bytes(values) => {
                let tensor = TensorRef::from_array_view((shape, values)).map_err(words)?;
                self.session.run(ort::inputs![input => tensor])
            }
        };
        outputs.map_err(words)
    }
}

fn words(error: ort::Error) -> String {
    error.to_string()
}

impl Found for SessionOutputs<'_> {
    fn get(&self, name: &str) -> Result<(Vec<usize>, &[f32]), String> {
        let value = self
            .get(name)
            .ok_or_else(|| format!("`{name}` is missing"))?;
        let found = value.try_extract_tensor::<f32>();
        let (shape, values) = found.map_err(|error| error.to_string())?;
        // A run has no negative lengths.
        let shape = shape.iter().map(|&n| n.try_into().unwrap_or(0));
        Ok((shape.collect(), values))
    }
}
