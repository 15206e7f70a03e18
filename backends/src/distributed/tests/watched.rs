//! Ranks that are watched over: what their watchers say when one is lost, and how long that takes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::time::{Duration, Instant};

use burn::tensor::Tensor;
use selfcls_core::collective::{Collective, Reduction};

use super::{device, place, port};
use crate::distributed::ffi::Transport;
use crate::distributed::ranks::Ranks;
use crate::distributed::watch::{Place, Watch};
use crate::distributed::world::{FAREWELL, World};

/// How long ranks wait for each other.
const SHORT: Duration = Duration::from_secs(4);

/// How long they wait where nothing that is looked for takes as long as that, on a busy machine either.
const LONG: Duration = Duration::from_secs(60);

/// What the watchers of three ranks that wait for `timeout` say at the end of each, and how long after they have met, where `rank`
/// is what its training does.
fn ends(
    timeout: Duration,
    rank: impl Fn(Arc<World>, Ranks) + Sync,
) -> Vec<(usize, String, Duration)> {
    let port = port();
    let (say, said) = mpsc::channel();
    let met = OnceLock::new();
    std::thread::scope(|scope| {
        for number in 0..3 {
            let (rank, say, met) = (&rank, say.clone(), &met);
            scope.spawn(move || {
                let end = Arc::new(move |reason: &str| {
                    // Whoever has been waited for listens no more.
                    let _ = say.send((number, reason.to_owned(), Instant::now()));
                });
                let place = place(number, 3, port);
                let world = World::join(&place, Transport::Gloo, timeout, end).expect("joins");
                let ranks = Ranks::all(&world).expect("a group");
                ranks.barrier().expect("all are there");
                met.get_or_init(Instant::now);
                rank(world, ranks);
            });
        }
        let mut ends = Vec::new();
        while ends.len() < 2 {
            let (rank, reason, at) = said.recv_timeout(3 * LONG).expect("an end");
            let met = *met.get().expect("they have met");
            ends.push((rank, reason, at - met));
        }
        ends
    })
}

/// As where a process is killed or its machine is lost and connections stay as they are; the others wait for something that
/// no failed connection interrupts.
#[test]
fn a_rank_that_falls_silent_ends_those_that_cannot_look() {
    let ends = ends(SHORT, |world, ranks| {
        if world.rank == 2 {
            // Not before all have heard of it.
            std::thread::sleep(SHORT);
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
        assert!(after > SHORT / 2 && after < LONG, "{after:?}");
    }
}

/// Where NCCL loses a connection the timeout is not waited for: whoever falls silent was at its other end.
#[test]
fn a_lost_connection_ends_those_that_cannot_look() {
    let lost = Arc::new(AtomicBool::new(false));
    let ends = ends(LONG, |world, ranks| {
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
        assert!(after < LONG, "{after:?}");
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
                let world = World::join(&place(number, 2, port), Transport::Gloo, LONG, end);
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
    let ends = ends(SHORT, |world, ranks| {
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
        assert!(*after > SHORT / 2 && *after < LONG, "{after:?}");
    }
}

/// Its reason reaches those that are busy with something else.
#[test]
fn a_rank_that_leaves_ends_those_that_cannot_look() {
    let ends = ends(LONG, |world, ranks| {
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
        assert!(*after < LONG, "rank {rank}: {after:?}");
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
                let timeout = Duration::from_secs(6);
                let world = World::join(&place(number, 2, port), Transport::Gloo, timeout, end);
                let world = world.expect("joins");
                let ranks = Ranks::all(&world).expect("a group");
                ranks.barrier().expect("all are there");
                // The one that keeps the store goes first, and waits for the other in vain.
                if number == 1 {
                    std::thread::sleep(FAREWELL + timeout + SHORT);
                }
            });
        }
    });
    let ends = ends.lock().expect("not poisoned");
    assert!(ends.is_empty(), "{ends:?}");
}

/// A rank 0 that is stopped keeps its connections, and answers nobody; one that is killed refuses them.
#[test]
fn a_store_that_does_not_answer_is_not_gone() {
    let place = |timeout| Place {
        rank: 1,
        size: 2,
        serves: false,
        rank_0_serves: true,
        timeout,
    };
    let end = |timeout: Duration, waits: bool| {
        let (say, said) = mpsc::channel();
        let end = Arc::new(move |reason: &str| {
            // The one that listens may have seen enough.
            let _ = say.send(reason.to_owned());
        });
        let watch = Watch::start(place(timeout), end).expect("a thread");
        let open = move |limit| {
            if waits {
                std::thread::sleep(limit);
            }
            Err("no answer".into())
        };
        watch.all_have_met(Transport::Gloo, open).expect("a thread");
        said.recv_timeout(3 * LONG).expect("an end")
    };
    let reason = end(LONG, false);
    assert!(reason.contains("rank 0 is gone"), "{reason}");
    // Longer than two attempts to reach it.
    let reason = end(Duration::from_secs(22), true);
    assert!(reason.contains("rank 0 gives no sign of life"), "{reason}");
    assert!(reason.ends_with("with it the meeting point"), "{reason}");
}
