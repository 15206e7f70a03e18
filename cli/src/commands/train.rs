//! `train`: from a folder of images to a run directory.

use crate::args::BackendArgs;
use crate::config_args::ConfigArgs;
use crate::error::{CliError, Result};
use crate::output;
use clap::Args;
use std::path::PathBuf;

/// Train a classifier on images; labels are not needed, and not used where there are some
///
/// The run directory given to --out then holds the resolved configuration, the metrics and the checkpoints. A run that
/// was interrupted continues when the same command is given again.
///
/// The configuration starts from a preset; a file given to --config and then single flags go over it. The defaults that
/// the flags below name are the paper's; a preset replaces many of them: see --print-config.
#[derive(Debug, Args)]
#[command(
    override_usage = "selfcls-cli train --data <SOURCE> --out <RUN> [OPTIONS]",
    after_help = "The other configuration keys are flags too, e.g. --model.heads 10,20: see --help.",
    after_long_help = ""
)]
pub(crate) struct TrainArgs {
    /// Images to train on: a folder, with or without one sub-folder per class
    #[arg(long, value_name = "SOURCE", required_unless_present = "print_config")]
    pub(crate) data: Option<PathBuf>,
    /// Run directory to create, or to continue
    #[arg(long, value_name = "RUN", required_unless_present = "print_config")]
    pub(crate) out: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) backend: BackendArgs,
    /// Print the resolved configuration as TOML, each value with its origin, and stop
    #[arg(long)]
    pub(crate) print_config: bool,
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
}

pub(crate) fn run(args: &TrainArgs) -> Result<()> {
    let resolved = args.config.resolve()?;
    if args.print_config {
        return output::text(&resolved.annotated_toml());
    }
    Err(CliError::failure(format!(
        "train is not wired yet (data {:?}, out {:?}, backend {})",
        args.data, args.out, args.backend.backend
    )))
}
