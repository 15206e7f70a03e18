//! Watching over a rank from beside: whatever its training does, or waits for in vain, it ends in time.
//!
//! An operation on GPUs returns when it has been handed over, and what waits for its result cannot be called back; nor
//! can a rank that computes for long, or makes a communicator, hear of another's end. So each rank has
//! threads of its own for that, the same with every backend:
//!
//! - the `heart` talks to the others through the store, by a connection of its own: it says again and again that this
//!   rank lives and in which operation it is, and hears the same of the others, and what somebody has found to be wrong;
//! - the `gpu`, where there is one, marks what the device has been given, and sees when that is done;
//! - `links` asks NCCL whether it has lost a connection;
//! - the `guard` judges by what these have written down, and waits for nothing. When something is wrong it gives
//!   the training a moment to end by itself, and then ends the process.

mod evidence;
mod gpu;
mod heart;
mod links;

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;
use std::time::{Duration, Instant};

use super::ffi::{self, Store, Transport};
use super::post_mortem::patience;
use evidence::{Evidence, Heard, Meeting};
pub(super) use heart::{missing, say_hello};
use links::Link;

/// Between two looks of the guard.
const TICK: Duration = Duration::from_millis(100);
/// What counts of the time between two looks. If it was more, this process stood still, and the others perhaps with it.
const LONGEST_TICK: Duration = Duration::from_secs(1);
/// Between two beats of the heart, at most: a rank's are told to all, so not too often.
const LONGEST_BEAT: Duration = Duration::from_secs(2);
/// How old a sign of life may always be that is called fresh: threads of a busy machine run late.
const FRESH: Duration = Duration::from_secs(3);
/// How much longer than the others the rank that keeps the store waits, so that they can say who is missing.
pub(super) const GRACE: Duration = Duration::from_secs(2);
/// How much longer gloo waits than the guard, which can say more, while it makes a group. In operations libtorch waits for as long
/// as the guard lets it.
pub(super) const MARGIN: Duration = Duration::from_secs(8);

/// What ranks do while gloo or NCCL connects them.
pub(super) const MAKING: &str = "making a group of ranks";

/// Called with the reason when the process has to end and has not done so by itself.
pub(crate) type End = Arc<dyn Fn(&str) + Send + Sync>;

/// Which rank is watched over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) rank: usize,
    pub(super) size: usize,
    /// Whether this process keeps the store.
    pub(super) serves: bool,
    /// Whether rank 0 keeps the store, and not the launcher.
    pub(super) rank_0_serves: bool,
    pub(super) timeout: Duration,
}

/// A rank's watchers.
pub(super) struct Watch {
    shared: Arc<Shared>,
}

struct Shared {
    place: Place,
    seen: Mutex<Seen>,
    links: Mutex<Vec<Link>>,
    /// Wakes the heart.
    news: Condvar,
}

/// What is known. Times are those of a clock that stands still while the process does.
#[derive(Debug)]
struct Seen {
    now: Duration,
    /// Operations begun.
    number: u64,
    /// The last of them.
    operation: &'static str,
    /// Since when it has been under way.
    busy: Option<Duration>,
    /// What the GPU has not done yet: since when, and in which operation it was given that.
    behind: Option<(Duration, &'static str)>,
    /// Since when a connection of NCCL's is known to be lost.
    lost: Option<Duration>,
    /// The last sign of life of each rank; empty until all have met.
    heard: Vec<Heard>,
    meeting: Meeting,
    /// What a rank has found to be wrong.
    told: Option<String>,
    found: Option<Found>,
    /// Since when the training itself has been ending, because of an error.
    failing: Option<Duration>,
    /// Whether a rank has come to the end of the run.
    parted: bool,
    /// Whether nobody is to be watched any more.
    ended: bool,
}

/// Why this rank ends.
#[derive(Debug, Clone)]
struct Found {
    at: Duration,
    operation: &'static str,
    blame: String,
}

/// An operation under way.
pub(super) struct Busy<'a>(&'a Shared);

