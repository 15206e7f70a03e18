//! The network loaded into the engine, as often as the engine needs to use all threads.
//!
//! ONNX Runtime spreads one image over its own threads: one session, unless there are many images, or more runs at
//! a time are asked for. tract runs an image on one thread: up to `threads` sessions, loaded when a batch or concurrent
//! callers first have use for them.

use super::engine::{Engine, Selected};
use super::pixels::{Part, Slice};
use super::places::Places;
use super::{Options, Provider};
use crate::{Error, Result};
use ort::ep::ExecutionProviderDispatch;
use ort::session::builder::GraphOptimizationLevel;
use ort::session::{Session, SessionOutputs};
use ort::value::TensorRef;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Runs at a time that nobody asked for by number: each keeps a copy of the weights.
const MOST_RUNS: usize = 4;

/// Where an engine takes the network from.
pub(super) enum Source {
    /// A file that is complete in itself.
    Memory(Vec<u8>),
    /// A file with others beside it.
    Disk(PathBuf),
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
    source: Mutex<Option<Arc<Source>>>,
    /// Each slot is filled on first use; the first one at once.
    slots: Vec<OnceLock<Mutex<Session>>>,
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
        if selected.engine == Engine::Tract
            && let Some(provider) = options.providers.first()
        {
            return Err(Error::Engine(format!(
                "{provider} was asked for, and {} has none: {}",
                selected.engine,
                super::library::remedy()
            )));
        }
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
            source: Mutex::new(Some(Arc::new(source))),
            slots: (0..copies).map(|_| OnceLock::new()).collect(),
            places: Places::new(copies),
        };
        sessions.session(0)?;
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
        read: impl FnOnce(&SessionOutputs<'_>) -> Result<T>,
    ) -> Result<T> {
        let place = self.places.take();
        // Nobody else has the place. A session keeps no state between runs, so one that saw a panic is as good as before.
        let session = self.session(place.number())?.lock();
        let mut session = session.unwrap_or_else(PoisonError::into_inner);
        let failed = |error: ort::Error| self.failed("run the network", error);
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
        read(&outputs.map_err(failed)?)
    }

    fn session(&self, slot: usize) -> Result<&Mutex<Session>> {
        let slot = &self.slots[slot];
        if let Some(session) = slot.get() {
            return Ok(session);
        }
        let source = self.source().clone();
        let Some(source) = source else {
            // Invariant: the source is dropped only when every slot is filled.
            return Err(Error::Engine("the network is not loaded".to_owned()));
        };
        let session = self
            .create(&source)
            .map_err(|error| self.failed("load the network", error))?;
        // Whoever has a place is the only one to fill its slot.
        let session = slot.get_or_init(|| Mutex::new(session));
        if self.slots.iter().all(|slot| slot.get().is_some()) {
            *self.source() = None;
        }
        Ok(session)
    }

    fn source(&self) -> MutexGuard<'_, Option<Arc<Source>>> {
        // It is replaced in one assignment.
        self.source.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn create(&self, source: &Source) -> ort::Result<Session> {
        let mut builder = Session::builder(&self.selected.environment)?
            .with_optimization_level(GraphOptimizationLevel::All)?;
        // tract has no such options.
        if let Engine::OnnxRuntime(_) = self.selected.engine {
            builder = builder
                .with_intra_threads(self.threads)?
                .with_intra_op_spinning(self.spin)?;
            if !self.providers.is_empty() {
                let providers: Vec<_> = self.providers.iter().map(|(_, p)| p.clone()).collect();
                builder = builder.with_execution_providers(providers)?;
            }
        }
        match source {
            Source::Memory(file) => builder.commit_from_memory(file),
            Source::Disk(path) => builder.commit_from_file(path),
        }
    }

    /// An [`Error::Run`] in the engine's words.
    pub(super) fn failed(&self, action: &'static str, error: impl std::fmt::Display) -> Error {
        Error::Run {
            engine: self.selected.engine.to_string(),
            action,
            reason: error.to_string(),
        }
    }
}
