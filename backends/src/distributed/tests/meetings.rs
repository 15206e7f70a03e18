//! Two runs at one place: the first goes on as if nobody had come. Ranks that meet in vain: all say the same.

use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use burn::tensor::Tensor;
use selfcls_core::collective::{Collective, Reduction};

use super::{TIMEOUT, device, floats, joined, place, port};
use crate::distributed::ffi::Store;
use crate::distributed::meeting::Meeting;
use crate::{Launcher, Rendezvous};

/// A pair that `launcher` has started trains on one port, and processes come too much, whose errors are returned.
fn beside(launcher: Launcher, first: &str, second: &str, ranks: &[usize]) -> Vec<String> {
    let port = port();
    let of = |rank: usize, run: &str| Rendezvous {
        run: run.to_owned(),
        launcher,
        ..place(rank, 2, port)
    };
    std::thread::scope(|scope| {
        let (come, arrived) = std::sync::mpsc::channel();
        let (refuse, refused) = std::sync::mpsc::channel::<()>();
        let mut refused = Some(refused);
        for rank in 0..2 {
            let (place, come, refused) = (of(rank, first), come.clone(), refused.take());
            scope.spawn(move || {
                let peers = joined(&place, TIMEOUT).expect("joins");
                let sum = || {
                    let own = Tensor::<1>::from_floats([1.0], &device());
                    floats(peers.all_reduce(own, Reduction::Sum).expect("a sum"))
                };
                assert_eq!(sum(), [2.0]);
                come.send(()).expect("awaited");
                if let Some(refused) = refused {
                    // An error, for the sender is dropped.
                    let _ = refused.recv();
                }
                // Longer than it takes to hear of a failure.
                std::thread::sleep(Duration::from_secs(4));
                assert_eq!(sum(), [2.0]);
                assert!(peers.check().is_ok());
            });
        }
        // Else one that has panicked would be waited for by itself.
        drop(come);
        let limit = 2 * TIMEOUT;
        arrived.recv_timeout(limit).expect("one is there");
        arrived.recv_timeout(limit).expect("both are there");
        let errors = ranks.iter().map(|&rank| {
            let began = Instant::now();
            let error = joined(&of(rank, second), TIMEOUT).expect_err("is refused");
            assert!(began.elapsed() < TIMEOUT / 2, "it waited: {error}");
            error
        });
        let errors = errors.collect();
        drop(refuse);
        errors
    })
}

/// Its launcher says nothing of itself.
#[test]
fn a_place_is_taken_once() {
    let errors = beside(Launcher::Torchrun, "", "", &[0, 1]);
    assert!(
        errors[0].contains("cannot open the meeting point"),
        "{}",
        errors[0]
    );
    assert!(
        errors[1].contains("another run meets at 127.0.0.1:"),
        "{}",
        errors[1]
    );
    assert!(
        errors[1].contains("it has a rank 1 already"),
        "{}",
        errors[1]
    );
    assert!(
        errors
            .iter()
            .all(|error| error.contains("choose another MASTER_PORT"))
    );
}

#[test]
fn runs_with_names_are_told_apart() {
    let errors = beside(Launcher::Slurm, "slurm 7.0", "slurm 8.0", &[0, 1]);
    let expected = "start 0 of \"slurm 7.0\", and this is start 0 of \"slurm 8.0\"";
    assert!(errors[1].contains(expected), "{}", errors[1]);
    assert!(
        errors[1].contains("choose another MASTER_PORT"),
        "{}",
        errors[1]
    );
}

/// Its first rank has come, the second has not yet: one that is of another run does not take its place.
#[test]
fn a_run_that_is_not_complete_waits_for_its_own() {
    let port = port();
    let of = |rank: usize, run: &str| Rendezvous {
        run: run.to_owned(),
        ..place(rank, 2, port)
    };
    std::thread::scope(|scope| {
        let first =
            scope.spawn(move || joined(&of(0, "one"), TIMEOUT).map(|peers| peers.barrier()));
        let error = joined(&of(1, "two"), TIMEOUT).expect_err("is refused");
        assert!(error.contains("another run meets"), "{error}");
        let second = joined(&of(1, "one"), TIMEOUT).expect("joins");
        second.barrier().expect("both are there");
        first
            .join()
            .expect("a rank")
            .expect("joins")
            .expect("both are there");
    });
}

