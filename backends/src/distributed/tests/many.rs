//! More ranks than a machine has cores: what their watchers ask of the one store, and whether all hear of an end.

use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::time::{Duration, Instant};

use super::{place, port};
use crate::distributed::ffi::Transport;
use crate::distributed::world::World;

/// Lets `size` ranks meet, without a group, and gives each to `rank`. What they end with comes by the channel.
fn watched(
    size: usize,
    timeout: Duration,
    rank: impl Fn(Arc<World>) + Sync,
) -> Vec<(usize, String, Instant)> {
    let port = port();
    let (say, said) = mpsc::channel();
    std::thread::scope(|scope| {
        for number in 0..size {
            let (rank, say) = (&rank, say.clone());
            scope.spawn(move || {
                let end = Arc::new(move |reason: &str| {
                    let _ = say.send((number, reason.to_owned(), Instant::now()));
                });
                let place = place(number, size, port);
                rank(World::join(&place, Transport::Gloo, timeout, end).expect("joins"));
            });
        }
    });
    drop(say);
    said.try_iter().collect()
}

/// Where `size` ranks wait for each other, and not for ever, as at a `Barrier`: one that has panicked does not come.
struct Gathering {
    size: usize,
    limit: Duration,
    /// How often one has come.
    count: Mutex<usize>,
    changed: Condvar,
}

impl Gathering {
    fn new(size: usize, limit: Duration) -> Self {
        Self {
            size,
            limit,
            count: Mutex::new(0),
            changed: Condvar::new(),
        }
    }

    /// Waits until all have come as often as this rank.
    #[track_caller]
    fn wait(&self) {
        let mut count = self.count.lock().expect("not poisoned");
        let all = (*count / self.size + 1) * self.size;
        *count += 1;
        self.changed.notify_all();
        let waited = self
            .changed
            .wait_timeout_while(count, self.limit, |count| *count < all);
        let (count, waited) = waited.expect("not poisoned");
        let missing = all - (*count).min(all);
        drop(count);
        assert!(
            !waited.timed_out(),
            "{missing} of {} did not come",
            self.size
        );
    }
}

#[test]
fn one_that_does_not_come_is_not_waited_for() {
    let gathering = Gathering::new(2, Duration::from_millis(300));
    // Twice both come, the third time one.
    let counts = std::thread::scope(|scope| {
        let ranks = [2, 3].map(|times| {
            let gathering = &gathering;
            scope.spawn(move || (0..times).for_each(|_| gathering.wait()))
        });
        ranks.map(|rank| rank.join().is_ok())
    });
    assert_eq!(counts, [true, false]);
}

#[test]
fn sixteen_ranks_hear_of_one_that_leaves() {
    const RANKS: usize = 16;
    let timeout = Duration::from_secs(8);
    let all_there = Gathering::new(RANKS, 4 * timeout);
    let all_ended = Gathering::new(RANKS, 4 * timeout);
    let ends = watched(RANKS, timeout, |world| {
        all_there.wait();
        if world.rank == 5 {
            world.leave("cannot read 7.jpg");
        }
        let began = Instant::now();
        while world.watch.found().is_none() && world.rank != 5 {
            assert!(began.elapsed() < timeout, "rank {}", world.rank);
            std::thread::sleep(Duration::from_millis(20));
        }
        // For the watchers to end the ranks.
        std::thread::sleep(timeout * 3 / 4);
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
    for (rank, reason, _) in ends.iter().filter(|end| end.0 != 5) {
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
        let ends = watched(size, Duration::from_secs(60), |world| {
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