impl Watch {
    /// Begins to watch over the rank at `place`, which is about to meet the others.
    pub(super) fn start(place: Place, end: End) -> ffi::Result<Self> {
        let seen = Seen {
            now: Duration::ZERO,
            number: 0,
            operation: "meeting the other ranks",
            busy: Some(Duration::ZERO),
            behind: None,
            lost: None,
            heard: Vec::new(),
            meeting: Meeting::Answered(Duration::ZERO),
            told: None,
            found: None,
            failing: None,
            parted: false,
            ended: false,
        };
        let shared = Arc::new(Shared {
            place,
            seen: Mutex::new(seen),
            links: Mutex::new(Vec::new()),
            news: Condvar::new(),
        });
        let watched = Arc::clone(&shared);
        spawn("guard", move || watched.guard(&*end))?;
        Ok(Self { shared })
    }

    /// All have met: from now on their signs of life are awaited. `open` connects to the store.
    pub(super) fn all_have_met(
        &self,
        transport: Transport,
        open: impl Fn(Duration) -> ffi::Result<Store> + Send + 'static,
    ) -> ffi::Result<()> {
        {
            let mut seen = self.shared.seen();
            let now = seen.now;
            seen.busy = None;
            seen.meeting = Meeting::Answered(now);
            seen.heard = vec![Heard::met(now); self.shared.place.size];
        }
        let shared = Arc::clone(&self.shared);
        spawn("heart", move || heart::run(&shared, open))?;
        if let Transport::Nccl(device) = transport {
            let shared = Arc::clone(&self.shared);
            spawn("gpu", move || gpu::run(&shared, device))?;
        }
        Ok(())
    }

    /// From now on this link is looked after, too.
    pub(super) fn observe(&self, link: Link) -> ffi::Result<()> {
        let first = {
            let mut links = self.shared.links();
            links.push(link);
            links.len() == 1
        };
        if first {
            let shared = Arc::clone(&self.shared);
            spawn("links", move || links::run(&shared))?;
        }
        Ok(())
    }

    /// Looks after no link any more: their groups end.
    pub(super) fn let_go(&self) {
        self.shared.links().clear();
    }

    /// Whether a connection is known to be lost.
    pub(super) fn has_lost(&self) -> bool {
        self.shared.seen().lost.is_some()
    }

