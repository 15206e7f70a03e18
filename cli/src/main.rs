//! `selfcls-cli`: self-supervised image classification from the command line.
//!
//! Every command parses its arguments, resolves them, calls the library and reports. Results go to standard output and
//! nothing else does; messages and progress go to standard error. Exit codes: 0 success, 1 failure, 2 usage, 75 to be started
//! again, 130 interrupted.

mod args;
mod commands;
mod config_args;
mod error;
mod output;
mod preprocess_args;
mod progress;
mod run_log;
mod shard;
mod signals;
mod subject;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    // Prints help to standard output (exit code 0) or a usage error to standard error (exit code 2).
    let cli = args::Cli::parse();
    if matches!(cli.command, args::Command::Train(_)) {
        signals::install();
    }
    signals::ready();
    match commands::run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error.print();
            error.exit_code()
        }
    }
}
