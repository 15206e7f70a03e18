//! Between decoders and runs: pictures are laid out run by run as they come, and each run is taken when it is full.

use crate::Result;
use crate::inference::pixels::Input;
use crate::inference::tray::Tray;
use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Pictures of type `T` on their way to the network.
pub(super) struct Belt<T> {
    /// Pictures of a run.
    run: usize,
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    /// By number.
    loads: BTreeMap<usize, Load<T>>,
    /// Used before, and free.
    trays: Vec<Arc<Tray>>,
    /// Those who still bring pictures.
    decoders: usize,
    closed: bool,
}

/// The pictures of one run.
pub(super) struct Load<T> {
    /// Its number, from 0.
    pub(super) number: usize,
    pub(super) tray: Arc<Tray>,
    /// By place on the tray: the picture, and whether it lies there.
    pub(super) pictures: BTreeMap<usize, (T, Result<()>)>,
}

impl<T> Belt<T> {
    /// For runs of `run` pictures, which so many `decoders` bring.
    pub(super) fn new(run: usize, decoders: usize) -> Self {
        Self {
            run,
            state: Mutex::new(State {
                loads: BTreeMap::new(),
                trays: Vec::new(),
                decoders,
                closed: false,
            }),
            changed: Condvar::new(),
        }
    }

    /// Where picture `number` belongs: the tray, and the place there.
    pub(super) fn place(&self, number: usize, input: &Input) -> (Arc<Tray>, usize) {
        let mut state = self.state();
        let tray = Arc::clone(&state.load(number / self.run, input, self.run).tray);
        (tray, number % self.run)
    }

    /// Picture `number` is in its place, or cannot be.
    pub(super) fn put(&self, number: usize, input: &Input, picture: T, laid: Result<()>) {
        let mut state = self.state();
        let load = state.load(number / self.run, input, self.run);
        load.pictures.insert(number % self.run, (picture, laid));
        if load.pictures.len() == self.run {
            self.changed.notify_one();
        }
    }

    /// The next run, waited for until it is full or nobody brings more; none at the end.
    pub(super) fn next(&self) -> Option<Load<T>> {
        let mut state = self.state();
        loop {
            if state.closed {
                return None;
            }
            let mut loads = state.loads.iter();
            let full = loads.find(|(_, load)| load.pictures.len() == self.run);
            if let Some(number) = full.map(|(&number, _)| number) {
                return state.loads.remove(&number);
            }
            if state.decoders == 0 {
                return state.loads.pop_first().map(|(_, load)| load);
            }
            let waited = self.changed.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes a tray back whose images have been run.
    pub(super) fn give_back(&self, tray: Arc<Tray>) {
        self.state().trays.push(tray);
    }

    /// One who brought pictures brings no more.
    pub(super) fn leave(&self) {
        self.state().decoders -= 1;
        self.changed.notify_all();
    }

    /// Nobody wants answers any more.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        // Nothing in here calls what is not ours, so nothing is half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> State<T> {
    fn load(&mut self, number: usize, input: &Input, places: usize) -> &mut Load<T> {
        self.loads.entry(number).or_insert_with(|| Load {
            number,
            tray: self
                .trays
                .pop()
                .unwrap_or_else(|| Arc::new(Tray::new(input, places))),
            pictures: BTreeMap::new(),
        })
    }
}
