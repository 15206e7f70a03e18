//! The network loaded into the engine, as often as the engine needs to use all threads.
//!
//! ONNX Runtime spreads one image over its own threads: one session, unless there are many images, or more runs at
//! a time are asked for. tract runs an image on one thread: up to `threads` at a time, all with the same weights.

use super::engine::{Engine, Selected};
use super::pixels::{Part, Slice};
use super::places::Places;
use super::{Options, Provider, built_in};
use crate::{Error, Result};
use ort::ep::ExecutionProviderDispatch;
use ort::session::builder::GraphOptimizationLevel;
use ort::session::{Session, SessionOutputs};
use ort::value::TensorRef;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Runs at a time that nobody asked for by number: each keeps a copy of the weights.
const MOST_RUNS: usize = 4;

const LOAD: &str = "load the network";
const RUN: &str = "run the network";

/// ONNX Runtime's name for the folder that holds the weights of a model in memory.
const FOLDER: &str = "session.model_external_initializers_file_folder_path";

/// The network as it was checked. It is not read again from where it lay: another may lie there by now.
pub(super) struct Source {
    /// The file.
    pub(super) file: Vec<u8>,
    /// Where the weights lie that are not in it, if there are any: the engines take no other paths than UTF-8.
    pub(super) folder: Option<String>,
}

/// What another session is made of.
enum Original {
    File(Source),
    /// Its weights serve for all.
    Tract(built_in::Network),
}

/// The network in an engine.
enum Loaded {
    OnnxRuntime(Session),
    Tract(built_in::Network),
}

/// What a run gave.
pub(super) enum Found<'s> {
    OnnxRuntime(SessionOutputs<'s>),
    Tract(built_in::Found),
}

impl Found<'_> {
    /// Shape and values of the output `name`, or the engine's words.
    pub(super) fn get(&self, name: &str) -> Result<(Vec<usize>, &[f32]), String> {
        match self {
            Self::OnnxRuntime(outputs) => {
                let value = outputs
                    .get(name)
                    .ok_or_else(|| format!("`{name}` is missing"))?;
                let found = value.try_extract_tensor::<f32>();
                let (shape, values) = found.map_err(|error| error.to_string())?;
                // A run has no negative lengths.
                let shape = shape.iter().map(|&n| n.try_into().unwrap_or(0));
                Ok((shape.collect(), values))
            }
            Self::Tract(found) => {
                let (shape, values) = found.get(name)?;
                Ok((shape.to_vec(), values))
            }
        }
    }
}

/// The loaded network.
pub(super) struct Sessions {
    selected: Selected,
    /// Threads of each session.
    threads: usize,
    /// Whether they wait busily.
    spin: bool,
    /// Execution providers and what they are called; registered with every session.
    providers: Vec<(Provider, ExecutionProviderDispatch)>,
    /// The name of the input.
    input: String,
    /// For loading it again; kept only while there are sessions left to load.
    original: Mutex<Option<Arc<Original>>>,
    /// Each slot is filled on first use; the first one at once, and all of them where weights lie beside the file:
    /// others may lie there later.
    slots: Vec<OnceLock<Mutex<Loaded>>>,
    /// Who uses which.
    places: Places,
}

