//! One module per command: its arguments, and what it does with them.

pub(crate) mod completions;
pub(crate) mod convert;
pub(crate) mod demo;
pub(crate) mod devices;
pub(crate) mod eval;
pub(crate) mod export;
pub(crate) mod launch;
pub(crate) mod metrics;
pub(crate) mod predict;
pub(crate) mod presets;
pub(crate) mod run_onnx;
pub(crate) mod slurm;
pub(crate) mod train;

use crate::args::{Cli, Command};
use crate::error::Result;
use crate::progress::Progress;

/// Runs the command that was typed.
pub(crate) fn run(cli: &Cli) -> Result<()> {
    let progress = Progress::new(cli.quiet);
    match &cli.command {
        Command::Train(args) => train::run(args, progress),
        Command::Launch(args) => launch::run(args, progress),
        Command::Slurm(args) => slurm::run(args),
        Command::Eval(args) => eval::run(args, progress),
        Command::Metrics(args) => metrics::run(args),
        Command::Export(args) => export::run(args, progress),
        Command::Convert(args) => convert::run(args, progress),
        Command::Predict(args) => predict::run(args, progress),
        Command::Demo(args) => demo::run(args, progress),
        Command::Devices => devices::run(),
        Command::Presets(args) => presets::run(args),
        Command::Completions(args) => completions::run(args),
        Command::RunOnnx(args) => run_onnx::run(args),
    }
}
