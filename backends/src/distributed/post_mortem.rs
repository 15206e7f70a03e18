//! Finding out which rank is to blame when an operation has failed.
//!
//! What c10d says is that a connection was closed or that nothing came in time: it names no rank. So every
//! rank that notices leaves a note in the store and looks for those of the others. A rank that left for a
//! reason of its own has written it down; one that was killed or hangs writes nothing, and is the one
//! without a note and without a fresh sign of life. Ranks close their connections before they look, so a failure runs
//! through all of them within moments, except where they wait for a deadline of their own. What one has found it
//! tells all, so that they say the same.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::ffi::Store;
use super::world::World;

/// How long the store may take to answer, at most; less where the timeout is short.
const PATIENCE: Duration = Duration::from_secs(10);
const GLANCE: Duration = Duration::from_millis(50);
/// Where all ranks leave their notes, one behind the other: they look for them often, and would ask for each in turn.
const NOTES: &str = "notes";
/// ASCII's record separator.
const END_OF_NOTE: char = '\u{1e}';
/// Where ranks say that they need the store no more, one behind the other.
const READ: &str = "read";
/// Where it is said what is wrong.
const FOUND: &str = "found";
/// Where it is said that the run has come to its end.
const PARTED: &str = "parted";

/// Notes by rank.
type Notes = BTreeMap<usize, Note>;

/// What a rank has to say at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Note {
    /// It ended of itself.
    Left(String),
    /// It noticed that others did not answer, in this operation.
    Noticed(String),
}

impl Note {
    /// As rank `rank` writes it down.
    fn text(&self, rank: usize) -> String {
        let (kind, text) = match self {
            Self::Left(reason) => ("left", reason),
            Self::Noticed(operation) => ("noticed", operation),
        };
        let text = text.replace(END_OF_NOTE, " ");
        format!("{rank} {kind} {text}{END_OF_NOTE}")
    }

    /// With the rank that wrote it; none behind the last.
    fn parse(text: &str) -> Option<(usize, Self)> {
        let (rank, text) = text.split_once(' ')?;
        let (kind, text) = text.split_once(' ')?;
        let note = match kind {
            "left" => Self::Left(text.into()),
            _ => Self::Noticed(text.into()),
        };
        Some((rank.parse().ok()?, note))
    }
}

/// Why `operation`, which c10d says failed for `reason`, did: a message that names the rank where it can.
pub(super) fn explain(world: &World, store: &mut Store, operation: &str, reason: &str) -> String {
    let patience = patience(world.timeout);
    // A store that hangs must not make us hang.
    let reachable = store.set_timeout(patience).is_ok()
        && store
            .append(NOTES, &Note::Noticed(operation.into()).text(world.rank))
            .is_ok();
    let mut said = None;
    let (notes, reachable) = if reachable {
        collect(world, store, &mut said)
    } else {
        (Notes::new(), false)
    };
    if !reachable && !notes.contains_key(&0) {
        // The guard knows a rank 0 that only does not answer from one that is gone.
        said = said.or_else(|| world.watch.found());
    }
    let blame = said.unwrap_or_else(|| {
        let blame = blame(
            world.rank,
            world.size,
            &notes,
            reachable,
            world.rank_0_serves,
            &|rank| world.watch.is_alive(rank),
        );
        if reachable {
            // Where the store goes now, the others find out for themselves.
            let _ = tell(store, &blame);
        }
        blame
    });
    if reachable {
        let _ = has_read(world.rank, store);
        linger(world, store);
    }
    format!(
        "rank {} of {}: {operation} failed: {blame} ({})",
        world.rank,
        world.size,
        gist(reason)
    )
}

/// The first line of a message of c10d's, and what NCCL said last, which stands below others.
fn gist(reason: &str) -> String {
    let mut lines = reason.lines();
    let first = lines.next().unwrap_or_default().trim_end();
    let mut last = lines
        .skip_while(|line| line.trim() != "Last error:")
        .skip(1);
    match last.find(|line| !line.trim().is_empty()) {
        Some(last) => format!("{first}: {}", last.trim()),
        None => first.to_owned(),
    }
}

/// Leaves the reason why this rank ends.
pub(super) fn leave(rank: usize, timeout: Duration, store: &mut Store, reason: &str) {
    // Where the store is gone, the others are, too.
    let _ = store.set_timeout(patience(timeout));
    let _ = store.append(NOTES, &Note::Left(reason.into()).text(rank));
    let _ = tell(store, &has_ended(rank, reason));
    let _ = has_read(rank, store);
}

/// Rank `rank` has said and heard what there is.
fn has_read(rank: usize, store: &mut Store) -> super::ffi::Result<()> {
    store.append(READ, &format!("{rank} "))
}

