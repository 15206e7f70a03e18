//! `eval`: how good the classes and the embeddings are, where labels are known.

use crate::args::{BackendArgs, EngineArgs};
use crate::error::{CliError, Result};
use clap::{Args, Subcommand};
use std::num::NonZeroUsize;
use std::path::PathBuf;

/// Evaluate a run, a checkpoint or an exported model on labelled images
#[derive(Debug, Args)]
pub(crate) struct EvalArgs {
    /// What to measure
    #[command(subcommand)]
    pub(crate) measure: Measure,
}

/// What can be measured.
#[derive(Debug, Subcommand)]
pub(crate) enum Measure {
    Clusters(ClustersArgs),
    Knn(KnnArgs),
}

/// What is evaluated, and on what.
#[derive(Debug, Args)]
pub(crate) struct EvalTarget {
    /// A run directory (its newest checkpoint), a checkpoint, or an exported ONNX file
    #[arg(value_name = "RUN|CHECKPOINT|MODEL.onnx")]
    pub(crate) model: PathBuf,
    /// Labelled images: a folder with one sub-folder per class
    #[arg(long, value_name = "SOURCE")]
    pub(crate) data: PathBuf,
    #[command(flatten)]
    pub(crate) backend: BackendArgs,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Compare the discovered classes with the labels: NMI, AMI, ARI and accuracy
#[derive(Debug, Args)]
pub(crate) struct ClustersArgs {
    #[command(flatten)]
    pub(crate) target: EvalTarget,
    /// Which classifier: its position in model.heads, from 0
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) head: usize,
    /// Count the accuracy over superclasses: line i of FILE is the superclass of class i, or each line is a class and its superclass
    #[arg(long, value_name = "FILE")]
    pub(crate) superclasses: Option<PathBuf>,
    /// Also draw the discovered classes: a PNG, one row of sample images each
    #[arg(long, value_name = "FILE.png")]
    pub(crate) picture: Option<PathBuf>,
}

/// Classify each image by the images most similar in embedding: top-1 and top-5 accuracy
#[derive(Debug, Args)]
pub(crate) struct KnnArgs {
    #[command(flatten)]
    pub(crate) target: EvalTarget,
    /// Labelled images that vote; without it every image is classified by the others of --data
    #[arg(long, value_name = "SOURCE")]
    pub(crate) references: Option<PathBuf>,
    /// Number of neighbours; several may be given, separated by commas
    #[arg(long, value_name = "K", default_value = "20", value_delimiter = ',')]
    pub(crate) k: Vec<NonZeroUsize>,
    /// A neighbour votes with weight exp(similarity / T)
    #[arg(long, value_name = "T", default_value_t = 0.1)]
    pub(crate) temperature: f64,
}

pub(crate) fn run(args: &EvalArgs) -> Result<()> {
    Err(CliError::failure(format!(
        "eval is not wired yet: {args:?}"
    )))
}
