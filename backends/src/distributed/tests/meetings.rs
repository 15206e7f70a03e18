//! Two runs at one place: the first goes on as if nobody had come. Ranks that meet in vain: all say the same.

use std::thread::sleep;
use std::time::{Duration, Instant};

use burn::tensor::Tensor;
use selfcls_core::collective::Reduction;

use super::{TIMEOUT, device, floats, joined, place, port};
use crate::distributed::ffi::Store;
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

/// What ranks say that meet in vain, each after some time.
fn in_vain(
    ranks: &[(usize, Duration)],
    timeout: Duration,
    of: impl Fn(usize) -> Rendezvous + Sync,
) -> Vec<String> {
    std::thread::scope(|scope| {
        let start = |&(rank, after): &(usize, Duration)| {
            let of = &of;
            scope.spawn(move || {
                sleep(after);
                joined(&of(rank), timeout).expect_err("one is missing")
            })
        };
        let threads: Vec<_> = ranks.iter().map(start).collect();
        let said = threads.into_iter().map(|thread| thread.join());
        said.map(|said| said.expect("a rank")).collect()
    })
}

/// Rank 0 came long before the others, and takes the store along while they could still wait.
#[test]
fn all_name_the_rank_that_does_not_come() {
    let (port, timeout) = (port(), Duration::from_secs(6));
    let late = Duration::from_secs(4);
    let ranks = [(0, Duration::ZERO), (1, late), (2, late)];
    for said in in_vain(&ranks, timeout, |rank| place(rank, 4, port)) {
        let expected = format!("rank 3 of 4 did not come to 127.0.0.1:{port} within 6 s");
        assert!(said.starts_with(&expected), "{said}");
    }
}

/// Rank 0 is killed before all have come: nobody can tell who would not have.
#[test]
fn a_store_that_goes_is_no_fault_of_those_that_came() {
    let (port, timeout) = (port(), Duration::from_secs(10));
    for (agent_store, keeper) in [(false, "rank 0"), (true, "the launcher")] {
        let store = Store::open("127.0.0.1", port, true, timeout, "another");
        let store = store.expect("serves");
        let of = |rank| Rendezvous {
            agent_store,
            ..place(rank, 3, port)
        };
        let said = std::thread::scope(|scope| {
            let said = scope.spawn(|| in_vain(&[(1, Duration::ZERO)], timeout, of));
            sleep(Duration::from_secs(2));
            drop(store);
            said.join().expect("a rank")
        });
        let expected =
            format!("{keeper} at 127.0.0.1:{port} is gone before all had come; 1 of 3 had");
        assert!(said[0].starts_with(&expected), "{said:?}");
    }
}