/// The rank that keeps the store waits until the others have read in it what they look for, as far as they live.
pub(super) fn linger(world: &World, store: &mut Store) {
    if !world.serves {
        return;
    }
    let (began, limit) = (world.watch.now(), world.watch.hearing());
    let mut notes = Notes::new();
    while !world.watch.is_over(began, limit) {
        let (Ok(()), Ok(read)) = (look(store, &mut notes), store.get(READ)) else {
            return;
        };
        let read = read.unwrap_or_default();
        let read: BTreeSet<usize> = read.split(' ').flat_map(str::parse).collect();
        // Whoever has left a note now looks for the others', also if little is heard of it.
        let awaited = |rank: &usize| notes.contains_key(rank) || world.watch.is_alive(*rank);
        let others = (0..world.size).filter(|&rank| rank != world.rank);
        if others.filter(awaited).all(|rank| read.contains(&rank)) {
            return;
        }
        std::thread::sleep(GLANCE);
    }
}

/// Tells all ranks what is wrong.
pub(super) fn tell(store: &mut Store, blame: &str) -> super::ffi::Result<()> {
    store.set(FOUND, blame)
}

/// What a rank has found to be wrong, if one has.
pub(super) fn told(store: &mut Store) -> super::ffi::Result<Option<String>> {
    store.get(FOUND)
}

/// Tells all ranks that the run has come to its end.
pub(super) fn part(store: &mut Store) -> super::ffi::Result<()> {
    store.set(PARTED, "")
}

/// Whether a rank has come to the end of the run.
pub(super) fn have_parted(store: &mut Store) -> super::ffi::Result<bool> {
    Ok(store.get(PARTED)?.is_some())
}

/// `rank 3`, `ranks 3 and 5`, `ranks 1, 3 and 5`.
pub(super) fn ranks(ranks: &[usize]) -> String {
    let names: Vec<String> = ranks.iter().map(usize::to_string).collect();
    match names.as_slice() {
        [] => "no rank".into(),
        [one] => format!("rank {one}"),
        [first @ .., last] => format!("ranks {} and {last}", first.join(", ")),
    }
}

/// How long the store may take to answer where a rank may be waited for `timeout`.
pub(super) fn patience(timeout: Duration) -> Duration {
    PATIENCE.min(timeout / 2).max(Duration::from_secs(1))
}

fn has_ended(rank: usize, reason: &str) -> String {
    format!("rank {rank} has ended: {reason}")
}

/// All ranks' notes, as far as they come: until there is one with a reason, all are there, or another has found out
/// and `said` it. And whether the store could be reached to the end.
fn collect(world: &World, store: &mut Store, said: &mut Option<String>) -> (Notes, bool) {
    let (began, limit) = (world.watch.now(), world.watch.hearing());
    let mut notes = Notes::new();
    loop {
        if look(store, &mut notes).is_err() {
            return (notes, false);
        }
        match told(store) {
            Ok(found) => *said = found,
            Err(_) => return (notes, false),
        }
        let reason = notes.values().any(|note| matches!(note, Note::Left(_)));
        // Nobody else will write one: who is silent by now stays so.
        let all =
            (0..world.size).all(|rank| notes.contains_key(&rank) || !world.watch.is_alive(rank));
        if reason || said.is_some() || all || world.watch.is_over(began, limit) {
            return (notes, true);
        }
        std::thread::sleep(GLANCE);
    }
}

fn look(store: &mut Store, notes: &mut Notes) -> super::ffi::Result<()> {
    let text = store.get(NOTES)?.unwrap_or_default();
    let found = text.split(END_OF_NOTE).filter_map(Note::parse);
    for (rank, note) in found {
        notes.entry(rank).or_insert(note);
    }
    Ok(())
}