/// Where a port cannot be chosen by the variable, it is not said to be.
#[test]
fn another_place_is_chosen_where_the_launcher_lets_one() {
    for (launcher, run, fix) in [
        (
            Launcher::Selfcls,
            "launch 7",
            "give `launch` another --master-port",
        ),
        (
            Launcher::Torchrun,
            "c0ffee",
            "give torchrun another --master-port",
        ),
        (Launcher::Mpi, "mpi 7[0] ", "choose another MASTER_PORT"),
    ] {
        let errors = beside(launcher, run, "another", &[0, 1]);
        assert!(
            errors.iter().all(|error| error.ends_with(fix)),
            "no {fix} in {errors:?}"
        );
    }
}

/// What ranks say that meet in vain, each with the time for which it waits.
fn in_vain(ranks: &[(usize, Duration)], of: impl Fn(usize) -> Rendezvous + Sync) -> Vec<String> {
    std::thread::scope(|scope| {
        let start = |&(rank, timeout): &(usize, Duration)| {
            let of = &of;
            scope.spawn(move || joined(&of(rank), timeout).expect_err("one is missing"))
        };
        let threads: Vec<_> = ranks.iter().map(start).collect();
        let said = threads.into_iter().map(|thread| thread.join());
        said.map(|said| said.expect("a rank")).collect()
    })
}

/// How long a rank waits that gives up before the others.
const SHORT: Duration = Duration::from_secs(8);
/// How long these would wait.
const LONG: Duration = Duration::from_secs(60);

/// Rank 0 gives up, and takes the store along while the others could still wait.
#[test]
fn all_name_the_rank_that_does_not_come() {
    let port = port();
    let ranks = [(0, SHORT), (1, LONG), (2, LONG)];
    for said in in_vain(&ranks, |rank| place(rank, 4, port)) {
        let expected = format!("rank 3 of 4 did not come to 127.0.0.1:{port} within 8 s");
        assert!(said.starts_with(&expected), "{said}");
    }
}

/// The launcher keeps the store, in which no list of processes is made before one of each rank has come.
#[test]
fn all_name_the_rank_that_does_not_come_to_a_launcher() {
    let port = port();
    let agent = Store::open("127.0.0.1", port, true, TIMEOUT, "agent").expect("serves");
    let of = |size| {
        move |rank| Rendezvous {
            agent_store: true,
            ..place(rank, size, port)
        }
    };
    let name = |missing: &str, said: Vec<String>| {
        let expected = format!("{missing} did not come to 127.0.0.1:{port} within 8 s");
        for said in said {
            assert!(said.starts_with(&expected), "{said}");
        }
    };
    let ranks = [(0, LONG), (1, SHORT), (2, LONG)];
    name("rank 3 of 4", in_vain(&ranks, of(4)));
    // Of a smaller start all have been there: rank 0 makes a list, with those.
    let ranks = [(0, LONG), (1, SHORT)];
    name("rank 2 of 3", in_vain(&ranks, of(3)));
    // Nobody makes one.
    let ranks = [(1, LONG), (2, SHORT)];
    name("rank 0 of 3", in_vain(&ranks, of(3)));
    drop(agent);
}

