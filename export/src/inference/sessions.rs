//! The network loaded into the engine, as often as the engine needs to use all threads.
//!
//! ONNX Runtime spreads one image over its own threads: one session, unless there are many images, or more runs at
//! a time are asked for. tract runs an image on one thread: up to `threads` at a time, all with the same weights.

#[cfg(feature = "tract")]
use super::built_in;
use super::engine::{Engine, Selected};
#[cfg(feature = "onnxruntime")]
use super::onnxruntime;
use super::pixels::Part;
use super::places::Places;
use super::{Options, Provider};
use crate::{Error, Result};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Runs at a time that nobody asked for by number: each keeps a copy of the weights.
const MOST_RUNS: usize = 4;

const LOAD: &str = "load the network";
const RUN: &str = "run the network";

/// The network as it was checked. It is not read again from where it lay: another may lie there by now.
pub(super) struct Source {
    /// The file.
    pub(super) file: Vec<u8>,
    /// Where the weights lie that are not in it, if there are any: the engines take no other paths than UTF-8.
    pub(super) folder: Option<String>,
}

/// What another session is made of.
enum Original {
    #[cfg(feature = "onnxruntime")]
    OnnxRuntime(onnxruntime::Loader, Source),
    /// Its weights serve for all.
    #[cfg(feature = "tract")]
    Tract(built_in::Network),
}

impl Original {
    /// `input` is the name of its input.
    #[allow(unused_variables, reason = "depends on the features")]
    fn load(&self, input: &str) -> Result<Loaded, String> {
        match self {
            #[cfg(feature = "onnxruntime")]
            Self::OnnxRuntime(loader, source) => {
                loader.load(source, input).map(Loaded::OnnxRuntime)
            }
            #[cfg(feature = "tract")]
            Self::Tract(network) => Ok(Loaded::Tract(network.clone())),
        }
    }
}

/// The network in an engine.
enum Loaded {
    #[cfg(feature = "onnxruntime")]
    OnnxRuntime(onnxruntime::Network),
    #[cfg(feature = "tract")]
    Tract(built_in::Network),
}

/// What a run gave.
pub(super) trait Found {
    /// Shape and values of the output `name`, or the engine's words.
    fn get(&self, name: &str) -> Result<(Vec<usize>, &[f32]), String>;
}

/// The loaded network.
pub(super) struct Sessions {
    engine: Engine,
    /// Threads over all runs.
    threads: usize,
    /// Execution providers, registered with every session.
    providers: Vec<Provider>,
    /// Whether those that can compute with 16 bits.
    half_precision: bool,
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
        let engine = selected.engine();
        let threads = match options.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        };
        // A device has its own way to run many at once, and no room for copies.
        let on_processor = options.providers.iter().all(|one| one.is_processor());
        let copies = match (options.runs, &engine) {
            (0, Engine::Tract) => threads,
            (0, Engine::OnnxRuntime(_)) if options.many && on_processor => threads.min(MOST_RUNS),
            (0, Engine::OnnxRuntime(_)) => 1,
            (runs, _) => runs,
        };
        let at_once = if source.folder.is_some() { copies } else { 1 };
        let original = match selected {
            #[cfg(feature = "onnxruntime")]
            Selected::OnnxRuntime(runtime) => {
                let threads = (threads / copies).max(1);
                let loader = onnxruntime::Loader {
                    runtime,
                    threads,
                    spin: options.spin,
                    providers: options.dispatches(threads)?,
                };
                Original::OnnxRuntime(loader, source)
            }
            #[cfg(feature = "tract")]
            Selected::Tract => {
                let network = built_in::Network::load(&source.file, source.folder.as_deref());
                Original::Tract(network.map_err(|e| failed(&engine, LOAD, e))?)
            }
        };
        let sessions = Self {
            engine,
            threads,
            providers: options.providers.clone(),
            half_precision: options.half_precision,
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

    /// Threads that may compute at a time.
    pub(super) fn threads(&self) -> usize {
        self.threads
    }

    /// How many batches can run at a time.
    pub(super) fn parallel(&self) -> usize {
        self.slots.len()
    }

    /// Images per run of the engine, for images of `side` pixels.
    pub(super) fn batch(&self, side: usize) -> usize {
        match self.engine {
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
        &self.engine
    }

    /// The engine and its execution providers, in words.
    pub(super) fn runs_on(&self) -> String {
        let engine = self.engine.to_string();
        let providers = self.providers.iter();
        let providers = providers.map(|provider| provider.in_words(self.half_precision));
        providers.fold(engine, |text, provider| format!("{text} with {provider}"))
    }

    /// Runs `images` on a free session and hands the outputs to `read`.
    pub(super) fn run<T>(
        &self,
        images: &Part<'_>,
        read: impl FnOnce(&dyn Found) -> Result<T>,
    ) -> Result<T> {
        let place = self.places.take();
        // Nobody else has the place. A session keeps no state between runs, so one that saw a panic is as good as before.
        let session = self.session(place.number())?.lock();
        let mut session = session.unwrap_or_else(PoisonError::into_inner);
        match &mut *session {
            #[cfg(feature = "onnxruntime")]
            Loaded::OnnxRuntime(network) => {
                read(&network.run(images).map_err(|e| self.failed(RUN, e))?)
            }
            #[cfg(feature = "tract")]
            Loaded::Tract(network) => read(&network.run(images).map_err(|e| self.failed(RUN, e))?),
        }
    }

    fn session(&self, slot: usize) -> Result<&Mutex<Loaded>> {
        let slot = &self.slots[slot];
        if let Some(session) = slot.get() {
            return Ok(session);
        }
        // Invariant: the original is dropped only when every slot is filled.
        let Some(original) = self.original().clone() else {
            return Err(Error::Engine("the network is not loaded".to_owned()));
        };
        let loaded = original.load(&self.input);
        let loaded = loaded.map_err(|error| self.failed(LOAD, error))?;
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

    /// An [`Error::Run`] in the engine's words.
    pub(super) fn failed(&self, action: &'static str, error: impl std::fmt::Display) -> Error {
        failed(&self.engine, action, error)
    }
}

fn failed(engine: &Engine, action: &'static str, error: impl std::fmt::Display) -> Error {
    Error::Run {
        engine: engine.to_string(),
        action,
        reason: error.to_string(),
    }
}
