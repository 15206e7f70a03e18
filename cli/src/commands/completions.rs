//! `completions`: tab completion for a shell.

use crate::args::Cli;
use crate::error::Result;
use crate::output;
use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};

/// Print a completion script for a shell
///
/// For bash: selfcls-cli completions bash > ~/.local/share/bash-completion/completions/selfcls-cli
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

pub(crate) fn run(args: &CompletionsArgs) -> Result<()> {
    let mut command = Cli::command();
    let name = command.get_name().to_string();
    let mut script = Vec::new();
    generate(args.shell, &mut command, name, &mut script);
    output::bytes(&script)
}
