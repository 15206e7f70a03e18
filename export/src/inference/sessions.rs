//! The network loaded into the engine, as often as the engine needs to use all threads.
//!
//! ONNX Runtime spreads one image over its own threads: one session. tract runs an image on one thread:
//! up to `threads` sessions, loaded when a batch or concurrent callers first have use for them.

use super::engine::{Engine, Selected};
use crate::{Error, Result, names};
use ort::session::builder::GraphOptimizationLevel;
use ort::session::{Session, SessionOutputs};
use ort::value::TensorRef;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};

/// The loaded network.
pub(super) struct Sessions {
    selected: Selected,
    threads: usize,
    /// The file, for loading it again; kept only while there are sessions left to load.
    file: Option<Vec<u8>>,
    /// Each slot is filled on first use; the first one at once.
    slots: Vec<OnceLock<Mutex<Session>>>,
}

impl Sessions {
    /// Loads `file` once.
    pub(super) fn load(selected: Selected, file: Vec<u8>, threads: usize) -> Result<Self> {
        let copies = match selected.engine {
            Engine::Tract => threads,
            Engine::OnnxRuntime(_) => 1,
        };
        let mut sessions = Self {
            selected,
            threads,
            file: Some(file),
            slots: (0..copies).map(|_| OnceLock::new()).collect(),
        };
        sessions.session(0)?;
        if copies == 1 {
            sessions.file = None;
        }
        Ok(sessions)
    }

    /// How many batches can run at a time.
    pub(super) fn parallel(&self) -> usize {
        self.slots.len()
    }

    /// The engine that runs the network.
    pub(super) fn engine(&self) -> &Engine {
        &self.selected.engine
    }

    /// Runs `images`, `[batch, 3, side, side]`, on a free session and hands the outputs to `read`.
    pub(super) fn run<T>(
        &self,
        images: &[f32],
        side: usize,
        read: impl FnOnce(&SessionOutputs<'_>) -> Result<T>,
    ) -> Result<T> {
        let batch = images.len() / (3 * side * side);
        let mut session = self.free_session()?;
        let failed = |error: ort::Error| self.failed("run the network", error);
        let input = TensorRef::from_array_view(([batch, 3, side, side], images)).map_err(failed)?;
        let outputs = session
            .run(ort::inputs![names::IMAGE => input])
            .map_err(failed)?;
        read(&outputs)
    }

    /// A session that nobody uses, loading one if there is room; else waits for the first.
    fn free_session(&self) -> Result<MutexGuard<'_, Session>> {
        for slot in 0..self.slots.len() {
            match self.session(slot)?.try_lock() {
                Ok(session) => return Ok(session),
                // A session keeps no state between runs, so one that saw a panic is as good as before.
                Err(TryLockError::Poisoned(poisoned)) => return Ok(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) => {}
            }
        }
        let first = self.session(0)?;
        Ok(first.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn session(&self, slot: usize) -> Result<&Mutex<Session>> {
        let slot = &self.slots[slot];
        if let Some(session) = slot.get() {
            return Ok(session);
        }
        let Some(file) = &self.file else {
            // Invariant: the file is dropped only when every slot is filled.
            return Err(Error::Engine("the network is not loaded".to_owned()));
        };
        let session = self
            .create(file)
            .map_err(|error| self.failed("load the network", error))?;
        // Two callers may have loaded at once; the first to arrive stays.
        Ok(slot.get_or_init(|| Mutex::new(session)))
    }

    fn create(&self, file: &[u8]) -> ort::Result<Session> {
        let builder = Session::builder(&self.selected.environment)?
            .with_optimization_level(GraphOptimizationLevel::All)?;
        let mut builder = match self.selected.engine {
            Engine::OnnxRuntime(_) => builder.with_intra_threads(self.threads)?,
            // Has no such option.
            Engine::Tract => builder,
        };
        builder.commit_from_memory(file)
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