/// Rank 0 is killed before all have come: nobody can tell who would not have. How many had come is known where it kept the
/// store; a launcher's may have had others.
#[test]
fn a_store_that_goes_is_no_fault_of_those_that_came() {
    for (agent_store, keeper, key, number) in [
        (false, "rank 0", "arrived", Some("; 2 of 4 had")),
        (true, "the launcher", "comers", None),
    ] {
        let port = port();
        let of = |rank| Rendezvous {
            agent_store,
            ..place(rank, 4, port)
        };
        let store = Store::open("127.0.0.1", port, true, TIMEOUT, "another");
        let store = store.expect("serves");
        let said = std::thread::scope(|scope| {
            let said = scope.spawn(|| in_vain(&[(1, LONG), (2, LONG)], of));
            let run = Meeting::of(&of(0)).again(TIMEOUT);
            let mut run = run.expect("a store");
            let both_are_there = |text: Option<String>| match text.as_deref() {
                Some(text) => text == "2" || text.lines().count() == 2,
                None => false,
            };
            let began = Instant::now();
            while !both_are_there(run.get(key).expect("a store")) {
                assert!(began.elapsed() < LONG, "they do not come");
                sleep(Duration::from_millis(20));
            }
            // For both to see that.
            sleep(Duration::from_secs(2));
            drop((run, store));
            said.join().expect("two ranks")
        });
        let number = number.unwrap_or_default();
        let expected =
            format!("{keeper} at 127.0.0.1:{port} is gone before all had come{number} (");
        for said in said {
            assert!(said.starts_with(&expected), "{said}");
        }
    }
}

/// One of two ranks that were started `attempts` times before, as each of their launchers counts.
fn counted(attempts: [u32; 2], rank: usize, port: u16, agent_store: bool) -> Rendezvous {
    Rendezvous {
        attempt: attempts[rank],
        run: "c0ffee".into(),
        agent_store,
        ..place(rank, 2, port)
    }
}

/// What two ranks at these places add up.
fn meet(of: impl Fn(usize) -> Rendezvous + Sync) -> Vec<f32> {
    let sum = |peers: Arc<dyn Collective>| {
        let own = Tensor::<1>::from_floats([1.0], &device());
        floats(peers.all_reduce(own, Reduction::Sum).expect("a sum"))[0]
    };
    std::thread::scope(|scope| {
        let ranks = [0, 1].map(|rank| {
            let of = &of;
            scope.spawn(move || sum(joined(&of(rank), TIMEOUT).expect("joins")))
        });
        ranks.map(|rank| rank.join().expect("a rank")).into()
    })
}

/// An agent of torchrun that starts its ranks again because another does counts that as no start. Their store goes on.
#[test]
fn ranks_meet_again_whose_agents_count_differently() {
    let port = port();
    let agent = Store::open("127.0.0.1", port, true, TIMEOUT, "agent").expect("serves");
    for attempts in [[0, 0], [0, 1], [0, 1], [1, 1]] {
        let sums = meet(|rank| counted(attempts, rank, port, true));
        assert_eq!(sums, [2.0, 2.0], "{attempts:?}");
    }
    // What earlier starts left is not taken for one that comes.
    for (here, missing) in [(0, 1), (1, 0)] {
        let ranks = [(here, Duration::from_secs(3))];
        let said = in_vain(&ranks, |rank| counted([2, 2], rank, port, true));
        let expected = format!("rank {missing} of 2 did not come");
        assert!(said[0].starts_with(&expected), "{said:?}");
    }
    drop(agent);
}

/// Rank 0 keeps the store for one start only, which has the same number everywhere where torchrun does not count.
#[test]
fn starts_are_told_apart_where_launchers_count_them_for_all() {
    let sums = {
        let port = port();
        meet(|rank| counted([1, 2], rank, port, false))
    };
    assert_eq!(sums, [2.0, 2.0]);
    let port = port();
    let of = |rank| Rendezvous {
        launcher: Launcher::Slurm,
        ..counted([1, 2], rank, port, false)
    };
    let said = in_vain(&[(0, SHORT), (1, SHORT)], of);
    let expected = "start 1 of \"c0ffee\", and this is start 2 of \"c0ffee\"";
    assert!(said[1].contains(expected), "{said:?}");
    assert!(said[0].starts_with("rank 1 of 2 did not come"), "{said:?}");
}
