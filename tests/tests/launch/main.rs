//! Many processes: under torchrun, under a Slurm of two nodes that the test itself starts, and under
//! `selfcls-cli launch`.

#![allow(clippy::expect_used, reason = "a failed expectation is a failed test")]
#![cfg(unix)]

mod cluster;
mod program;
mod ranks;

/// Reports `test` as not run if `$what` is an error, and gives the value otherwise.
macro_rules! or_not_run {
    ($test:literal, $what:expr) => {
        match $what {
            Ok(value) => value,
            Err(reason) => return selfcls_tests::not_run(concat!("launch::", $test), reason),
        }
    };
}
pub(crate) use or_not_run;
