//! What the benchmarks share: running a peer, watching memory, and comparing figures taken in turn.
//!
//! Every benchmark runs ours and its peer alternately in one go, several rounds of each, so that what
//! disturbs the machine disturbs both, and prints one JSON object per case (`--json`) or a sentence.

pub mod args;
pub mod clock;
pub mod figures;
pub mod memory;
pub mod peer;

/// The result of a benchmark, whose errors are for reading only.
pub type Outcome<T> = Result<T, Box<dyn std::error::Error>>;
