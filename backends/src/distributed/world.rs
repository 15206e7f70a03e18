//! All ranks of a run: the store they meet in, their groups, and the first failure.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::ffi::{self, Group, Store, Transport};
use super::post_mortem;
use super::watch::{self, End, GRACE, MARGIN, Place, Watch};
use crate::Rendezvous;

/// Between two looks at the store while waiting for others.
const GLANCE: Duration = Duration::from_millis(50);
/// How long a rank waits for the others' good-bye, where it must.
const FAREWELL: Duration = Duration::from_secs(5);

const MAKING: &str = "making a group of ranks";

/// What this process knows of the run.
#[derive(Debug)]
pub(super) struct World {
    pub(super) rank: usize,
    pub(super) size: usize,
    pub(super) local_size: usize,
    pub(super) transport: Transport,
    /// Whether this process keeps the store: it must be the last to go.
    pub(super) serves: bool,
    /// Whether rank 0 keeps the store, and not the launcher.
    pub(super) rank_0_serves: bool,
    pub(super) timeout: Duration,
    pub(super) watch: Watch,
    state: Mutex<State>,
}

/// What changes. One lock for all, so that an operation is never overtaken.
#[derive(Debug)]
pub(super) struct State {
    pub(super) store: Store,
    /// Groups by number; empty after a failure.
    groups: Vec<Group>,
    made: usize,
    pub(super) failure: Option<String>,
}

impl World {
    /// Meets all ranks in the store. `end` ends the process where it does not end by itself.
    pub(super) fn join(
        rendezvous: &Rendezvous,
        transport: Transport,
        timeout: Duration,
        end: End,
    ) -> ffi::Result<Arc<Self>> {
        let Rendezvous {
            rank,
            world_size: size,
            ref master_addr,
            master_port: port,
            ..
        } = *rendezvous;
        let serves = rank == 0 && !rendezvous.agent_store;
        let prefix = format!("selfcls/{}", rendezvous.attempt);
        let place = Place {
            rank,
            size,
            serves,
            rank_0_serves: !rendezvous.agent_store,
            timeout,
        };
        let watch = Watch::start(place, end)?;
        let began = Instant::now();
        let store = Store::open(master_addr, port, serves, timeout, &prefix);
        let mut store = store.map_err(|reason| {
            let seconds = timeout.as_secs_f64();
            if serves {
                format!(
                    "rank 0 cannot open the meeting point {master_addr}:{port}: {reason}; give the launcher another port"
                )
            } else {
                let keeper = match rendezvous.agent_store {
                    true => "the launcher",
                    false => "rank 0",
                };
                format!(
                    "rank {rank} of {size} did not reach {keeper} at {master_addr}:{port} within {seconds} s: {reason}"
                )
            }
        })?;
        // The rank that keeps the store is the last to give up, so that the others can say who is missing.
        let patience = if serves { timeout + GRACE } else { timeout };
        let missing = wait_for_all(&mut store, rank, size, began + patience);
        if !missing.is_empty() {
            return Err(format!(
                "{} of {size} did not come to {master_addr}:{port} within {} s: look at what the launcher says of {}",
                post_mortem::ranks(&missing),
                timeout.as_secs_f64(),
                if missing.len() == 1 { "it" } else { "them" },
            ));
        }
        let address = master_addr.clone();
        watch.all_have_met(transport, move |timeout| {
            Store::open(&address, port, false, timeout, &prefix)
        })?;
        Ok(Arc::new(Self {
            rank,
            size,
            local_size: rendezvous.local_world_size,
            transport,
            serves,
            rank_0_serves: place.rank_0_serves,
            timeout,
            watch,
            state: Mutex::new(State {
                store,
                groups: Vec::new(),
                made: 0,
                failure: None,
            }),
        }))
    }

    /// Makes a group of this rank and others, in which it is `rank` of `size`; `first` is its first rank.
    /// Returns its number.
    pub(super) fn group(&self, first: usize, rank: usize, size: usize) -> ffi::Result<usize> {
        let mut state = self.state();
        if let Some(failure) = &state.failure {
            return Err(failure.clone());
        }
        // Ranks make their groups in the same order, so the number tells them apart.
        state.made += 1;
        let name = format!("group/{}/{first}", state.made);
        let interface = std::env::var("GLOO_SOCKET_IFNAME").ok();
        let busy = self.watch.begin(MAKING);
        let made = Group::new(
            &mut state.store,
            &name,
            (rank, size),
            self.timeout + MARGIN,
            self.transport,
            interface.as_deref(),
        );
        drop(busy);
        match made {
            Ok(group) => {
                state.groups.push(group);
                Ok(state.groups.len() - 1)
            }
            Err(reason) => Err(self.fail(&mut state, MAKING, &reason)),
        }
    }

