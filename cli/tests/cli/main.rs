//! The binary as a user meets it: output, exit codes and messages, in fresh directories.

#![allow(clippy::unwrap_used)]

mod convert;
mod demo;
mod eval;
mod export;
mod images;
mod killed;
mod launch;
#[allow(unreachable_pub, reason = "it is a part of another crate, too")]
#[path = "../../../tests/src/launchers.rs"]
mod launchers;
mod metrics;
mod predict;
#[cfg(unix)]
#[allow(
    clippy::expect_used,
    unreachable_pub,
    reason = "it is a part of another crate, too"
)]
#[path = "../../../tests/src/preloaded.rs"]
mod preloaded;
mod ran;
#[cfg(unix)]
mod signals;
#[cfg(unix)]
mod slurm;
mod sources;
mod usage;
