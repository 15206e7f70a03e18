//! Signals to a launch, which go on to its ranks.

use crate::signals::{self, Request};
use std::time::Instant;

/// Listens from its making on, through all attempts.
#[cfg(unix)]
pub(super) struct Signals {
    heard: Option<signal_hook::iterator::Signals>,
    first: Option<(Request, Instant)>,
}

#[cfg(unix)]
impl Signals {
    pub(super) fn listen() -> Self {
        Self {
            // It fails for signals that cannot be caught only, and these can.
            heard: signal_hook::iterator::Signals::new(signals::heard()).ok(),
            first: None,
        }
    }

    /// Those that have come since the last call.
    pub(super) fn hear(&mut self) -> Vec<nix::sys::signal::Signal> {
        use nix::sys::signal::Signal;
        let numbers = self.heard.as_mut().map(|heard| heard.pending());
        let known = |number| Signal::try_from(number).ok();
        let signals: Vec<Signal> = numbers.into_iter().flatten().filter_map(known).collect();
        if let Some(first) = signals.first() {
            let request = Request::by(*first as i32);
            self.first.get_or_insert((request, Instant::now()));
        }
        signals
    }

    /// What the first of all that were heard asks for, and when that was.
    pub(super) fn request(&self) -> Option<(Request, Instant)> {
        self.first
    }
}

/// Ctrl-C reaches every process of a console.
#[cfg(not(unix))]
pub(super) struct Signals;

#[cfg(not(unix))]
impl Signals {
    pub(super) fn listen() -> Self {
        let _ = ctrlc::set_handler(|| ());
        Self
    }

    pub(super) fn hear(&mut self) {}

    pub(super) fn request(&self) -> Option<(Request, Instant)> {
        None
    }
}
