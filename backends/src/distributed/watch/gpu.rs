//! How far a GPU has come with what it was given.

use std::time::Duration;

use super::Shared;
use crate::distributed::ffi::Mark;

/// Between two looks at a mark.
const GLANCE: Duration = Duration::from_millis(200);

/// Sets a mark behind all that the GPU has been given, waits until it is reached, and sets the next. The calls may
/// block where the driver is busy: hence a thread for them.
pub(super) fn run(shared: &Shared, device: usize) {
    loop {
        {
            let mut seen = shared.seen();
            if seen.ended {
                return;
            }
            seen.behind = Some((seen.now, seen.operation));
        }
        let Ok(mark) = Mark::new(device) else {
            // The training hears of it, too.
            shared.seen().behind = None;
            return;
        };
        loop {
            if shared.seen().ended {
                // At the end of the process nothing is to be called any more.
                std::mem::forget(mark);
                return;
            }
            match mark.is_reached() {
                Ok(false) => std::thread::sleep(GLANCE),
                Ok(true) => break,
                Err(_) => {
                    shared.seen().behind = None;
                    return;
                }
            }
        }
        shared.seen().behind = None;
        std::thread::sleep(GLANCE);
    }
}
