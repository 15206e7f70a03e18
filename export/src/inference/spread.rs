//! Images prepared on several threads, no more than were allowed ([`super::Options::threads`]): a pool that is shared
//! with the application would not keep to that.

use std::panic::resume_unwind;
use std::sync::{Mutex, PoisonError};
use std::thread::{Builder, scope};

/// Lets `work` fill the place of every image in `out`, `length` numbers each, on up to `threads` threads, of which this
/// is one.
pub(super) fn spread<I: Sync, T: Send>(
    threads: usize,
    images: &[I],
    (out, length): (&mut [T], usize),
    work: impl Fn(&I, &mut [T]) + Sync,
) {
    let helpers = threads.min(images.len()).saturating_sub(1);
    // Images differ in size: whoever is done takes the next one.
    let left = Mutex::new(images.iter().zip(out.chunks_exact_mut(length)));
    let take = || left.lock().unwrap_or_else(PoisonError::into_inner).next();
    let help = || {
        while let Some((image, place)) = take() {
            work(image, place);
        }
    };
    scope(|scope| {
        // Where the system has no thread left, the others do its share.
        let spawned = (0..helpers).map(|_| Builder::new().spawn_scoped(scope, help));
        let spawned: Vec<_> = spawned.flatten().collect();
        help();
        // By itself a scope waits for their work only, and they may still be there when those of the network start.
        for helper in spawned {
            if let Err(panic) = helper.join() {
                resume_unwind(panic);
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::sync::Barrier;
    use std::thread::{ThreadId, current};

    #[test]
    fn every_image_is_prepared_once_in_its_place() {
        let images: Vec<usize> = (0..101).collect();
        for threads in [0, 1, 2, 7, 200] {
            let mut out = vec![0; 202];
            spread(threads, &images, (&mut out, 2), |image, place| {
                place[0] += image;
                place[1] += 2 * image;
            });
            let expected: Vec<usize> = images.iter().flat_map(|&i| [i, 2 * i]).collect();
            assert_eq!(out, expected, "{threads} threads");
        }
        spread(2, &[0; 0], (&mut [0; 0], 2), |_, _| panic!("no image"));
    }

    #[test]
    fn all_threads_work_and_no_more() {
        let seen = Mutex::new(BTreeSet::new());
        let name = |id: ThreadId| format!("{id:?}");
        for threads in [1, 3] {
            seen.lock().expect("nobody panicked").clear();
            // Everybody waits for everybody once.
            let barrier = Barrier::new(threads);
            let mut out = vec![0; threads];
            spread(threads, &vec![(); threads], (&mut out, 1), |(), _| {
                barrier.wait();
                let mut seen = seen.lock().expect("nobody panicked");
                seen.insert(name(current().id()));
            });
            assert_eq!(seen.lock().expect("nobody panicked").len(), threads);
        }
    }
}