    /// Does `work`, called `operation` in messages, in the group of this number. After a failure, its own or
    /// an earlier one, there are no groups any more.
    pub(super) fn with_group<T>(
        &self,
        number: usize,
        operation: &'static str,
        work: impl FnOnce(&mut Group) -> ffi::Result<T>,
    ) -> ffi::Result<T> {
        let mut state = self.state();
        if let Some(failure) = &state.failure {
            return Err(failure.clone());
        }
        if self.watch.found().is_some() {
            return Err(self.fail(&mut state, operation, "heard of before it began"));
        }
        let Some(group) = state.groups.get_mut(number) else {
            return Err(format!("{operation}: the ranks have parted"));
        };
        let busy = self.watch.begin(operation);
        let done = work(group);
        drop(busy);
        done.map_err(|reason| self.fail(&mut state, operation, &reason))
    }

    /// The first failure.
    pub(super) fn failure(&self) -> Option<String> {
        self.state().failure.clone()
    }

    /// Tells the others why this rank ends, unless they know already that something is wrong.
    pub(super) fn leave(&self, reason: &str) {
        let mut state = self.state();
        if state.failure.is_some() {
            return;
        }
        self.watch.failing();
        state.failure = Some(format!("this rank has left: {reason}"));
        post_mortem::leave(self.rank, self.timeout, &mut state.store, reason);
        // Closed after the reason was written: who sees the one finds the other.
        state.groups.clear();
        post_mortem::linger(self, &mut state.store);
    }

    fn fail(&self, state: &mut State, operation: &str, reason: &str) -> String {
        self.watch.failing();
        // Closed first: ranks that wait for this one then fail, too, and say so.
        state.groups.clear();
        let failure = post_mortem::explain(self, &mut state.store, operation, reason);
        state.failure = Some(failure.clone());
        failure
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for World {
    /// The store goes with the rank that keeps it, so that one waits for the others to be done. So do all where what
    /// they have sent may still be under way on GPUs.
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if state.failure.is_some() {
            return;
        }
        if std::thread::panicking() {
            post_mortem::leave(self.rank, self.timeout, &mut state.store, "it panicked");
            state.groups.clear();
            return;
        }
        self.watch.parted();
        // Nothing is lost where the store cannot be reached any more.
        let _ = post_mortem::part(&mut state.store);
        let all_done = |store: &mut Store, what: &str, wait: bool| {
            let _ = store.set(&format!("{what}/{}", self.rank), "");
            let began = Instant::now();
            let mut there = |rank: usize| loop {
                match store.get(&format!("{what}/{rank}")) {
                    Ok(Some(_)) => return true,
                    Ok(None) if began.elapsed() < FAREWELL => std::thread::sleep(GLANCE),
                    _ => return false,
                }
            };
            !wait || (0..self.size).all(&mut there)
        };
        if self.transport != Transport::Gloo && all_done(&mut state.store, "done", true) {
            let _busy = self.watch.begin("parting");
            for group in &mut state.groups {
                // What is left is then freed as after a failure.
                let _ = group.shut_down();
            }
        }
        state.groups.clear();
        all_done(&mut state.store, "gone", self.serves);
    }
}

/// Says that `rank` is there, and waits for all others. Returns those that were not there at the end, or when
/// the store was last seen.
fn wait_for_all(store: &mut Store, rank: usize, size: usize, end: Instant) -> Vec<usize> {
    let mut missing: Vec<usize> = (0..size).filter(|&other| other != rank).collect();
    let mut reached = watch::say_hello(store, rank).is_ok() && store.set(&here(rank), "").is_ok();
    while reached && !missing.is_empty() && Instant::now() < end {
        missing.retain(|&other| match store.get(&here(other)) {
            Ok(found) => found.is_none(),
            Err(_) => {
                reached = false;
                true
            }
        });
        std::thread::sleep(GLANCE);
    }
    missing
}

fn here(rank: usize) -> String {
    format!("here/{rank}")
}
