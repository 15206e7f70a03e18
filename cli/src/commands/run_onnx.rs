//! `run-onnx`, hidden: what `export` has another process do, since a process is bound to one engine and a file that
//! an engine cannot bear may end it.

use crate::error::Result;
use crate::output;
use clap::Args;
use selfcls_export::EngineChoice;
use selfcls_export::proof::exchange;
use std::path::PathBuf;

/// Run a file on prepared trials
#[derive(Debug, Args)]
#[command(hide = true)]
pub(crate) struct RunOnnxArgs {
    /// The file
    model: PathBuf,
    /// Its inputs
    trials: PathBuf,
    /// Where its outputs go
    answers: PathBuf,
    /// With the built-in engine
    #[arg(long)]
    tract: bool,
    /// With this ONNX Runtime library
    #[arg(long, conflicts_with = "tract")]
    onnxruntime: Option<PathBuf>,
}

impl RunOnnxArgs {
    /// The arguments that ask for `choice`.
    pub(super) fn engine_arguments(choice: &EngineChoice) -> Vec<std::ffi::OsString> {
        match choice {
            EngineChoice::Tract => vec!["--tract".into()],
            EngineChoice::OnnxRuntimeAt(path) => vec!["--onnxruntime".into(), path.into()],
            _ => Vec::new(),
        }
    }
}

pub(super) fn run(args: &RunOnnxArgs) -> Result<()> {
    let choice = match &args.onnxruntime {
        Some(path) => EngineChoice::OnnxRuntimeAt(path.clone()),
        None if args.tract => EngineChoice::Tract,
        None => EngineChoice::OnnxRuntime,
    };
    let engine = exchange::answer(&args.model, &args.trials, &args.answers, &choice)?;
    output::text(&format!("{engine}\n"))
}
