//! Finding out which rank is to blame when an operation has failed.
//!
//! What c10d says is that a connection was closed or that nothing came in time: it names no rank. So every
//! rank that notices leaves a note in the store and looks for those of the others. A rank that left for a
//! reason of its own has written it down; one that was killed or hangs writes nothing, and is the one
//! without a note. Ranks close their connections before they look, so a failure runs through all of them
//! within moments, except where they wait for a deadline of their own.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::ffi::Store;
use super::world::World;

/// How long to wait for notes, at most; less where the timeout is short.
const PATIENCE: Duration = Duration::from_secs(10);
const GLANCE: Duration = Duration::from_millis(50);

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
    fn text(&self) -> String {
        match self {
            Self::Left(reason) => format!("left {reason}"),
            Self::Noticed(operation) => format!("noticed {operation}"),
        }
    }

    fn parse(text: &str) -> Self {
        match text.strip_prefix("left ") {
            Some(reason) => Self::Left(reason.into()),
            None => Self::Noticed(text.trim_start_matches("noticed ").into()),
        }
    }
}

/// Why `operation`, which c10d says failed for `reason`, did: a message that names the rank where it can.
pub(super) fn explain(world: &World, store: &mut Store, operation: &str, reason: &str) -> String {
    let patience = patience(world);
    // A store that hangs must not make us hang.
    let reachable = store.set_timeout(patience).is_ok()
        && store
            .set(&key(world.rank), &Note::Noticed(operation.into()).text())
            .is_ok();
    let (notes, reachable) = if reachable {
        collect(world, store, patience)
    } else {
        (Notes::new(), false)
    };
    let blame = blame(
        world.rank,
        world.size,
        &notes,
        reachable,
        world.rank_0_serves,
    );
    if reachable {
        linger(world, store);
    }
    let first = reason.lines().next().unwrap_or_default();
    format!(
        "rank {} of {}: {operation} failed: {blame} ({first})",
        world.rank, world.size
    )
}

/// Leaves the reason why this rank ends.
pub(super) fn leave(world: &World, store: &mut Store, reason: &str) {
    // Where the store is gone, the others are, too.
    let _ = store.set_timeout(patience(world));
    let _ = store.set(&key(world.rank), &Note::Left(reason.into()).text());
}

/// The rank that keeps the store waits until the others have had time to read it.
pub(super) fn linger(world: &World, store: &mut Store) {
    if !world.serves {
        return;
    }
    let began = Instant::now();
    let mut seen = Notes::new();
    while seen.len() < world.size && began.elapsed() < patience(world) {
        if look(world, store, &mut seen).is_err() {
            return;
        }
        std::thread::sleep(GLANCE);
    }
    // The last has just written its note, and now looks for the others'.
    std::thread::sleep(10 * GLANCE);
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

fn key(rank: usize) -> String {
    format!("note/{rank}")
}

fn patience(world: &World) -> Duration {
    PATIENCE.min(world.timeout / 2).max(Duration::from_secs(1))
}

/// All ranks' notes, as far as they come: until there is one with a reason, or all are there. And whether
/// the store could be reached to the end.
fn collect(world: &World, store: &mut Store, patience: Duration) -> (Notes, bool) {
    let began = Instant::now();
    let mut notes = Notes::new();
    loop {
        if look(world, store, &mut notes).is_err() {
            return (notes, false);
        }
        let reason = notes.values().any(|note| matches!(note, Note::Left(_)));
        if reason || notes.len() == world.size || began.elapsed() > patience {
            return (notes, true);
        }
        std::thread::sleep(GLANCE);
    }
}

fn look(world: &World, store: &mut Store, notes: &mut Notes) -> super::ffi::Result<()> {
    for rank in 0..world.size {
        if !notes.contains_key(&rank)
            && let Some(text) = store.get(&key(rank))?
        {
            notes.insert(rank, Note::parse(&text));
        }
    }
    Ok(())
}

/// Who is to blame, from what rank `own` of `size` found in the store.
fn blame(own: usize, size: usize, notes: &Notes, reachable: bool, rank_0_serves: bool) -> String {
    let left = notes.iter().find_map(|(rank, note)| match note {
        Note::Left(reason) => Some(format!("rank {rank} has ended: {reason}")),
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
        .filter(|rank| *rank != own && !notes.contains_key(rank))
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

    fn noticed(ranks: &[usize]) -> Notes {
        let note = || Note::Noticed("summing gradients".into());
        ranks.iter().map(|&rank| (rank, note())).collect()
    }

    #[test]
    fn silence_is_to_blame() {
        let text = blame(0, 4, &noticed(&[0, 1, 3]), true, true);
        assert!(text.starts_with("rank 2 gives no sign of life"), "{text}");
        let text = blame(1, 4, &noticed(&[1]), true, true);
        assert!(text.starts_with("ranks 0, 2 and 3 give"), "{text}");
        let text = blame(1, 2, &noticed(&[0, 1]), true, true);
        assert!(text.contains("network"), "{text}");
    }

    #[test]
    fn a_reason_goes_before_silence() {
        let mut notes = noticed(&[0, 1]);
        notes.insert(3, Note::Left("cannot read 7.jpg".into()));
        let text = blame(0, 4, &notes, true, true);
        assert_eq!(text, "rank 3 has ended: cannot read 7.jpg");
    }

    #[test]
    fn whoever_keeps_the_store_takes_it_along() {
        let gone = |rank_0_serves| blame(1, 4, &Notes::new(), false, rank_0_serves);
        assert!(gone(true).starts_with("rank 0 is gone"));
        assert!(gone(false).starts_with("the launcher is gone"));
        // Rank 0 said before it went that another is to blame.
        let text = blame(1, 4, &noticed(&[0, 1, 3]), false, true);
        assert!(text.starts_with("rank 2 gives"), "{text}");
    }

    #[test]
    fn notes_survive_the_store() {
        for note in [
            Note::Left("left alone".into()),
            Note::Noticed("noticed".into()),
        ] {
            assert_eq!(Note::parse(&note.text()), note);
        }
        assert_eq!(ranks(&[4]), "rank 4");
        assert_eq!(ranks(&[1, 2, 3]), "ranks 1, 2 and 3");
    }
}
