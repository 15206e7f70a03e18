//! Saying what was not run.

use std::io::Write;

/// Reports that `test` (or a part of it, `test[part]`) cannot run on this machine.
///
/// Written to standard error itself: what goes through `eprintln!` is swallowed by the test harness
/// when the test passes.
pub fn not_run(test: &str, reason: impl std::fmt::Display) {
    let reason = reason.to_string().replace('\n', " ");
    // Nothing is lost when standard error is closed: then nobody reads it.
    let _ = writeln!(std::io::stderr(), "NOT RUN: {test}: {reason}");
}
