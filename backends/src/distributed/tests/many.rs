//! More ranks than a machine has cores: what their watchers ask of the one store, and whether all hear of an end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use super::gathering::Gathering;
use super::{TIMEOUT, place, port};
use crate::distributed::ffi::Transport;
use crate::distributed::world::World;

/// Lets `size` ranks meet, without a group, and gives each to `rank`, with what tells it that its watcher has ended it. Returns
/// what they are ended with.
fn watched(
    size: usize,
    timeout: Duration,
    rank: impl Fn(Arc<World>, &AtomicBool) + Sync,
) -> Vec<(usize, String)> {
    let port = port();
    let (say, said) = mpsc::channel();
    std::thread::scope(|scope| {
        for number in 0..size {
            let (rank, say) = (&rank, say.clone());
            scope.spawn(move || {
                let ended = Arc::new(AtomicBool::new(false));
                let has_ended = Arc::clone(&ended);
                let end = Arc::new(move |reason: &str| {
                    let _ = say.send((number, reason.to_owned()));
                    has_ended.store(true, Ordering::SeqCst);
                });
                let place = place(number, size, port);
                let world = World::join(&place, Transport::Gloo, timeout, end);
                rank(world.expect("joins"), &ended);
            });
        }
    });
    drop(say);
    said.try_iter().collect()
}

#[test]
fn sixteen_ranks_hear_of_one_that_leaves() {
    const RANKS: usize = 16;
    let all_there = Gathering::new(RANKS, 4 * TIMEOUT);
    let all_ended = Gathering::new(RANKS, 4 * TIMEOUT);
    let ends = watched(RANKS, TIMEOUT, |world, ended| {
        all_there.wait();
        if world.rank == 5 {
            world.leave("cannot read 7.jpg");
        }
        let began = Instant::now();
        while !ended.load(Ordering::SeqCst) && world.rank != 5 {
            assert!(began.elapsed() < 2 * TIMEOUT, "rank {}", world.rank);
            std::thread::sleep(Duration::from_millis(20));
        }
        all_ended.wait();
        std::mem::forget(world);
    });
    let mut others: Vec<usize> = ends
        .iter()
        .map(|end| end.0)
        .filter(|&rank| rank != 5)
        .collect();
    others.sort_unstable();
    assert_eq!(
        others,
        (0..RANKS).filter(|&rank| rank != 5).collect::<Vec<_>>()
    );
    for (rank, reason) in ends.iter().filter(|end| end.0 != 5) {
        assert!(
            reason.starts_with(&format!("rank {rank} of {RANKS}: ")),
            "{reason}"
        );
        assert!(
            reason.contains("rank 5 has ended: cannot read 7.jpg"),
            "{reason}"
        );
    }
}

/// Processor time of the threads of this process whose names begin so, in nanoseconds.
#[cfg(target_os = "linux")]
fn nanoseconds(name: &str) -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").expect("a Linux");
    let times = tasks.flatten().filter_map(|task| {
        let read = |file| std::fs::read_to_string(task.path().join(file)).ok();
        let spent = read("schedstat")?.split(' ').next()?.parse::<u64>().ok()?;
        read("comm")?.starts_with(name).then_some(spent)
    });
    times.sum()
}

/// What the watchers of many ranks cost: prints the numbers of `docs/scaling.md`.
#[test]
#[ignore = "measures, and takes a minute"]
#[cfg(target_os = "linux")]
fn what_the_watchers_of_many_ranks_cost() {
    for size in [4, 16, 32, 64, 128] {
        let all_there = Gathering::new(size, Duration::from_secs(120));
        let seconds = 20;
        let ends = watched(size, Duration::from_secs(60), |world, _| {
            all_there.wait();
            if world.rank == 0 {
                std::thread::sleep(Duration::from_secs(4));
                let before = [nanoseconds("pt_tcpstore"), nanoseconds("selfcls-heart")];
                std::thread::sleep(Duration::from_secs(seconds));
                let after = [nanoseconds("pt_tcpstore"), nanoseconds("selfcls-heart")];
                let per_second = |i: usize| (after[i] - before[i]) as f64 / 1e6 / seconds as f64;
                eprintln!(
                    "{size} ranks: the store {:.1} ms per second, all hearts {:.1}",
                    per_second(0),
                    per_second(1)
                );
            }
            all_there.wait();
        });
        assert!(ends.is_empty(), "{ends:?}");
    }
}
