//! Who has come to where the ranks of a run meet, as one of them sees it while it waits for the others.

use std::time::{Duration, Instant};

use super::address::{self, Way};
use super::ffi::{self, Store};
use super::post_mortem;
use super::watch::{self, GRACE, Place};

/// Between two looks.
pub(super) const GLANCE: Duration = Duration::from_millis(50);
/// How many ranks have come.
const ARRIVED: &str = "arrived";
/// An address of the store's machine, as another machine sees it.
const REACHED_AT: &str = "reached at";
/// How many of those that have come have said, or heard, that others will not.
const GIVEN_UP: &str = "given up";

/// Those that have come.
pub(super) struct Arrivals {
    place: Place,
    way: Option<Way>,
    store: Store,
    /// At the last look.
    count: usize,
}

/// What there is to see.
pub(super) enum Seen {
    All,
    Some,
    /// Others will not come, says one who has.
    Told(String),
}

impl Arrivals {
    /// This rank has come to `store`, by the way `way`.
    pub(super) fn new(place: Place, way: Option<Way>, mut store: Store) -> ffi::Result<Self> {
        watch::say_hello(&mut store, place.rank)?;
        if let Some(way) = way.filter(Way::is_between_machines) {
            store.set(REACHED_AT, &way.other())?;
        }
        store.add(ARRIVED, 1)?;
        Ok(Self {
            place,
            way,
            store,
            count: 1,
        })
    }

    pub(super) fn look(&mut self) -> ffi::Result<Seen> {
        let store = &mut self.store;
        if let Some(blame) = post_mortem::told(store)? {
            return Ok(Seen::Told(blame));
        }
        self.count = store.add(ARRIVED, 0)?;
        Ok(match self.count >= self.place.size {
            true => Seen::All,
            false => Seen::Some,
        })
    }

    /// How many have come.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Those that have not.
    pub(super) fn missing(&mut self) -> ffi::Result<Vec<usize>> {
        watch::missing(&mut self.store, self.place.rank, self.place.size)
    }

    /// Waits no longer, for what `blame` says; those that have come hear of it. The rank that keeps the store goes when they
    /// have, or have had time for it.
    pub(super) fn give_up(mut self, blame: &str) {
        let store = &mut self.store;
        // Where the store goes now, they see that.
        let told = post_mortem::tell(store, blame);
        let mut gone = told.and_then(|()| store.add(GIVEN_UP, 1));
        let began = Instant::now();
        while self.place.serves
            && gone.is_ok_and(|gone| gone < self.count)
            && began.elapsed() < GRACE
        {
            std::thread::sleep(GLANCE);
            gone = store.add(GIVEN_UP, 0);
        }
    }

    /// All have come: the store, and the address at which the others reach this rank, where that can be told.
    pub(super) fn all(mut self) -> (Store, Option<String>) {
        let reached_at = self.store.get(REACHED_AT).ok().flatten();
        let own = address::own(self.way.as_ref(), reached_at.as_deref());
        (self.store, own)
    }
}
