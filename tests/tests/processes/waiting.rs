//! Waiting for what processes do: never for ever, and not for those that have ended.

use std::path::Path;
use std::time::{Duration, Instant};

/// No test may wait longer for one thing, however busy the machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(300);
/// How often it is looked whether it is there.
const INTERVAL: Duration = Duration::from_millis(5);
/// How often those are looked after that are to bring it.
const LOOK: Duration = Duration::from_millis(500);

/// Waits until `what` is there. `look` tells whether those still run that are to bring it, and what they have said.
#[track_caller]
pub(crate) fn wait_until(
    what: &str,
    mut there: impl FnMut() -> bool,
    mut look: impl FnMut() -> (bool, String),
) {
    let began = Instant::now();
    let mut next = began + LOOK;
    while !there() {
        std::thread::sleep(INTERVAL);
        if Instant::now() < next {
            continue;
        }
        let (run, said) = look();
        // It may have come right before the end.
        assert!(run || there(), "ended without {what}: {said}");
        assert!(began.elapsed() < LIMIT, "no {what} in {LIMIT:?}: {said}");
        next = Instant::now() + LOOK;
    }
}

/// Lines of the journal of the run in the folder `run`, of which it has none before it has begun: one for each step, and some
/// more at the ends of epochs.
pub(crate) fn journal_lines(run: &Path) -> usize {
    let journal = std::fs::read_to_string(run.join("metrics.jsonl"));
    journal.unwrap_or_default().lines().count()
}

/// [`wait_until`] the journal of the run in the folder `run` has so many lines.
#[track_caller]
pub(crate) fn wait_for_lines(run: &Path, lines: usize, look: impl FnMut() -> (bool, String)) {
    let what = format!("{lines} lines of the journal");
    wait_until(&what, || journal_lines(run) >= lines, look);
}

#[test]
fn what_has_ended_is_not_waited_for() {
    let began = Instant::now();
    let waited = std::panic::catch_unwind(|| {
        wait_until("a miracle", || false, || (false, "my last words".into()))
    });
    let message = waited.expect_err("in vain");
    let message = message.downcast::<String>().expect("a text");
    assert_eq!(*message, "ended without a miracle: my last words");
    assert!(began.elapsed() < LIMIT / 2);
    // At the last moment.
    let mut asked = 0;
    let mut late = || {
        asked += 1;
        asked > 50
    };
    wait_until("it", &mut late, || (true, String::new()));
}
