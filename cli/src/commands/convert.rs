//! `convert`: weights from and for other programs.

use crate::config_args;
use crate::error::{CliError, Result};
use crate::output;
use crate::progress::Progress;
use clap::{Args, ValueEnum};
use selfcls_core::Config;
use selfcls_core::atomic;
use selfcls_core::checkpoint::{self, Snapshot};
use selfcls_core::pretrained::{self, Part, Weights};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

/// Convert weights: from other projects' files to a run, or from a run to files for PyTorch and detectron2
///
/// What is read: a run, a checkpoint, safetensors, and .pth or .pth.tar files of Self-Classifier's authors, torchvision,
/// MoCo v2, SimSiam, SwAV, Barlow Twins, DINO, OBoW and SCAN. Nothing in them is executed.
#[derive(Debug, Args)]
pub(crate) struct ConvertArgs {
    /// A run directory (its newest checkpoint), RUN@best, a checkpoint, or a file of weights
    #[arg(value_name = "RUN|CHECKPOINT|FILE")]
    model: PathBuf,
    /// File to write; for selfcls, the run directory to create
    #[arg(long, value_name = "PATH")]
    out: PathBuf,
    /// What to write
    #[arg(long, value_enum)]
    to: Format,
    /// What of the model; torchvision and detectron2 take the backbone, the others all of it
    #[arg(long, value_enum)]
    part: Option<PartChoice>,
    /// Tensors to leave out although the file's layout does not know them, by the beginnings of their names
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    ignore: Vec<String>,
    /// To selfcls: the settings of the run, a TOML file; the model's follow from the weights
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// To selfcls, from a whole checkpoint of the authors: the number of images it was trained on; `train` then continues
    /// it with optimiser and queue
    #[arg(long, value_name = "N")]
    samples: Option<NonZeroUsize>,
}

/// What can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A run directory, for eval, export and train
    Selfcls,
    /// A .pth file for torch.load: a torchvision backbone, or with --part all what the authors' scripts take
    Torchvision,
    /// A safetensors file
    Safetensors,
    /// A .pkl file for MODEL.WEIGHTS
    Detectron2,
}

/// What of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PartChoice {
    /// The backbone, under torchvision's names
    Backbone,
    /// Backbone, head and classifiers
    All,
}

pub(crate) fn run(args: &ConvertArgs, progress: Progress) -> Result<()> {
    if args.to != Format::Selfcls && (args.config.is_some() || args.samples.is_some()) {
        return Err(CliError::usage(
            "--config and --samples are settings of a run: they belong to --to selfcls",
        ));
    }
    match args.to {
        Format::Selfcls => to_run(args, progress)?,
        Format::Torchvision => {
            let state = read(args, progress)?.state;
            let part = args.part(Part::Backbone);
            atomic::write(&args.out, &pretrained::torchvision(&state, part)?)?;
        }
        Format::Safetensors => {
            let state = read(args, progress)?.state;
            let part = args.part(Part::Whole);
            atomic::write(&args.out, &pretrained::safetensors(&state, part)?)?;
        }
        Format::Detectron2 => {
            if args.part == Some(PartChoice::All) {
                return Err(CliError::usage(
                    "--part all: detectron2 takes the backbone only",
                ));
            }
            let state = read(args, progress)?.state;
            atomic::write(&args.out, &pretrained::detectron2(&state)?)?;
        }
    }
    output::text(&format!("{}\n", args.out.display()))
}

impl ConvertArgs {
    fn part(&self, default: Part) -> Part {
        match self.part {
            None => default,
            Some(PartChoice::Backbone) => Part::Backbone,
            Some(PartChoice::All) => Part::Whole,
        }
    }

    /// The settings of the run to write.
    fn settings(&self) -> Result<Config> {
        match &self.config {
            Some(path) => config_args::file(path),
            None => Ok(Config::default()),
        }
    }
}

/// Reads the weights, and says what they are and what of them was left out.
fn read(args: &ConvertArgs, progress: Progress) -> Result<Weights> {
    let weights = pretrained::open(&args.model, &args.ignore)?;
    progress.note(&format!(
        "{} tensors, {}",
        weights.state.len(),
        weights.project
    ));
    for (what, count) in &weights.dropped {
        progress.note(&format!("left out: {what} ({count} tensors)"));
    }
    Ok(weights)
}

fn to_run(args: &ConvertArgs, progress: Progress) -> Result<()> {
    if args.part == Some(PartChoice::Backbone) {
        return Err(CliError::usage(
            "--part backbone: a run has the whole model",
        ));
    }
    refuse_existing(&args.out)?;
    let snapshot = snapshot(args, progress)?;
    checkpoint::save(&args.out, &snapshot)?;
    let config = snapshot.manifest.config.to_toml();
    Ok(atomic::write(
        &args.out.join("config.toml"),
        config.as_bytes(),
    )?)
}

fn snapshot(args: &ConvertArgs, progress: Progress) -> Result<Snapshot> {
    if let Some(samples) = args.samples {
        let authors = pretrained::authors_checkpoint(&args.model)?;
        progress.note(&format!("continues after epoch {}", authors.epoch));
        return Ok(pretrained::resumable(
            authors,
            &args.settings()?,
            samples.get(),
        )?);
    }
    if !args.model.is_file() {
        // One of ours already: the whole of it.
        return Ok(checkpoint::load(&checkpoint::find(&args.model)?)?);
    }
    let weights = read(args, progress)?;
    Ok(pretrained::snapshot(weights.state, &args.settings()?)?)
}

/// A run is not written over another one, nor among other files.
fn refuse_existing(out: &Path) -> Result<()> {
    let empty = match std::fs::read_dir(out) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    };
    if empty {
        return Ok(());
    }
    Err(
        CliError::failure(format!("{} is there already", out.display()))
            .hint("choose a new folder for --out"),
    )
}
