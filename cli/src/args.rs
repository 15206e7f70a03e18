//! What can be typed: the commands, and the arguments that several of them share.

use crate::commands::{
    completions::CompletionsArgs, convert::ConvertArgs, demo::DemoArgs, eval::EvalArgs,
    export::ExportArgs, launch::LaunchArgs, metrics::MetricsArgs, predict::PredictArgs,
    presets::PresetsArgs, run_onnx::RunOnnxArgs, slurm::SlurmArgs, train::TrainArgs,
};
use clap::{Args, Parser, Subcommand};
use selfcls_export::{EngineChoice, Options, Provider, ProviderOption};
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
#[derive(Debug, Clone, Default, Args)]
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
            ..Options::default()
        }
    }
}

/// How ONNX files are run, where many images go through them.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct RunningArgs {
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
    /// Where ONNX Runtime runs the network instead of the processor: `cuda[:N]`, `tensorrt[:N]`, coreml, `directml[:N]` or
    /// `openvino[:cpu|:gpu.N|:npu]`; several are tried in order. One that the library does not have is an error
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) provider: Vec<Provider>,
    /// A setting of a provider, as ONNX Runtime's documentation calls it, e.g. `tensorrt:trt_engine_cache_enable=1`; may be
    /// given again
    #[arg(long, value_name = "NAME:KEY=VALUE")]
    pub(crate) provider_option: Vec<ProviderOption>,
    /// Let the provider compute with 16 bits: tensorrt and `openvino:gpu` in f16, openvino in bf16. Faster, and
    /// probabilities are off by a hundredth or so
    #[arg(long)]
    pub(crate) half_precision: bool,
    /// Threads that run an ONNX file, and as many that decode for it; 0 for all cores
    #[arg(long, value_name = "N", default_value = "0")]
    pub(crate) threads: usize,
    /// Most multiplications that an ONNX file may need for an image; default 137438953472 (2^37), 32 times those of a
    /// ResNet-50
    #[arg(long, value_name = "N")]
    pub(crate) max_operations: Option<u64>,
    /// Most bytes that the values of a run may have in memory at the same time, for each image or for a file's whole fixed
    /// batch; default 4294967296 (4 GiB)
    #[arg(long, value_name = "N")]
    pub(crate) max_run_bytes: Option<u64>,
    /// Most bytes that weights beside an ONNX file may have; default 17179869184 (16 GiB)
    #[arg(long, value_name = "N")]
    pub(crate) max_data_bytes: Option<u64>,
}

impl RunningArgs {
    /// How exported files are to be opened.
    pub(crate) fn options(&self) -> Options {
        let options = self.engine.options();
        Options {
            providers: self.provider.clone(),
            provider_options: self.provider_option.clone(),
            half_precision: self.half_precision,
            threads: self.threads,
            max_operations: self.max_operations.unwrap_or(options.max_operations),
            max_run_bytes: self.max_run_bytes.unwrap_or(options.max_run_bytes),
            max_data_bytes: self.max_data_bytes.unwrap_or(options.max_data_bytes),
            ..options
        }
    }
}