    /// Notes that an operation begins, which lasts until the result is dropped.
    pub(super) fn begin(&self, operation: &'static str) -> Busy<'_> {
        let mut seen = self.shared.seen();
        seen.number += 1;
        seen.operation = operation;
        seen.busy = Some(seen.now);
        Busy(&self.shared)
    }

    /// What is wrong, if something is.
    pub(super) fn found(&self) -> Option<String> {
        self.shared
            .seen()
            .found
            .as_ref()
            .map(|found| found.blame.clone())
    }

    /// Notes that the training is ending because of an error.
    pub(super) fn failing(&self) {
        let mut seen = self.shared.seen();
        let now = seen.now;
        seen.failing.get_or_insert(now);
    }

    /// Whether a sign of life of `rank` has come lately.
    pub(super) fn is_alive(&self, rank: usize) -> bool {
        let seen = self.shared.seen();
        rank == self.shared.place.rank || self.shared.evidence(&seen).is_alive(rank)
    }

    /// How long the others are listened to after a failure: one that has died is known not to live by then, though its last sign
    /// may be read a beat after its death, and is fresh from then on.
    pub(super) fn hearing(&self) -> Duration {
        self.shared.hearing()
    }

    /// The time, of a clock that stands still while this process does, and when nobody is watched any more.
    pub(super) fn now(&self) -> Duration {
        self.shared.seen().now
    }

    /// Whether `limit` is over since the time `since`, or the watch itself.
    pub(super) fn is_over(&self, since: Duration, limit: Duration) -> bool {
        let seen = self.shared.seen();
        seen.ended || seen.now.saturating_sub(since) > limit
    }

    /// The run is over, also for the others: nobody needs to be heard of any more.
    pub(super) fn parted(&self) {
        self.shared.seen().parted = true;
    }

    /// Ends watching.
    pub(super) fn end(&self) {
        self.shared.seen().ended = true;
        self.shared.news.notify_all();
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end();
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.seen().busy = None;
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watch")
    }
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn links(&self) -> MutexGuard<'_, Vec<Link>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Time between two beats.
    fn beat(&self) -> Duration {
        (self.place.timeout / 10).clamp(TICK, LONGEST_BEAT)
    }

    /// How old a sign of life may be that is called fresh.
    fn stale(&self) -> Duration {
        (3 * self.beat()).max(FRESH)
    }

    /// See [`Watch::hearing`].
    fn hearing(&self) -> Duration {
        let known = self.stale() + 2 * self.beat() + Duration::from_secs(1);
        patience(self.place.timeout).max(known)
    }

    fn evidence<'a>(&self, seen: &'a Seen) -> Evidence<'a> {
        let Place {
            rank,
            serves,
            rank_0_serves,
            timeout,
            ..
        } = self.place;
        // In the order in which they began.
        let under_way = [seen.busy.map(|since| (since, seen.operation)), seen.behind];
        Evidence {
            own: rank,
            rank_0_serves,
            now: seen.now,
            limit: if serves { timeout + GRACE } else { timeout },
            stale: self.stale(),
            number: seen.number,
            under_way: under_way.into_iter().flatten().min(),
            lost: seen.lost,
            heard: &seen.heard,
            meeting: seen.meeting,
            told: seen.told.as_deref(),
            parted: seen.parted,
        }
    }

    /// Looks again and again, until this rank has ended or has to be ended.
    fn guard(&self, end: &dyn Fn(&str)) {
        let mut before = Instant::now();
        loop {
            std::thread::sleep(TICK);
            let passed = before.elapsed();
            before = Instant::now();
            let mut seen = self.seen();
            if seen.ended {
                return;
            }
            seen.now += passed.min(LONGEST_TICK);
            if seen.found.is_none()
                && let Some((operation, blame)) = self.evidence(&seen).verdict()
            {
                seen.found = Some(Found {
                    at: seen.now,
                    operation: operation.unwrap_or(seen.operation),
                    blame,
                });
                self.news.notify_all();
            }
            if let Some(message) = self.overdue(&seen) {
                // From here on the heart is silent, too.
                seen.ended = true;
                drop(seen);
                end(&message);
                return;
            }
        }
    }

    /// Why the process is to be ended now, if it is.
    fn overdue(&self, seen: &Seen) -> Option<String> {
        let Place {
            rank, size, serves, ..
        } = self.place;
        let for_itself = 2 * self.hearing() + GRACE;
        let message = |operation: &str, blame: &str| {
            format!("rank {rank} of {size}: {operation} failed: {blame}")
        };
        if let Some(since) = seen.failing {
            return (seen.now.saturating_sub(since) > for_itself).then(|| match &seen.found {
                Some(found) => message(found.operation, &found.blame),
                None => message(seen.operation, "this process did not end by itself"),
            });
        }
        let found = seen.found.as_ref()?;
        // Time for the heart to tell the others, who read it where this process keeps the store, a beat later at most; and
        // for the training, which hears of it from the connections that others close.
        let grace = match (serves, &seen.told) {
            (true, _) => self.beat() + GRACE + GRACE / 2,
            (false, Some(_)) => GRACE,
            (false, None) => GRACE / 2,
        };
        (seen.now.saturating_sub(found.at) > grace).then(|| message(found.operation, &found.blame))
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> ffi::Result<()> {
    let thread = Builder::new().name(format!("selfcls-{name}")).spawn(work);
    thread
        .map(|_| ())
        .map_err(|error| format!("no thread can be started to watch over the ranks: {error}"))
}
