//! Where the ranks of a run meet, and nobody else.
//!
//! Two runs may come to one place: of those that find the same `MASTER_PORT` on a machine only one can keep its store there,
//! and ranks of the others would find it. So the store says whose it is, as far as launchers tell runs
//! apart, and a rank's place is taken by one process only. Whoever comes too much leaves, and touches nothing else.

use std::time::{Duration, Instant};

use super::address::{self, Way};
use super::ffi::{self, Store};
use super::post_mortem;
use super::watch::{self, GRACE, Place};
use crate::{Launcher, Rendezvous};

/// Between two looks at who has come.
const GLANCE: Duration = Duration::from_millis(50);

/// Before all keys of this program.
const PROGRAM: &str = "selfcls";
/// Where the rank that keeps the store says whose it is.
const KEPT_FOR: &str = "kept for";
/// How many ranks have come.
const ARRIVED: &str = "arrived";
/// An address of the store's machine, as another machine sees it.
const REACHED_AT: &str = "reached at";

/// A place and a run.
#[derive(Debug, Clone)]
pub(super) struct Meeting {
    host: String,
    port: u16,
    /// The run and how often it was started before: they come before all its keys.
    run: String,
    /// Who keeps the store.
    keeper: &'static str,
    /// What to do where another run is there.
    elsewhere: &'static str,
}

impl Meeting {
    pub(super) fn of(rendezvous: &Rendezvous) -> Self {
        Self {
            host: rendezvous.master_addr.clone(),
            port: rendezvous.master_port,
            run: format!("{}/{}", rendezvous.run, rendezvous.attempt),
            keeper: match rendezvous.agent_store {
                true => "the launcher",
                false => "rank 0",
            },
            elsewhere: match rendezvous.launcher {
                Launcher::Selfcls => "give `launch` another --master-port",
                // Without a name the variables were set by hand.
                Launcher::Torchrun if !rendezvous.run.is_empty() => {
                    "give torchrun another --master-port"
                }
                _ => "choose another MASTER_PORT",
            },
        }
    }

    /// Connects to the store, where this rank has been before.
    pub(super) fn again(&self, timeout: Duration) -> ffi::Result<Store> {
        Store::open(&self.host, self.port, false, timeout, PROGRAM)?.below(&self.run)
    }

    /// Opens the store, or connects to it, and waits until all ranks have done so. Returns it, and the address at which
    /// the others reach this rank, where that can be told.
    ///
    /// # Errors
    /// If the store cannot be opened or reached, another run is there, or ranks do not come within the timeout.
    pub(super) fn meet(&self, place: Place) -> ffi::Result<(Store, Option<String>)> {
        let Self { host, port, .. } = self;
        let Place {
            rank,
            size,
            serves,
            timeout,
            ..
        } = place;
        let began = Instant::now();
        let seconds = timeout.as_secs_f64();
        let not_reached = |reason: String| {
            let keeper = self.keeper;
            format!(
                "rank {rank} of {size} did not reach {keeper} at {host}:{port} within {seconds} s: {reason}"
            )
        };
        let opened = Store::open(host, *port, serves, timeout, PROGRAM);
        let mut common = opened.map_err(|reason| match serves {
            true => format!(
                "rank 0 cannot open the meeting point {host}:{port}: {reason}; {}",
                self.elsewhere
            ),
            false => not_reached(reason),
        })?;
        let mut store = common.below(&self.run)?;
        if serves {
            common.set(KEPT_FOR, &self.run)?;
        } else if let Some(stranger) = self.stranger(&mut common) {
            return Err(stranger);
        }
        let others = store
            .add(&format!("here/{rank}"), 1)
            .map_err(&not_reached)?
            > 1;
        if others {
            return Err(self.of_others(&format!("it has a rank {rank} already")));
        }
        let way = Way::to(host, *port, timeout);
        let arrived = watch::say_hello(&mut store, rank)
            .and_then(|()| match &way {
                Some(way) if way.is_between_machines() => store.set(REACHED_AT, &way.other()),
                _ => Ok(()),
            })
            .and_then(|()| store.add(ARRIVED, 1));
        arrived.map_err(&not_reached)?;
        // The rank that keeps the store is the last to give up, so that the others can say who is missing.
        let patience = if serves { timeout + GRACE } else { timeout };
        let missing = loop {
            match store.add(ARRIVED, 0) {
                Ok(count) if count >= size => break Vec::new(),
                Ok(_) if began.elapsed() < patience => {}
                _ => break watch::missing(&mut store, rank, size),
            }
            // Rank 0 may have been slower to say whose the store is.
            if let Some(stranger) = self.stranger(&mut common) {
                return Err(stranger);
            }
            std::thread::sleep(GLANCE);
        };
        if missing.is_empty() {
            let reached_at = store.get(REACHED_AT).ok().flatten();
            return Ok((store, address::own(way.as_ref(), reached_at.as_deref())));
        }
        Err(format!(
            "{} of {size} did not come to {host}:{port} within {seconds} s: look at what the launcher says of {}",
            post_mortem::ranks(&missing),
            if missing.len() == 1 { "it" } else { "them" },
        ))
    }

    /// What is wrong where the store is another run's.
    fn stranger(&self, common: &mut Store) -> Option<String> {
        let kept_for = common.get(KEPT_FOR).ok().flatten()?;
        let name = |run: &str| match run.rsplit_once('/') {
            Some(("", attempt)) => format!("start {attempt} of a run without a name"),
            Some((name, attempt)) => format!("start {attempt} of \"{name}\""),
            None => run.to_owned(),
        };
        let what = || format!("{}, and this is {}", name(&kept_for), name(&self.run));
        (kept_for != self.run).then(|| self.of_others(&what()))
    }

    fn of_others(&self, what: &str) -> String {
        format!(
            "another run meets at {}:{} ({what}); {}",
            self.host, self.port, self.elsewhere
        )
    }
}
