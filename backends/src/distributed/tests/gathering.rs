//! A meeting of ranks that are threads.

use std::sync::{Condvar, Mutex};
use std::time::Duration;

use super::TIMEOUT;

/// Where `size` ranks wait for each other, and not for ever, as at a `Barrier`: one that has panicked does not come.
pub(in crate::distributed) struct Gathering {
    size: usize,
    limit: Duration,
    /// How often one has come.
    count: Mutex<usize>,
    changed: Condvar,
}

impl Gathering {
    pub(in crate::distributed) fn new(size: usize, limit: Duration) -> Self {
        Self {
            size,
            limit,
            count: Mutex::new(0),
            changed: Condvar::new(),
        }
    }

    /// Waits until all have come as often as this rank.
    #[track_caller]
    pub(in crate::distributed) fn wait(&self) {
        self.wait_for(self.limit);
    }

    #[track_caller]
    fn wait_for(&self, limit: Duration) {
        let mut count = self.count.lock().expect("not poisoned");
        let all = (*count / self.size + 1) * self.size;
        *count += 1;
        self.changed.notify_all();
        let waited = self
            .changed
            .wait_timeout_while(count, limit, |count| *count < all);
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

/// Twice both come, the third time one.
#[test]
fn one_that_does_not_come_is_not_waited_for() {
    let gathering = Gathering::new(2, TIMEOUT);
    let came = std::thread::scope(|scope| {
        let ranks = [false, true].map(|comes_again| {
            let gathering = &gathering;
            scope.spawn(move || {
                gathering.wait();
                gathering.wait();
                if comes_again {
                    gathering.wait_for(Duration::from_millis(300));
                }
            })
        });
        ranks.map(|rank| rank.join().is_ok())
    });
    assert_eq!(came, [true, false]);
}
