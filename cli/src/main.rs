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
use error::CliError;
use selfcls_core::panics;
use std::process::ExitCode;

fn main() -> ExitCode {
    // Prints help to standard output (exit code 0) or a usage error to standard error (exit code 2).
    let cli = args::Cli::parse();
    if matches!(cli.command, args::Command::Train(_)) {
        signals::install();
    }
    signals::ready();
    show_panics_without_another_report();
    let done = panics::guarded(|| Ok(commands::run(&cli)));
    match done.unwrap_or_else(|panic| Err(CliError::from(panic))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error.print();
            error.exit_code()
        }
    }
}

/// A panic for want of memory becomes an error that says what to do. Of any other, a mistake of ours or of a library, the place
/// is needed too.
fn show_panics_without_another_report() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !panics::wants_memory(panics::message(panic.payload())) {
            usual(panic);
        }
    }));
}
