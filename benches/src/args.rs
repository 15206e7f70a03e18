//! What every benchmark can be told.

use crate::figures::sentence;
use crate::peer::PeerArgs;
use clap::Args;
use serde_json::Value;
use std::ops::Range;

/// How a benchmark compares, and how it says so.
#[derive(Debug, Clone, Args)]
pub struct CommonArgs {
    /// Beside whom.
    #[command(flatten)]
    pub peer: PeerArgs,
    /// Alternations of ours and the peer.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// One JSON object per case instead of a sentence.
    #[arg(long)]
    json: bool,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

impl CommonArgs {
    /// The numbers of the rounds, one at least.
    pub fn rounds(&self) -> Range<usize> {
        0..self.rounds.max(1)
    }

    /// Prints what was found of a case, an object as [`Turns::report`](crate::figures::Turns::report) makes it.
    #[allow(clippy::print_stdout, reason = "the benchmarks' results")]
    pub fn print(&self, case: &Value) {
        if self.json {
            println!("{case}");
        } else {
            println!("{}", sentence(case));
        }
    }
}