/// Who is to blame, from what rank `own` of `size` found in the store. A rank without a note that lives has only not
/// looked yet.
fn blame(
    own: usize,
    size: usize,
    notes: &Notes,
    reachable: bool,
    rank_0_serves: bool,
    lives: &dyn Fn(usize) -> bool,
) -> String {
    let left = notes.iter().find_map(|(rank, note)| match note {
        Note::Left(reason) => Some(has_ended(*rank, reason)),
        Note::Noticed(_) => None,
    });
    if let Some(left) = left {
        return left;
    }
    if !reachable && !notes.contains_key(&0) {
        return if rank_0_serves {
            "rank 0 is gone, and with it the meeting point".into()
        } else {
            "the launcher is gone, and with it the meeting point".into()
        };
    }
    let silent: Vec<usize> = (0..size)
        .filter(|rank| *rank != own && !notes.contains_key(rank) && !lives(*rank))
        .collect();
    if silent.is_empty() {
        return "the connection was lost, though all ranks are there: look at the network".into();
    }
    let (are, their) = match silent.len() {
        1 => ("gives", "its"),
        _ => ("give", "their"),
    };
    format!(
        "{} {are} no sign of life: killed, hung, or {their} machine cannot be reached",
        ranks(&silent)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distributed::ffi::Transport;
    use crate::distributed::meeting::Meeting;
    use crate::distributed::tests::gathering::Gathering;
    use crate::distributed::tests::{TIMEOUT, place, port};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    fn noticed(ranks: &[usize]) -> Notes {
        let note = || Note::Noticed("summing gradients".into());
        ranks.iter().map(|&rank| (rank, note())).collect()
    }

    #[test]
    fn silence_is_to_blame() {
        let blame =
            |own, size, noted: &[usize]| blame(own, size, &noticed(noted), true, true, &|_| false);
        let text = blame(0, 4, &[0, 1, 3]);
        assert!(text.starts_with("rank 2 gives no sign of life"), "{text}");
        let text = blame(1, 4, &[1]);
        assert!(text.starts_with("ranks 0, 2 and 3 give"), "{text}");
        let text = blame(1, 2, &[0, 1]);
        assert!(text.contains("network"), "{text}");
    }

    #[test]
    fn who_computes_is_not_to_blame() {
        let text = blame(0, 4, &noticed(&[0, 1]), true, true, &|rank| rank == 3);
        assert!(text.starts_with("rank 2 gives no sign of life"), "{text}");
    }

    #[test]
    fn a_reason_goes_before_silence() {
        let mut notes = noticed(&[0, 1]);
        notes.insert(3, Note::Left("cannot read 7.jpg".into()));
        let text = blame(0, 4, &notes, true, true, &|_| false);
        assert_eq!(text, "rank 3 has ended: cannot read 7.jpg");
    }

    #[test]
    fn whoever_keeps_the_store_takes_it_along() {
        let gone = |rank_0_serves| blame(1, 4, &Notes::new(), false, rank_0_serves, &|_| false);
        assert!(gone(true).starts_with("rank 0 is gone"));
        assert!(gone(false).starts_with("the launcher is gone"));
        // Rank 0 said before it went that another is to blame.
        let text = blame(1, 4, &noticed(&[0, 1, 3]), false, true, &|_| false);
        assert!(text.starts_with("rank 2 gives"), "{text}");
    }

    /// Rank 1 writes its note, and gets to the others' only after a while.
    #[test]
    fn the_store_stays_until_all_have_read() {
        let port = port();
        let (have_met, has_read_all) = (Gathering::new(2, 2 * TIMEOUT), AtomicBool::new(false));
        std::thread::scope(|scope| {
            for number in 0..2 {
                let (have_met, has_read_all) = (&have_met, &has_read_all);
                scope.spawn(move || {
                    let place = place(number, 2, port);
                    let end = Arc::new(|reason: &str| eprintln!("would be ended: {reason}"));
                    let world = World::join(&place, Transport::Gloo, TIMEOUT, end);
                    let world = world.expect("joins");
                    have_met.wait();
                    if number == 0 {
                        world.leave("cannot read 7.jpg");
                        assert!(has_read_all.load(Ordering::SeqCst), "it has not waited");
                        return;
                    }
                    let mut store = Meeting::of(&place).again(TIMEOUT).expect("a store");
                    while told(&mut store).expect("a store").is_none() {
                        std::thread::sleep(GLANCE);
                    }
                    let note = Note::Noticed("adding up values".into()).text(1);
                    store.append(NOTES, &note).expect("a store");
                    std::thread::sleep(Duration::from_secs(2));
                    has_read_all.store(true, Ordering::SeqCst);
                    has_read(1, &mut store).expect("a store");
                    // The run is not over, which this one's end would say.
                    std::mem::forget(world);
                });
            }
        });
    }

    #[test]
    fn what_nccl_says_is_passed_on() {
        let reason = "NCCL error in: NCCLUtils.cpp:94, invalid usage (run with NCCL_DEBUG=WARN for details), NCCL version 2.28.9\n\
            ncclInvalidUsage: This usually reflects invalid usage of NCCL library.\n\
            Last error:\n\
            Duplicate GPU detected : rank 1 and rank 0 both on CUDA device 1b000";
        let text = gist(reason);
        assert!(text.starts_with("NCCL error in"), "{text}");
        assert!(text.ends_with(
            "2.28.9: Duplicate GPU detected : rank 1 and rank 0 both on CUDA device 1b000"
        ));
        assert_eq!(gist("timed out\nframe #0: here"), "timed out");
        assert_eq!(gist("refused\nLast error:\n"), "refused");
    }

    #[test]
    fn notes_survive_the_store() {
        for note in [
            Note::Left("left alone\nin 2 lines".into()),
            Note::Noticed("noticed".into()),
            Note::Noticed(String::new()),
        ] {
            let text = note.text(7);
            let text = text.strip_suffix(END_OF_NOTE).expect("ends");
            assert_eq!(Note::parse(text), Some((7, note)));
        }
        assert_eq!(Note::parse(""), None);
        assert_eq!(ranks(&[4]), "rank 4");
        assert_eq!(ranks(&[1, 2, 3]), "ranks 1, 2 and 3");
    }
}
