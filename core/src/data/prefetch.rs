//! Working ahead: a thread that makes items in order while the last ones are in use.

use crate::panics::{message, wants_memory};
use crate::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

/// Items made ahead of the one in use.
const AHEAD: usize = 2;

/// Tells whoever makes an item whether anybody still waits for it.
#[derive(Clone, Default)]
pub(super) struct Demand(Arc<AtomicBool>);

impl Demand {
    /// To be asked between the parts of an item that takes long, so that nobody who has lost interest
    /// has to wait for the end of it.
    ///
    /// # Errors
    /// If the item is no longer wanted. Nobody will see the error.
    pub(super) fn check(&self) -> Result<()> {
        if self.0.load(Ordering::Relaxed) {
            return Err(Error::Data("the images are no longer wanted".into()));
        }
        Ok(())
    }

    fn end(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The results of a function for 0, 1, 2, ..., made on a thread of their own. Ends after the first error.
pub(super) struct Prefetch<T> {
    demand: Demand,
    receiver: Option<Receiver<Result<T>>>,
    thread: Result<JoinHandle<()>, String>,
    left: usize,
}

impl<T: Send + 'static> Prefetch<T> {
    /// `make(0)` to `make(count - 1)`.
    pub(super) fn new(
        count: usize,
        make: impl Fn(usize, &Demand) -> Result<T> + Send + 'static,
    ) -> Self {
        let demand = Demand::default();
        let (sender, receiver) = sync_channel(AHEAD - 1);
        let demanded = demand.clone();
        let work = move || {
            for number in 0..count {
                let item = make(number, &demanded);
                let failed = item.is_err();
                // A closed channel means that nobody wants the rest.
                if sender.send(item).is_err() || failed {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("images".into())
            .spawn(work);
        Self {
            demand,
            receiver: thread.is_ok().then_some(receiver),
            thread: thread.map_err(|error| format!("it could not be started: {error}")),
            left: count,
        }
    }
}

impl<T> Prefetch<T> {
    /// Why there are no items: the thread was never there, or has panicked.
    fn failure(&mut self) -> Error {
        let gone = Err("it has failed before".into());
        let panicked = |thread: JoinHandle<()>| match thread.join() {
            Ok(()) => "it has ended".into(),
            Err(payload) => message(&*payload).to_owned(),
        };
        let why = std::mem::replace(&mut self.thread, gone).map_or_else(|why| why, panicked);
        let text = format!("the thread that prepares images has failed: {why}");
        if wants_memory(&why) {
            Error::Memory(text)
        } else {
            Error::Failed(text)
        }
    }
}

impl<T> Iterator for Prefetch<T> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let item = self
            .receiver
            .as_ref()
            .and_then(|receiver| receiver.recv().ok());
        let item = item.unwrap_or_else(|| Err(self.failure()));
        self.left = if item.is_ok() { self.left - 1 } else { 0 };
        Some(item)
    }
}

impl<T> Drop for Prefetch<T> {
    fn drop(&mut self) {
        // First, the thread must see that it is done: in the middle of an item by the one, between two
        // by the other.
        self.demand.end();
        self.receiver = None;
        let thread = std::mem::replace(&mut self.thread, Err(String::new()));
        if let Ok(thread) = thread {
            // Its panic, if there was one, has been reported by `next`.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_in_order_and_end() {
        let all: Vec<usize> = Prefetch::new(10, |n, _| Ok(n))
            .collect::<Result<_>>()
            .expect("all");
        assert_eq!(all, (0..10).collect::<Vec<_>>());
        assert_eq!(Prefetch::<u8>::new(0, |_, _| unreachable!()).count(), 0);
    }

    #[test]
    fn an_error_or_a_panic_ends_it() {
        let fail = |n, _: &Demand| {
            if n < 2 {
                Ok(n)
            } else {
                Err(Error::Data("broken".into()))
            }
        };
        let results: Vec<_> = Prefetch::new(10, fail).collect();
        assert_eq!(results.len(), 3);
        assert!(
            results[2]
                .as_ref()
                .is_err_and(|error| error.to_string() == "broken")
        );
        let results: Vec<_> =
            Prefetch::new(10, |n, _| if n < 1 { Ok(n) } else { panic!("a test's") }).collect();
        assert_eq!(results.len(), 2);
        let message = results[1].as_ref().expect_err("a panic").to_string();
        assert!(message.ends_with("has failed: a test's"), "{message}");
    }

    #[test]
    fn dropping_it_stops_the_thread() {
        let mut items = Prefetch::new(usize::MAX, |n, _| Ok(n));
        assert!(items.next().is_some());
        drop(items); // Would hang if the thread went on.
    }

    #[test]
    fn dropping_it_stops_an_item_in_the_making() {
        let endless = |_, demand: &Demand| -> Result<()> {
            loop {
                demand.check()?;
                std::thread::yield_now();
            }
        };
        drop(Prefetch::new(1, endless)); // Would hang if the item had to be finished.
    }
}
