//! Whether NCCL has lost a connection.
//!
//! Its operations return before they are done, and what waits for their results is not told that they have failed. Over a network
//! NCCL notices when the other end of a connection is gone, long before the timeout, and says so to whoever asks. (Between GPUs of
//! one machine it notices nothing.)

use std::time::Duration;

use super::Shared;

/// Between two questions.
const GLANCE: Duration = Duration::from_millis(200);

/// Says whether a group of ranks has lost a connection, and waits for nothing.
pub(in crate::distributed) type Link = Box<dyn Fn() -> bool + Send>;

/// Asks until the watch ends, or one is lost.
pub(super) fn run(shared: &Shared) {
    while !shared.seen().ended {
        if shared.links().iter().any(|is_lost| is_lost()) {
            let mut seen = shared.seen();
            seen.lost = Some(seen.now);
            return;
        }
        std::thread::sleep(GLANCE);
    }
}
