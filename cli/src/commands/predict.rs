//! `predict`: images to classes, with an exported model.

use crate::args::EngineArgs;
use crate::error::{CliError, Result};
use clap::Args;
use std::num::NonZeroUsize;
use std::path::PathBuf;

/// Classify images with an exported model
#[derive(Debug, Args)]
pub(crate) struct PredictArgs {
    /// The model, as `export` writes it
    #[arg(value_name = "MODEL.onnx")]
    pub(crate) model: PathBuf,
    /// Images, or folders that are searched for images
    #[arg(value_name = "IMAGE|FOLDER", required = true)]
    pub(crate) images: Vec<PathBuf>,
    /// Print one JSON object per image and line
    #[arg(long, conflicts_with = "csv")]
    pub(crate) json: bool,
    /// Print CSV with a header line
    #[arg(long)]
    pub(crate) csv: bool,
    /// How many classes to give for each image, most probable first
    #[arg(long, value_name = "N", default_value = "1")]
    pub(crate) top: NonZeroUsize,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
}

pub(crate) fn run(args: &PredictArgs) -> Result<()> {
    Err(CliError::failure(format!(
        "predict is not wired yet: {args:?}"
    )))
}
