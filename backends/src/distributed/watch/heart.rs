//! The signs of life of all ranks, through the store.

use std::time::{Duration, Instant};

use super::Shared;
use super::evidence::Meeting;
use crate::distributed::ffi::{self, Store};
use crate::distributed::post_mortem::{self, patience};

/// Where the signs of life are, by rank.
const BEAT: &str = "beat/";

/// The first sign of life, by which a rank can be heard of.
pub(in crate::distributed) fn say_hello(store: &mut Store, rank: usize) -> ffi::Result<()> {
    store.set(&format!("{BEAT}{rank}"), "0 0 ")
}

/// Those that have not said it, apart from `own`.
pub(in crate::distributed) fn missing(
    store: &mut Store,
    own: usize,
    size: usize,
) -> ffi::Result<Vec<usize>> {
    let mut missing = Vec::new();
    for rank in (0..size).filter(|&rank| rank != own) {
        if store.get(&format!("{BEAT}{rank}"))?.is_none() {
            missing.push(rank);
        }
    }
    Ok(missing)
}

/// Beats until the watch ends, or the store is lost. `open` connects to it within a time.
pub(super) fn run(shared: &Shared, open: impl Fn(Duration) -> ffi::Result<Store>) {
    let patience = patience(shared.place.timeout);
    let mut store = None;
    for beat in 1_u64.. {
        if shared.seen().ended {
            return;
        }
        let began = Instant::now();
        let connected = match store.take() {
            Some(store) => Ok(store),
            None => open(patience),
        };
        let mut talked = connected.and_then(|store| talk(shared, store, beat));
        // A rank 0 that does not answer in time may be stopped, and go on: the guard knows how long it may be. It is gone where
        // its connections are.
        let hangs = shared.place.rank_0_serves && began.elapsed() >= patience;
        if talked.is_err() && !hangs && !shared.seen().ended {
            // A connection may break though its ends are well.
            talked = open(patience).and_then(|store| talk(shared, store, beat));
            if talked.is_err() {
                shared.seen().meeting = Meeting::Gone;
                return;
            }
        }
        store = talked.ok();
        let seen = shared.seen();
        if !seen.ended {
            let pause = shared.news.wait_timeout(seen, shared.beat());
            drop(pause);
        }
    }
}

/// Says that this rank lives, and what it has found; hears the same of the others.
fn talk(shared: &Shared, mut store: Store, beat: u64) -> ffi::Result<Store> {
    let place = shared.place;
    let (sign, found) = {
        let seen = shared.seen();
        let sign = format!("{beat} {} {}", seen.number, seen.operation);
        (sign, seen.found.as_ref().map(|found| found.blame.clone()))
    };
    store.set(&format!("{BEAT}{}", place.rank), &sign)?;
    let told = post_mortem::told(&mut store)?;
    if let (Some(found), None) = (&found, &told) {
        post_mortem::tell(&mut store, found)?;
    }
    let parted = post_mortem::have_parted(&mut store)?;
    let signs = store.get_all(BEAT, place.size)?;
    let mut seen = shared.seen();
    let now = seen.now;
    for (heard, sign) in seen.heard.iter_mut().zip(&signs) {
        heard.update(sign, now);
    }
    seen.meeting = Meeting::Answered(now);
    seen.parted |= parted;
    if seen.told.is_none() {
        seen.told = told;
    }
    Ok(store)
}
