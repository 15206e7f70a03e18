//! The binary as a user meets it: output, exit codes and messages, in fresh directories.

#![allow(clippy::unwrap_used)]

mod convert;
mod demo;
mod eval;
mod export;
mod images;
mod killed;
mod launch;
mod metrics;
mod predict;
mod ran;
#[cfg(unix)]
mod signals;
#[cfg(unix)]
mod slurm;
mod sources;
mod usage;
