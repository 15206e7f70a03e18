//! What can be typed: the commands, and the arguments that several of them share.

use crate::commands::{
    completions::CompletionsArgs, convert::ConvertArgs, demo::DemoArgs, eval::EvalArgs,
    export::ExportArgs, launch::LaunchArgs, metrics::MetricsArgs, predict::PredictArgs,
    presets::PresetsArgs, run_onnx::RunOnnxArgs, slurm::SlurmArgs, train::TrainArgs,
};
use clap::{Args, Parser, Subcommand};
use selfcls_export::{EngineChoice, Options};
use std::path::PathBuf;

/// Self-supervised image classification: train on unlabelled images, look at the classes found, export, classify.
#[derive(Debug, Parser)]
#[command(
    name = "selfcls-cli",
    version,
    after_help = "\
Results go to standard output, everything else to standard error (coloured unless NO_COLOR is set).
Exit codes: 0 success, 1 failure, 2 usage, 75 made room on SIGUSR1, 130 interrupted (the same train command continues both).",
    arg_required_else_help = true,
    subcommand_required = true
)]
pub(crate) struct Cli {
    /// Say nothing on standard error but errors
    #[arg(short, long, global = true, display_order = 900)]
    pub(crate) quiet: bool,
    /// What to do
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Train(Box<TrainArgs>),
    Launch(LaunchArgs),
    Slurm(Box<SlurmArgs>),
    Eval(EvalArgs),
    Metrics(MetricsArgs),
    Export(ExportArgs),
    Convert(ConvertArgs),
    Predict(PredictArgs),
    Demo(DemoArgs),
    /// List the backends and devices of this build and this machine, what to do for those missing, and, under a launcher, this process's rank
    Devices,
    Presets(PresetsArgs),
    Completions(CompletionsArgs),
    RunOnnx(RunOnnxArgs),
}

/// Where tensors are computed.
#[derive(Debug, Clone, Args)]
pub(crate) struct BackendArgs {
    /// Backend and device: flex, ndarray, wgpu[:cpu|:gpu|:N] or tch[:cpu|:cuda:N]; `selfcls-cli devices` lists them
    #[arg(long, value_name = "NAME[:DEVICE]", default_value = "flex")]
    pub(crate) backend: String,
}

/// Which engine runs ONNX files.
#[derive(Debug, Clone, Args)]
pub(crate) struct EngineArgs {
    /// The ONNX Runtime library to run ONNX files with; without it ORT_DYLIB_PATH and well-known places are
    /// searched, and the built-in engine runs where there is none
    #[arg(long, value_name = "PATH")]
    pub(crate) onnxruntime: Option<PathBuf>,
}

impl EngineArgs {
    /// How exported files are to be opened.
    pub(crate) fn options(&self) -> Options {
        Options {
            engine: match &self.onnxruntime {
                Some(path) => EngineChoice::OnnxRuntimeAt(path.clone()),
                None => EngineChoice::Auto,
            },
            // Commands go over folders.
            many: true,
            ..Options::default()
        }
    }
}
