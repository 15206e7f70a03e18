//! How many pictures may be under way.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// How many pictures may still be taken from their source; none any more when it has ended.
pub(super) struct Permits {
    free: Mutex<Option<usize>>,
    changed: Condvar,
}

impl Permits {
    pub(super) fn new(count: usize) -> Self {
        Self {
            free: Mutex::new(Some(count)),
            changed: Condvar::new(),
        }
    }

    /// Waits for a permit; false if there will be none.
    pub(super) fn take(&self) -> bool {
        let mut free = self.free();
        loop {
            match *free {
                None => return false,
                Some(0) => {
                    let waited = self.changed.wait(free);
                    free = waited.unwrap_or_else(PoisonError::into_inner);
                }
                Some(count) => {
                    *free = Some(count - 1);
                    return true;
                }
            }
        }
    }

    pub(super) fn give(&self) {
        if let Some(count) = &mut *self.free() {
            *count += 1;
        }
        self.changed.notify_one();
    }

    pub(super) fn end(&self) {
        *self.free() = None;
        self.changed.notify_all();
    }

    fn free(&self) -> MutexGuard<'_, Option<usize>> {
        // A number is never half changed.
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
