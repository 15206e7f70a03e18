//! Ranks that are watched over: what their watchers say when one is lost, and how long that takes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use burn::tensor::Tensor;
use selfcls_core::collective::{Collective, Reduction};

use super::{device, place, port};
use crate::distributed::ffi::Transport;
use crate::distributed::ranks::Ranks;
use crate::distributed::world::World;

/// How long ranks wait for each other.
const SHORT: Duration = Duration::from_secs(4);

/// What the watchers of three ranks say at the end of each, and after how long, where `rank` is what its training does.
fn ends(rank: impl Fn(Arc<World>, Ranks) + Sync) -> Vec<(usize, String, Duration)> {
    ends_within(SHORT, rank)
}

/// The same where ranks wait for `timeout`.
fn ends_within(
    timeout: Duration,
    rank: impl Fn(Arc<World>, Ranks) + Sync,
) -> Vec<(usize, String, Duration)> {
    let port = port();
    let (say, said) = mpsc::channel();
    std::thread::scope(|scope| {
        for number in 0..3 {
            let (rank, say) = (&rank, say.clone());
            scope.spawn(move || {
                let end = Arc::new(move |reason: &str| {
                    // Whoever has been waited for listens no more.
                    let _ = say.send((number, reason.to_owned()));
                });
                let place = place(number, 3, port);
                let world = World::join(&place, Transport::Gloo, timeout, end).expect("joins");
                let ranks = Ranks::all(&world).expect("a group");
                ranks.barrier().expect("all are there");
                rank(world, ranks);
            });
        }
        let began = Instant::now();
        let mut ends = Vec::new();
        while ends.len() < 2 {
            let (rank, reason) = said.recv_timeout(6 * timeout).expect("an end");
            ends.push((rank, reason, began.elapsed()));
        }
        ends
    })
}

/// As where a process is killed or its machine is lost and connections stay as they are; the others wait for something that
/// no failed connection interrupts.
#[test]
fn a_rank_that_falls_silent_ends_those_that_cannot_look() {
    let ends = ends(|world, ranks| {
        if world.rank == 2 {
            // Not before all have heard of it.
            std::thread::sleep(SHORT / 2);
            world.watch.end();
        }
        std::mem::forget(ranks);
        std::mem::forget(world);
    });
    for (rank, reason, after) in ends {
        assert!(rank != 2, "{reason}");
        let expected =
            format!("rank {rank} of 3: waiting for all ranks failed: rank 2 gives no sign of life");
        assert!(reason.starts_with(&expected), "{reason}");
        assert!(
            reason.ends_with("its last operation was waiting for all ranks (number 3)"),
            "{reason}"
        );
        assert!(after > SHORT && after < 4 * SHORT, "{after:?}");
    }
}

/// Where NCCL loses a connection the timeout is not waited for: whoever falls silent was at its other end.
#[test]
fn a_lost_connection_ends_those_that_cannot_look() {
    let timeout = 5 * SHORT;
    let lost = Arc::new(AtomicBool::new(false));
    let ends = ends_within(timeout, |world, ranks| {
        if world.rank == 2 {
            std::thread::sleep(SHORT / 2);
            world.watch.end();
            lost.store(true, Ordering::SeqCst);
        } else {
            let lost = Arc::clone(&lost);
            let link = Box::new(move || lost.load(Ordering::SeqCst));
            world.watch.observe(link).expect("a thread");
        }
        std::mem::forget(ranks);
        std::mem::forget(world);
    });
    for (rank, reason, after) in ends {
        assert!(reason.contains("rank 2 gives no sign"), "{rank}: {reason}");
        assert!(after < timeout, "{after:?}");
    }
}

/// A training that comes to its next operation looks for the others as after one that failed.
#[test]
fn a_lost_connection_is_found_by_the_next_operation() {
    let port = port();
    let messages = std::thread::scope(|scope| {
        let ranks = [0, 1].map(|number| {
            scope.spawn(move || {
                let end = Arc::new(|reason: &str| eprintln!("a rank would be ended: {reason}"));
                let world = World::join(&place(number, 2, port), Transport::Gloo, SHORT, end);
                let world = world.expect("joins");
                let ranks = Ranks::all(&world).expect("a group");
                ranks.barrier().expect("all are there");
                if number == 0 {
                    world.watch.observe(Box::new(|| true)).expect("a thread");
                    while !world.watch.has_lost() {
                        std::thread::sleep(SHORT / 100);
                    }
                }
                let failure = ranks.barrier().expect_err("a connection is lost");
                failure.to_string()
            })
        });
        ranks.map(|rank| rank.join().expect("a rank"))
    });
    for message in &messages {
        assert!(message.contains("though all ranks are there"), "{message}");
    }
    assert!(
        messages[0].ends_with("(NCCL has lost a connection)"),
        "{messages:?}"
    );
}

/// It lives, and its training does something else.
#[test]
fn a_rank_that_does_not_come_ends_those_that_wait() {
    let ends = ends(|world, ranks| {
        if world.rank != 1 {
            let own = Tensor::<1>::from_floats([1.0], &device());
            // Until the other closes its connections: gloo has no limit of its own.
            let began = Instant::now();
            assert!(ranks.all_reduce(own, Reduction::Sum).is_err());
            assert!(began.elapsed() > 4 * SHORT);
        } else {
            std::thread::sleep(5 * SHORT);
            drop(ranks);
            drop(world);
            return;
        }
        std::mem::forget(ranks);
        std::mem::forget(world);
    });
    for (rank, reason, after) in ends.iter().filter(|end| end.0 != 1) {
        let expected = format!(
            "rank {rank} of 3: adding up values failed: rank 1 lives and does not come to it"
        );
        assert!(reason.starts_with(&expected), "{reason}");
        assert!(*after > SHORT / 2 && *after < 4 * SHORT, "{after:?}");
    }
}

/// Its reason reaches those that are busy with something else.
#[test]
fn a_rank_that_leaves_ends_those_that_cannot_look() {
    let ends = ends(|world, ranks| {
        if world.rank == 2 {
            world.leave("cannot read 7.jpg");
        }
        std::mem::forget(ranks);
        std::mem::forget(world);
    });
    for (rank, reason, after) in ends.iter().filter(|end| end.0 != 2) {
        assert!(
            reason.contains("rank 2 has ended: cannot read 7.jpg"),
            "{reason}"
        );
        assert!(*after < 2 * SHORT, "rank {rank}: {after:?}");
    }
}

/// The run is over for all when it is for one: the rest of it takes as long as it likes.
#[test]
fn ranks_may_part_at_different_times() {
    let port = port();
    let ends = Arc::new(Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for number in 0..2 {
            let ends = Arc::clone(&ends);
            scope.spawn(move || {
                let end = Arc::new(move |reason: &str| {
                    ends.lock().expect("not poisoned").push(reason.to_owned());
                });
                let timeout = Duration::from_secs(1);
                let world = World::join(&place(number, 2, port), Transport::Gloo, timeout, end);
                let world = world.expect("joins");
                let ranks = Ranks::all(&world).expect("a group");
                ranks.barrier().expect("all are there");
                // The one that keeps the store goes first, and waits for the other in vain.
                std::thread::sleep(Duration::from_secs(if number == 0 { 0 } else { 9 }));
            });
        }
    });
    let ends = ends.lock().expect("not poisoned");
    assert!(ends.is_empty(), "{ends:?}");
}
