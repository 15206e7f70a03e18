//! Which processes meet in a store that outlives them.
//!
//! A launcher's store still has what the processes of earlier starts left there, and the number of a start tells these
//! apart badly: each agent of torchrun counts its own, and not when it starts its ranks again because another does. So
//! every process has a random name. Rank 0 lists, for each rank, the process that came last, and lists them anew whenever
//! another has come; a process takes part in a list that has its name. All keys of a start lie below its list, so nobody
//! reads what was left by others, and where a process on a list is gone not all of it come. Who waits in vain tells the others by
//! their names: they may be on no list, and whoever comes later may be of another start.

use std::hash::{BuildHasher, RandomState};
use std::time::SystemTime;

use super::ffi::{self, Store};

/// Where processes write their ranks and names, one line each.
const COMERS: &str = "comers";
/// Where rank 0 lists them, behind the list's own name.
const LIST: &str = "list";
/// Where a process is told, by its name, that others do not come.
const GIVEN_UP: &str = "given up/";

/// The lists of a run, as one of its ranks sees them.
#[derive(Debug)]
pub(super) struct Roster {
    store: Store,
    rank: usize,
    size: usize,
    /// This process's name.
    own: String,
    /// That of the last list with it.
    name: Option<String>,
    /// Rank 0's: how many lists it has made, and of whom the last.
    made: usize,
    listed: Vec<String>,
}

impl Roster {
    /// This process has come, as `rank` of `size`, to the run's part of the store.
    pub(super) fn new(rank: usize, size: usize, mut store: Store) -> ffi::Result<Self> {
        let now = (std::process::id(), SystemTime::now());
        let own = format!("{:016x}", RandomState::new().hash_one(now));
        store.append(COMERS, &format!("{rank} {own}\n"))?;
        Ok(Self {
            store,
            rank,
            size,
            own,
            name: None,
            made: 0,
            listed: Vec::new(),
        })
    }

    /// The part of the store of a list that has this process, where there is another than at the last look. (Rank 0 makes
    /// them.)
    pub(super) fn look(&mut self) -> ffi::Result<Option<Store>> {
        if self.rank == 0 {
            self.list()?;
        }
        let text = self.store.get(LIST)?.unwrap_or_default();
        let mut words = text.split(' ');
        let name = words.next().unwrap_or_default();
        let names: Vec<&str> = words.collect();
        let has_own = names.len() == self.size && names[self.rank] == self.own;
        if !has_own || self.name.as_deref() == Some(name) {
            return Ok(None);
        }
        self.name = Some(name.to_owned());
        self.store.below(name).map(Some)
    }

    /// The name of the last such list.
    pub(super) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Tells the processes that have come what one that waits no longer says.
    pub(super) fn tell(&mut self, blame: &str) -> ffi::Result<()> {
        for name in self.comers()?.into_iter().flatten() {
            self.store.set(&format!("{GIVEN_UP}{name}"), blame)?;
        }
        Ok(())
    }

    /// What this one has been told.
    pub(super) fn told(&mut self) -> ffi::Result<Option<String>> {
        self.store.get(&format!("{GIVEN_UP}{}", self.own))
    }

    /// Who does not come, where there is no such list.
    pub(super) fn missing(&mut self) -> ffi::Result<Vec<usize>> {
        let comers = self.comers()?;
        let silent = (0..self.size).filter(|&rank| comers[rank].is_none());
        let silent: Vec<usize> = silent.collect();
        // With somebody of each rank there would be a list.
        Ok(if silent.is_empty() { vec![0] } else { silent })
    }

    /// Lists the processes, once one of each rank has come, and again when one is another.
    fn list(&mut self) -> ffi::Result<()> {
        let comers = self.comers()?;
        let Some(comers) = comers.into_iter().collect::<Option<Vec<String>>>() else {
            return Ok(());
        };
        if comers == self.listed {
            return Ok(());
        }
        self.made += 1;
        let name = format!("{}.{}", self.own, self.made);
        self.store
            .set(LIST, &format!("{name} {}", comers.join(" ")))?;
        self.listed = comers;
        Ok(())
    }

    /// By rank, the process that came last.
    fn comers(&mut self) -> ffi::Result<Vec<Option<String>>> {
        let text = self.store.get(COMERS)?.unwrap_or_default();
        let mut comers = vec![None; self.size];
        for (rank, name) in text.lines().filter_map(|line| line.split_once(' ')) {
            // An earlier start may have had more ranks.
            let rank = rank.parse().ok();
            if let Some(comer) = rank.and_then(|rank: usize| comers.get_mut(rank)) {
                *comer = Some(name.to_owned());
            }
        }
        Ok(comers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distributed::tests::port;
    use std::time::Duration;

    /// Whether each sees a new list that it is on, the first of them being rank 0.
    fn look(rosters: &mut [Roster]) -> Vec<bool> {
        let look = |roster: &mut Roster| roster.look().expect("a store").is_some();
        rosters.iter_mut().map(look).collect()
    }

    #[test]
    fn lists_have_those_that_came_last() {
        let port = port();
        let patience = Duration::from_secs(20);
        let mut agent = Store::open("127.0.0.1", port, true, patience, "agent").expect("serves");
        let mut come = |rank, size| {
            let store = agent.below("run").expect("a part");
            Roster::new(rank, size, store).expect("a store")
        };
        let mut first = vec![come(0, 3), come(1, 3)];
        assert_eq!(look(&mut first), [false; 2]);
        assert_eq!(first[0].missing().expect("a store"), [2]);
        first.push(come(2, 3));
        assert_eq!(look(&mut first), [true; 3]);
        assert_eq!(look(&mut first), [false; 3]);
        assert!(first.iter().all(|one| one.name() == first[0].name()));

        // Another is rank 2 now: the first has no part in that.
        let mut other = [come(2, 3)];
        assert_eq!(look(&mut other), [false]);
        assert_eq!(other[0].missing().expect("a store"), [0]);
        assert_eq!(look(&mut first), [true, true, false]);
        assert_eq!(look(&mut other), [true]);
        assert_eq!(other[0].name(), first[0].name());
        assert_ne!(other[0].name(), first[2].name());

        // A start of fewer.
        let mut fewer = [come(0, 2), come(1, 2)];
        assert_eq!(look(&mut fewer), [true; 2]);
        assert_eq!(fewer[0].name(), fewer[1].name());
    }
}
