//! Where the ranks of a run meet, and nobody else.
//!
//! Two runs may come to one place: of those that find the same `MASTER_PORT` on a machine only one can keep its store there,
//! and ranks of the others would find it. So the store says whose it is, as far as launchers tell runs
//! apart, and a rank's place is taken by one process only. Whoever comes too much leaves, and touches nothing else. The
//! store of a launcher is for its own ranks, and nobody comes too much there; but earlier starts of them have been there.
//!
//! Whoever waits in vain tells the others, so that all name the same ranks.

use std::time::{Duration, Instant};

use super::address::Way;
use super::arrivals::{Arrivals, GLANCE, Seen};
use super::ffi::{self, Store};
use super::post_mortem;
use super::watch::{GRACE, Place};
use crate::{Launcher, Rendezvous};

/// Before all keys of this program.
const PROGRAM: &str = "selfcls";
/// Where the rank that keeps the store says whose it is.
const KEPT_FOR: &str = "kept for";
/// In place of the number of a start.
const ANY: &str = "any";

/// A place and a run.
#[derive(Debug, Clone)]
pub(super) struct Meeting {
    host: String,
    port: u16,
    /// How often the run was started before, where all ranks agree on that, and the run; behind these, once all have met in
    /// a launcher's store, the name of the start. They come before all its keys.
    run: String,
    /// The launcher keeps the store, and not rank 0.
    agent_store: bool,
    /// What to do where another run is there.
    elsewhere: &'static str,
}

impl Meeting {
    pub(super) fn of(rendezvous: &Rendezvous) -> Self {
        let Rendezvous {
            ref run, attempt, ..
        } = *rendezvous;
        Self {
            host: rendezvous.master_addr.clone(),
            port: rendezvous.master_port,
            run: match rendezvous.launcher {
                // Each of its agents counts for itself.
                Launcher::Torchrun => format!("{ANY}/{run}"),
                _ => format!("{attempt}/{run}"),
            },
            agent_store: rendezvous.agent_store,
            elsewhere: match rendezvous.launcher {
                Launcher::Selfcls => "give `launch` another --master-port",
                // Without a name the variables were set by hand.
                Launcher::Torchrun if !run.is_empty() => "give torchrun another --master-port",
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
    /// If the store cannot be opened or reached, or goes, another run is there, or ranks do not come within the timeout.
    pub(super) fn meet(&mut self, place: Place) -> ffi::Result<(Store, Option<String>)> {
        let began = Instant::now();
        let mut common = self.open(place)?;
        let mut arrivals = self.enter(&mut common, place)?;
        // The rank that keeps the store is the last to give up, so that the others can say who is missing.
        let patience = match place.serves {
            true => place.timeout + GRACE,
            false => place.timeout,
        };
        loop {
            let seen = arrivals.look();
            let blame = match seen.map_err(|reason| self.gone(place, arrivals.count(), &reason))? {
                Seen::All => break,
                Seen::Told(blame) => Some(blame),
                Seen::Some if began.elapsed() < patience => None,
                Seen::Some => {
                    let missing = arrivals.missing();
                    let missing =
                        missing.map_err(|reason| self.gone(place, arrivals.count(), &reason))?;
                    if missing.is_empty() {
                        // The last has just come.
                        break;
                    }
                    Some(self.in_vain(place, &missing))
                }
            };
            if let Some(blame) = blame {
                arrivals.give_up(&blame);
                return Err(blame);
            }
            // Rank 0 may have been slower to say whose the store is.
            if let Some(stranger) = self.stranger(&mut common) {
                return Err(stranger);
            }
            std::thread::sleep(GLANCE);
        }
        let met = arrivals.all();
        let (store, start, address) = met.ok_or("all ranks have come, and none knows where to")?;
        if let Some(start) = start {
            self.run = format!("{}/{start}", self.run);
        }
        Ok((store, address))
    }

    /// Opens the store, or connects to it.
    fn open(&self, place: Place) -> ffi::Result<Store> {
        let Self { host, port, .. } = self;
        let Place {
            rank,
            size,
            serves,
            timeout,
            ..
        } = place;
        let opened = Store::open(host, *port, serves, timeout, PROGRAM);
        opened.map_err(|reason| match serves {
            true => format!(
                "rank 0 cannot open the meeting point {host}:{port}: {reason}; {}",
                self.elsewhere
            ),
            false => format!(
                "rank {rank} of {size} did not reach {} at {host}:{port} within {} s: {reason}",
                self.keeper(),
                timeout.as_secs_f64()
            ),
        })
    }

    /// Takes this rank's place among the others, unless it is another run's.
    fn enter(&self, common: &mut Store, place: Place) -> ffi::Result<Arrivals> {
        let gone = |reason: String| self.gone(place, None, &reason);
        if place.serves {
            common.set(KEPT_FOR, &self.run).map_err(gone)?;
        } else if let Some(stranger) = self.stranger(common) {
            return Err(stranger);
        }
        let mut run = common.below(&self.run)?;
        let rank = place.rank;
        if !self.agent_store && run.add(&format!("here/{rank}"), 1).map_err(gone)? > 1 {
            return Err(self.of_others(&format!("it has a rank {rank} already")));
        }
        let way = Way::to(&self.host, self.port, place.timeout);
        Arrivals::new(place, way, run, self.agent_store).map_err(gone)
    }

    /// What is wrong where the store is another run's.
    fn stranger(&self, common: &mut Store) -> Option<String> {
        let kept_for = common.get(KEPT_FOR).ok().flatten()?;
        let name = |run: &str| {
            let (attempt, name) = run.split_once('/').unwrap_or((ANY, run));
            let name = match name {
                "" => "a run without a name".to_owned(),
                name => format!("\"{name}\""),
            };
            match attempt {
                ANY => name,
                attempt => format!("start {attempt} of {name}"),
            }
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

    /// What is wrong where ranks do not come.
    fn in_vain(&self, place: Place, missing: &[usize]) -> String {
        format!(
            "{} of {} did not come to {}:{} within {} s: look at what the launcher says of {}",
            post_mortem::ranks(missing),
            place.size,
            self.host,
            self.port,
            place.timeout.as_secs_f64(),
            if missing.len() == 1 { "it" } else { "them" },
        )
    }

    /// What is wrong where the store goes when `count` ranks have come, if that can be told.
    fn gone(&self, place: Place, count: Option<usize>, reason: &str) -> String {
        let had = match count {
            Some(count) => format!("; {count} of {} had", place.size),
            None => String::new(),
        };
        format!(
            "{} at {}:{} is gone before all had come{had} ({})",
            self.keeper(),
            self.host,
            self.port,
            reason.lines().next().unwrap_or_default().trim_end()
        )
    }

    fn keeper(&self) -> &'static str {
        match self.agent_store {
            true => "the launcher",
            false => "rank 0",
        }
    }
}
