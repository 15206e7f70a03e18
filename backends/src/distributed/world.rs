//! All ranks of a run: the store they meet in, their groups, and the first failure.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::address;
use super::ffi::{self, Group, Here, Store, Transport};
use super::meeting::Meeting;
use super::post_mortem;
use super::watch::{End, MAKING, MARGIN, Place, Watch};
use crate::Rendezvous;

/// Between two looks at the store while waiting for others.
const GLANCE: Duration = Duration::from_millis(50);
/// Names network interfaces for gloo, as in PyTorch.
const INTERFACES: &str = "GLOO_SOCKET_IFNAME";
/// How long a rank waits for the others' good-bye, where it must.
pub(super) const FAREWELL: Duration = Duration::from_secs(5);

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
    /// Where gloo's connections come to, if that could be told.
    address: Option<String>,
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
            ..
        } = *rendezvous;
        let serves = rank == 0 && !rendezvous.agent_store;
        let place = Place {
            rank,
            size,
            serves,
            rank_0_serves: !rendezvous.agent_store,
            timeout,
        };
        if transport != Transport::Gloo {
            ffi::leave_failures_to_us()?;
        }
        let watch = Watch::start(place, end)?;
        let mut meeting = Meeting::of(rendezvous);
        let (store, address) = meeting.meet(place)?;
        watch.all_have_met(transport, move |timeout| meeting.again(timeout))?;
        Ok(Arc::new(Self {
            rank,
            size,
            local_size: rendezvous.local_world_size,
            transport,
            serves,
            rank_0_serves: place.rank_0_serves,
            timeout,
            address,
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
        let interfaces = address::interfaces(std::env::var(INTERFACES).ok());
        let here = match &interfaces {
            Some(names) => Here::Interfaces(names),
            None => self.address.as_deref().map_or(Here::Unknown, Here::Address),
        };
        let busy = self.watch.begin(MAKING);
        let made = Group::new(
            &mut state.store,
            &name,
            (rank, size),
            self.timeout + MARGIN,
            self.transport,
            here,
        );
        drop(busy);
        let number = state.groups.len();
        let made = made.and_then(|group| {
            // Before anything else can fail: what is there is aborted then.
            state.groups.push(group);
            self.observe(&state.groups[number])
        });
        match made {
            Ok(()) => Ok(number),
            Err(reason) => {
                let reason = match self.transport {
                    Transport::Gloo => of_gloo(&reason, here),
                    Transport::Nccl(_) => reason,
                };
                Err(self.fail(&mut state, MAKING, &reason))
            }
        }
    }

    /// NCCL's operations return before they are done: whether one has failed must be asked for.
    fn observe(&self, group: &Group) -> ffi::Result<()> {
        if self.transport == Transport::Gloo {
            return Ok(());
        }
        let link = group.link()?;
        // Where no answer comes, the watchers wait for the timeout.
        let is_lost = move || link.is_lost().unwrap_or(false);
        self.watch.observe(Box::new(is_lost))
    }

    /// Ends all groups: ranks that wait for this one then fail, too.
    fn close(&self, state: &mut State) {
        self.watch.let_go();
        ffi::close(&mut state.groups);
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
        if self.watch.has_lost() {
            return Err(self.fail(&mut state, operation, "NCCL has lost a connection"));
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
        self.close(&mut state);
        post_mortem::linger(self, &mut state.store);
    }

    fn fail(&self, state: &mut State, operation: &str, reason: &str) -> String {
        self.watch.failing();
        // Closed first, so that the others notice, and say so.
        self.close(state);
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
        self.watch.let_go();
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if state.failure.is_some() {
            return;
        }
        if std::thread::panicking() {
            post_mortem::leave(self.rank, self.timeout, &mut state.store, "it panicked");
            ffi::close(&mut state.groups);
            return;
        }
        self.watch.parted();
        // Nothing is lost where the store cannot be reached any more.
        let _ = post_mortem::part(&mut state.store);
        let size = self.size;
        let all_done = |store: &mut Store, what: &str, wait: bool| {
            let mut done = store.add(what, 1);
            let began = Instant::now();
            while wait && done.as_ref().is_ok_and(|&done| done < size) && began.elapsed() < FAREWELL
            {
                std::thread::sleep(GLANCE);
                done = store.add(what, 0);
            }
            !wait || done.is_ok_and(|done| done >= size)
        };
        if self.transport != Transport::Gloo && all_done(&mut state.store, "done", true) {
            let _busy = self.watch.begin("parting");
            for group in &mut state.groups {
                // What is left is then ended as after a failure.
                let _ = group.shut_down();
            }
        }
        ffi::close(&mut state.groups);
        all_done(&mut state.store, "gone", self.serves);
    }
}

/// What libtorch says of a group that gloo could not make, with what can be done about it.
fn of_gloo(reason: &str, here: Here<'_>) -> String {
    let first = reason.lines().next().unwrap_or_default();
    let own = match here {
        Here::Interfaces(names) => format!("{INTERFACES} = \"{names}\" is set here"),
        Here::Address(address) => format!("this rank gave {address} for its own"),
        Here::Unknown => "this rank gave what its machine's name stands for".into(),
    };
    format!("{first}; {own}, and {INTERFACES} names the network interfaces to use instead")
}
