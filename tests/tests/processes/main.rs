//! Training in several processes, by the binary: equal to one process, and never left hanging.
//!
//! The variables that a launcher would set are set here, or by a launcher: `selfcls-cli launch`, torchrun, and a Slurm of
//! two nodes that the test itself starts. Everything runs on CPUs, through Gloo, and
//! a part of it again where there are several GPUs, through NCCL.

#![allow(clippy::expect_used, reason = "a failed expectation is a failed test")]
#![cfg(unix)]

mod agents;
mod cluster;
mod equality;
mod faults;
mod gpus;
mod jobs;
mod launchers;
mod machines;
mod midway;
mod monitor;
mod nohup;
mod places;
mod ports;
mod preemption;
mod program;
mod ran;
mod resume;
mod seen;
mod start;
mod variants;
mod waiting;

use selfcls_tests::{binary, not_run};
use std::path::PathBuf;

/// The binary, if it can do what the test `name` is about.
fn binary_for(name: &str) -> Option<PathBuf> {
    let test = format!("processes::{name}");
    if cfg!(not(feature = "tch")) {
        not_run(&test, "the backend tch was not built");
        return None;
    }
    let found = binary();
    if found.is_none() {
        not_run(&test, "selfcls-cli was not built");
    }
    found
}

/// Reports `test` as not run if `$what` is an error, and gives the value otherwise.
macro_rules! or_not_run {
    ($test:literal, $what:expr) => {
        match $what {
            Ok(value) => value,
            Err(reason) => return selfcls_tests::not_run(concat!("processes::", $test), reason),
        }
    };
}
pub(crate) use or_not_run;
