//! Who has come to where the ranks of a run meet, as one of them sees it while it waits for the others.

use std::time::{Duration, Instant};

use super::address::{self, Way};
use super::ffi::{self, Store};
use super::post_mortem;
use super::roster::Roster;
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
    /// Who takes part in this start, where the store has had others.
    roster: Option<Roster>,
    /// The part of the store of this start, once that is known.
    store: Option<Store>,
    /// How many had come at the last look. None as long as it is not known which start they have come to.
    count: Option<usize>,
}

/// What there is to see.
pub(super) enum Seen {
    All,
    Some,
    /// Others will not come, says one who has.
    Told(String),
}

impl Arrivals {
    /// This rank has come, by the way `way`, to the run's part of a store, which may be older than this start.
    pub(super) fn new(
        place: Place,
        way: Option<Way>,
        run: Store,
        is_old: bool,
    ) -> ffi::Result<Self> {
        let mut arrivals = Self {
            place,
            way,
            roster: None,
            store: None,
            count: None,
        };
        if is_old {
            arrivals.roster = Some(Roster::new(place.rank, place.size, run)?);
        } else {
            arrivals.begin(run)?;
        }
        Ok(arrivals)
    }

    /// Meets the others in `store`.
    fn begin(&mut self, mut store: Store) -> ffi::Result<()> {
        watch::say_hello(&mut store, self.place.rank)?;
        if let Some(way) = self.way.filter(Way::is_between_machines) {
            store.set(REACHED_AT, &way.other())?;
        }
        self.count = Some(store.add(ARRIVED, 1)?);
        self.store = Some(store);
        Ok(())
    }

    pub(super) fn look(&mut self) -> ffi::Result<Seen> {
        if let Some(roster) = &mut self.roster {
            if let Some(blame) = roster.told()? {
                return Ok(Seen::Told(blame));
            }
            if let Some(store) = roster.look()? {
                self.begin(store)?;
            }
        }
        let Some(store) = &mut self.store else {
            return Ok(Seen::Some);
        };
        if let Some(blame) = post_mortem::told(store)? {
            return Ok(Seen::Told(blame));
        }
        let count = store.add(ARRIVED, 0)?;
        self.count = Some(count);
        Ok(match count >= self.place.size {
            true => Seen::All,
            false => Seen::Some,
        })
    }

    /// How many have come, where that can be told.
    pub(super) fn count(&self) -> Option<usize> {
        self.count
    }

    /// Those that have not.
    pub(super) fn missing(&mut self) -> ffi::Result<Vec<usize>> {
        let Place { rank, size, .. } = self.place;
        match (&mut self.store, &mut self.roster) {
            (Some(store), _) => watch::missing(store, rank, size),
            (None, Some(roster)) => roster.missing(),
            // One of them is there from the beginning.
            (None, None) => Ok(Vec::new()),
        }
    }

    /// Waits no longer, for what `blame` says; those that have come hear of it. The rank that keeps the store goes when they
    /// have, or have had time for it.
    pub(super) fn give_up(mut self, blame: &str) {
        if let Some(roster) = &mut self.roster {
            // Those, too, that are not on a list with this rank. A store that is gone tells them as well.
            let _ = roster.tell(blame);
        }
        let (Some(mut store), Some(count)) = (self.store, self.count) else {
            return;
        };
        // Where the store goes now, they see that.
        let told = post_mortem::tell(&mut store, blame);
        let mut gone = told.and_then(|()| store.add(GIVEN_UP, 1));
        let began = Instant::now();
        while self.place.serves
            && gone.is_ok_and(|gone| gone < count)
            && began.elapsed() < 2 * GRACE
        {
            std::thread::sleep(GLANCE);
            gone = store.add(GIVEN_UP, 0);
        }
    }

    /// All have come: the store, the name of this start in it if it has one, and the address at which the others reach this
    /// rank, where that can be told.
    pub(super) fn all(self) -> Option<(Store, Option<String>, Option<String>)> {
        let mut store = self.store?;
        let name = self
            .roster
            .and_then(|roster| roster.name().map(str::to_owned));
        let reached_at = store.get(REACHED_AT).ok().flatten();
        let own = address::own(self.way.as_ref(), reached_at.as_deref());
        Some((store, name, own))
    }
}
