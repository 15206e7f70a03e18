//! A fixed number of places, each with one user at a time.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// The places, by number; whoever finds none waits for the first that gets free.
pub(super) struct Places {
    taken: Mutex<Vec<bool>>,
    given_back: Condvar,
}

/// A place of one's own, given back when dropped.
pub(super) struct Place<'a> {
    places: &'a Places,
    number: usize,
}

impl Places {
    pub(super) fn new(count: usize) -> Self {
        Self {
            taken: Mutex::new(vec![false; count]),
            given_back: Condvar::new(),
        }
    }

    /// The lowest free place, so that higher ones are used only where they are needed.
    pub(super) fn take(&self) -> Place<'_> {
        let mut taken = self.taken();
        loop {
            if let Some(number) = taken.iter().position(|taken| !taken) {
                taken[number] = true;
                return Place {
                    places: self,
                    number,
                };
            }
            let waited = self.given_back.wait(taken);
            taken = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn taken(&self) -> MutexGuard<'_, Vec<bool>> {
        // A flag is never half changed.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place<'_> {
    pub(super) fn number(&self) -> usize {
        self.number
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.places.taken()[self.number] = false;
        self.places.given_back.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    #[test]
    fn whoever_waits_gets_the_first_that_is_free() {
        let places = Places::new(2);
        let (first, second) = (places.take(), places.take());
        assert_eq!((first.number(), second.number()), (0, 1));
        let (found, finding) = channel();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let place = places.take();
                found.send(place.number()).expect("somebody listens");
            });
            let wait = Duration::from_millis(50);
            assert!(finding.recv_timeout(wait).is_err(), "both are taken");
            // Not the first one, which stays taken.
            drop(second);
            assert_eq!(finding.recv(), Ok(1));
        });
        drop(first);
        assert_eq!(places.take().number(), 0);
    }
}
