//! What the suites need to meet the binary, and to say what they could not do. The suites
//! themselves are under `tests/`.
//!
//! A test that a machine cannot run is never silent about it: [`not_run`] prints a line
//! `NOT RUN: <test>: <reason>`, and `cargo xtask test` repeats all of them at its end.

mod binary;
mod launchers;
mod preloaded;
mod report;
mod small;
mod threads;

pub use binary::binary;
pub use launchers::is_of_a_launcher;
pub use preloaded::preloaded;
pub use report::not_run;
pub use small::small_config;
pub use threads::on_threads;