impl Sessions {
    /// Loads the network once; `input` is the name of its input.
    pub(super) fn load(
        selected: Selected,
        source: Source,
        input: String,
        options: &Options,
    ) -> Result<Self> {
        let threads = match options.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        };
        // A device has its own way to run many at once, and no room for copies.
        let on_processor = options.providers.iter().all(|one| one.is_processor());
        let copies = match (options.runs, &selected.engine) {
            (0, Engine::Tract) => threads,
            (0, Engine::OnnxRuntime(_)) if options.many && on_processor => threads.min(MOST_RUNS),
            (0, Engine::OnnxRuntime(_)) => 1,
            (runs, _) => runs,
        };
        let at_once = if source.folder.is_some() { copies } else { 1 };
        let original = match selected.engine {
            Engine::OnnxRuntime(_) => Original::File(source),
            Engine::Tract => {
                let network = built_in::Network::load(&source.file, source.folder.as_deref());
                Original::Tract(network.map_err(|e| failed(&selected.engine, LOAD, e))?)
            }
        };
        let providers = options.providers.iter();
        let threads = (threads / copies).max(1);
        let sessions = Self {
            selected,
            threads,
            spin: options.spin,
            providers: providers
                .map(|&provider| Ok((provider, provider.dispatch(threads)?)))
                .collect::<Result<_>>()?,
            input,
            original: Mutex::new(Some(Arc::new(original))),
            slots: (0..copies).map(|_| OnceLock::new()).collect(),
            places: Places::new(copies),
        };
        for slot in 0..at_once {
            sessions.session(slot)?;
        }
        Ok(sessions)
    }

    /// How many batches can run at a time.
    pub(super) fn parallel(&self) -> usize {
        self.slots.len()
    }

    /// Images per run of the engine, for images of `side` pixels.
    pub(super) fn batch(&self, side: usize) -> usize {
        match self.selected.engine {
            // As many pixels as 16 images of 224 over all runs at a time: memory stays bounded, small images still
            // fill the cores. With four on one thread a ResNet-18 takes 1 % more processor time than with 16.
            Engine::OnnxRuntime(_) => {
                let pixels = 16 * 224 * 224 / self.parallel().min(MOST_RUNS);
                (pixels / (side * side)).clamp(1, 256)
            }
            // Gains nothing from a batch and loses its cache: ResNet-18 at 224 on one thread took 37 ms
            // per image alone and 71 ms in a batch of 16.
            Engine::Tract => 1,
        }
    }

    /// The engine that runs the network.
    pub(super) fn engine(&self) -> &Engine {
        &self.selected.engine
    }

    /// The execution providers that it uses.
    pub(super) fn providers(&self) -> impl Iterator<Item = Provider> {
        self.providers.iter().map(|(provider, _)| *provider)
    }

    /// Runs `images` on a free session and hands the outputs to `read`.
    pub(super) fn run<T>(
        &self,
        images: &Part<'_>,
        read: impl FnOnce(&Found<'_>) -> Result<T>,
    ) -> Result<T> {
        let place = self.places.take();
        // Nobody else has the place. A session keeps no state between runs, so one that saw a panic is as good as before.
        let session = self.session(place.number())?.lock();
        let mut session = session.unwrap_or_else(PoisonError::into_inner);
        let session = match &mut *session {
            Loaded::OnnxRuntime(session) => session,
            Loaded::Tract(network) => {
                let found = network.run(images);
                return read(&Found::Tract(found.map_err(|e| self.failed(RUN, e))?));
            }
        };
        let failed = |error: ort::Error| self.failed(RUN, error);
        let input = self.input.as_str();
        let shape = images.shape();
        let outputs = match images.values {
            Slice::Floats(values) => {
                let tensor = TensorRef::from_array_view((shape, values)).map_err(failed)?;
                session.run(ort::inputs![input => tensor])
            }
            Slice::Bytes(values) => {
                let tensor = TensorRef::from_array_view((shape, values)).map_err(failed)?;
                session.run(ort::inputs![input => tensor])
            }
        };
        read(&Found::OnnxRuntime(outputs.map_err(failed)?))
    }

    fn session(&self, slot: usize) -> Result<&Mutex<Loaded>> {
        let slot = &self.slots[slot];
        if let Some(session) = slot.get() {
            return Ok(session);
        }
        let original = self.original().clone();
        let loaded = match original.as_deref() {
            Some(Original::File(source)) => {
                let session = self.create(source);
                Loaded::OnnxRuntime(session.map_err(|error| self.failed(LOAD, error))?)
            }
            Some(Original::Tract(network)) => Loaded::Tract(network.clone()),
            // Invariant: the original is dropped only when every slot is filled.
            None => return Err(Error::Engine("the network is not loaded".to_owned())),
        };
        // Whoever has a place is the only one to fill its slot.
        let loaded = slot.get_or_init(|| Mutex::new(loaded));
        if self.slots.iter().all(|slot| slot.get().is_some()) {
            *self.original() = None;
        }
        Ok(loaded)
    }

    fn original(&self) -> MutexGuard<'_, Option<Arc<Original>>> {
        // It is replaced in one assignment.
        self.original.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session of ONNX Runtime.
    fn create(&self, source: &Source) -> ort::Result<Session> {
        let mut builder = Session::builder(&self.selected.environment)?
            .with_optimization_level(GraphOptimizationLevel::All)?
            .with_intra_threads(self.threads)?
            .with_intra_op_spinning(self.spin)?;
        if !self.providers.is_empty() {
            let providers: Vec<_> = self.providers.iter().map(|(_, p)| p.clone()).collect();
            builder = builder.with_execution_providers(providers)?;
        }
        if let Some(folder) = &source.folder {
            builder = builder.with_config_entry(FOLDER, folder)?;
        }
        builder.commit_from_memory(&source.file)
    }

    /// An [`Error::Run`] in the engine's words.
    pub(super) fn failed(&self, action: &'static str, error: impl std::fmt::Display) -> Error {
        failed(&self.selected.engine, action, error)
    }
}

fn failed(engine: &Engine, action: &'static str, error: impl std::fmt::Display) -> Error {
    Error::Run {
        engine: engine.to_string(),
        action,
        reason: error.to_string(),
    }
}
