//! `export`: from a checkpoint to an ONNX file.

mod choices;
mod names;
mod proof;

pub(crate) use choices::{FileArgs, HeadChoice};

use crate::args::{BackendArgs, EngineArgs};
use crate::error::{CliError, Result};
use crate::output;
use crate::preprocess_args::PreprocessArgs;
use crate::progress::Progress;
use crate::subject::{device, load, model};
use clap::Args;
use proof::{Proof, Subject, Trials, Unable};
use selfcls_core::checkpoint::Manifest;
use selfcls_core::config::{DataConfig, Precision};
use selfcls_core::data::{self, Source};
use selfcls_core::eval::{Features, ModelNetwork};
use selfcls_core::metadata::{InputKind, Metadata, TrainingSummary};
use selfcls_core::pixels::Rgb8;
use selfcls_export::inference::check_file;
use selfcls_export::proof::{Tolerance, samples};
use selfcls_export::{FileOptions, HeadSelection, OnnxWriter, Options};
use serde::Serialize;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Write a trained classifier as an ONNX file, preprocessing and class names included
///
/// The file is run beside the trained model in every engine that is there, on drawn images and on real ones, and gets
/// its name only if all outputs agree: within 1e-5 of the largest value of an output (of 1, where that is smaller), with
/// --weights f16 within 1e-2; what --input any resizes, within one grey level.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// A run directory (its newest checkpoint), RUN@best (of the epoch with the lowest loss), a checkpoint, or a file of
    /// weights (see convert)
    #[arg(value_name = "RUN|CHECKPOINT|FILE")]
    pub(crate) model: PathBuf,
    /// File to write
    #[arg(long, value_name = "MODEL.onnx")]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) file: FileArgs,
    /// Real images to try the file on, as --data of train takes them; without it the run's own, if they are still there
    #[arg(long, value_name = "SOURCE")]
    pub(crate) verify_images: Option<String>,
    /// Print one JSON object: file, data, bytes, outputs, proofs, unproven
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) backend: BackendArgs,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
    #[command(flatten)]
    pub(crate) preprocess: PreprocessArgs,
}

/// Real images that a file is tried on.
const REAL_IMAGES: usize = 8;

/// A file that was written and compared.
#[derive(Debug, Serialize)]
pub(crate) struct Exported {
    file: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<PathBuf>,
    bytes: u64,
    outputs: Vec<String>,
    /// Engines in which it agrees with the trained model; at least one.
    pub(crate) proofs: Vec<Proof>,
    /// Engines that cannot run it.
    unproven: Vec<Unable>,
}

impl Exported {
    /// The largest difference in any engine.
    pub(crate) fn difference(&self) -> f32 {
        let differences = self.proofs.iter().map(|proof| proof.difference);
        differences.fold(0.0, f32::max)
    }
}

pub(crate) fn run(args: &ExportArgs, progress: Progress) -> Result<()> {
    let exported = export(args, progress)?;
    if args.json {
        return output::json(&exported);
    }
    output::text(&format!("{}\n", exported.file.display()))
}

/// Whether something that is no ONNX file is at `path`: nothing else is replaced. A file that cannot be read is something
/// else, an empty one is nothing.
fn is_something_else(path: &Path) -> bool {
    let Ok(found) = path.symlink_metadata() else {
        return false;
    };
    if found.is_symlink() && !path.exists() {
        // It leads nowhere, but it is somebody's.
        return true;
    }
    if !path.is_file() {
        // The writer says what is wrong with a folder.
        return !path.is_dir();
    }
    let mut begin = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(3).read_to_end(&mut begin));
    // A version of the format, and then the field of anything that a model has.
    let is_model = match begin[..] {
        [] => read.is_ok(),
        [0x08, 1..=64, field] => [0x12, 0x1A, 0x22, 0x28, 0x32, 0x3A, 0x42].contains(&field),
        _ => false,
    };
    !is_model
}

/// Refuses a file that nobody could open. What one image takes is the trained model's own affair, and whoever runs it may be
/// told more (--max-operations and the like); how many go together was chosen here.
fn check(file: &Path, options: &FileOptions) -> selfcls_export::Result<()> {
    let mut allowed = Options::default()
        .max_operations(u64::MAX)
        .max_data_bytes(u64::MAX);
    if options.batch.is_none() {
        allowed = allowed.max_run_bytes(u64::MAX);
    }
    check_file(file, &allowed)
}

/// Makes the file, runs it beside the trained model on images, and gives it its name only if they agree.
pub(crate) fn export(args: &ExportArgs, progress: Progress) -> Result<Exported> {
    if is_something_else(&args.out) {
        return Err(CliError::usage(format!(
            "--out {}: there is something else than an ONNX file, which stays",
            args.out.display()
        ))
        .hint("give another name, or remove it"));
    }
    let (manifest, weights) = load(&args.model, &args.preprocess, progress)?;
    progress.note(&format!("exporting {}", args.model.display()));
    let config = &manifest.config;
    let options = args.file.options(config.model.heads.len());
    let mut metadata = Metadata::new(config, summary(&manifest));
    let default = match &options.heads {
        HeadSelection::Only(heads) => heads.first().copied().unwrap_or(0),
        HeadSelection::All => metadata.default_head,
    };
    names::give(&mut metadata, &args.file.names, default)?;
    let writer = OnnxWriter::new(&config.model, &weights, metadata).options(options.clone());
    let staged = writer.stage(&args.out)?;
    if let Err(error) = check_file(&staged.path(), &Options::default()) {
        check(&staged.path(), &options).map_err(|error| {
            CliError::failure(format!("{} was not written: {error}", args.out.display()))
        })?;
        progress.note(&format!(
            "warning: {error} (in an app; `predict` and `eval` have options for it)"
        ));
    }
    let metadata = writer.metadata()?;

    let runtime = device(&args.backend)?
        .runtime(Precision::F32)
        .map_err(CliError::failure)?;
    let model = model(&manifest, &weights, &runtime)?;
    let network = ModelNetwork::new(model, runtime, Features::Embedding);
    let mut images = samples(metadata.preprocess.crop)?;
    images.extend(real_images(args, &config.data, progress)?);
    // Beside the file in the making, and gone with it, also after an export that was killed.
    let scratch = staged.scratch()?;
    let preprocessing = writer.preprocessing()?;
    let preprocessing = preprocessing
        .map(|bytes| -> Result<PathBuf> {
            let path = scratch.join("preprocessing.onnx");
            std::fs::write(&path, bytes).map_err(|error| {
                CliError::failure(format!("cannot write {}: {error}", path.display()))
            })?;
            Ok(path)
        })
        .transpose()?;
    let path = staged.path();
    let subject = Subject {
        model: &path,
        preprocessing: preprocessing.as_deref(),
        metadata: &metadata,
        options: &options,
    };
    let trials = Trials::new(subject, &network, &images, scratch)?;
    let (proofs, unproven) = prove(args, &trials, &metadata, progress)?;

    let data = staged.data_path();
    staged.commit()?;
    let bytes = [Some(&args.out), data.as_ref()];
    let bytes = bytes.into_iter().flatten().map(|path| size(path)).sum();
    Ok(Exported {
        file: args.out.clone(),
        data,
        bytes,
        outputs: writer.outputs()?,
        proofs,
        unproven,
    })
}

/// Tries every engine. An engine that cannot run the file is a defect, but for resizing inside the file, which not every
/// engine can; one that gives other numbers always is.
fn prove(
    args: &ExportArgs,
    trials: &Trials<'_>,
    metadata: &Metadata,
    progress: Progress,
) -> Result<(Vec<Proof>, Vec<Unable>)> {
    let tolerance = Tolerance::of(metadata);
    let (mut proofs, mut unproven) = (Vec::new(), Vec::new());
    let not_written = |reason: String| {
        CliError::failure(format!("{} was not written: {reason}", args.out.display()))
    };
    for engine in proof::engines(&args.engine) {
        // A deep network takes minutes in some.
        progress.note(&format!("trying it with {} ...", proof::describe(&engine)));
        match trials.prove(&engine)? {
            Ok(proof) if proof.holds(tolerance) => {
                progress.note(&proof.text());
                proofs.push(proof);
            }
            Ok(proof) => {
                return Err(not_written(format!(
                    "{}; at most {:.0e} and {:.0} grey levels are put down to rounding",
                    proof.text(),
                    tolerance.outputs,
                    tolerance.grey_levels.floor()
                ))
                .hint("this is a defect of selfcls or of the engine; try another with --onnxruntime PATH, and report it"));
            }
            Err(unable) if metadata.input == InputKind::Any => {
                progress.note(&format!(
                    "not proven with {}, which cannot run it: {}",
                    unable.engine, unable.reason
                ));
                unproven.push(unable);
            }
            Err(unable) => {
                return Err(not_written(format!(
                    "{} cannot run it: {}",
                    unable.engine, unable.reason
                )));
            }
        }
    }
    if proofs.is_empty() {
        return Err(not_written(
            "no engine of this machine can run it, so that nothing is known of it".into(),
        )
        .hint(
            "ONNX Runtime can: give its library with --onnxruntime PATH, or choose --input uint8",
        ));
    }
    Ok((proofs, unproven))
}

/// How the weights came about.
fn summary(manifest: &Manifest) -> TrainingSummary {
    TrainingSummary {
        epochs: manifest.position.epoch(),
        steps: manifest.position.step as u64,
        samples: manifest.samples,
        source: TrainingSummary::source_name(&manifest.config.data.source),
        loss: manifest.position.epoch_loss,
    }
}

/// Some of the images that were asked for, or of those that the run was trained on.
fn real_images(
    args: &ExportArgs,
    trained_on: &DataConfig,
    progress: Progress,
) -> Result<Vec<Arc<Rgb8>>> {
    if let Some(source) = &args.verify_images {
        return Ok(some(&*data::open(source, &DataConfig::default())?)?);
    }
    let found = data::open(&trained_on.source, trained_on).and_then(|source| some(&*source));
    let lacking = match found {
        Ok(images) => return Ok(images),
        Err(selfcls_core::Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
            "the training images are not there".to_owned()
        }
        Err(error) => format!("the training images cannot be taken ({error})"),
    };
    progress.note(&format!(
        "{lacking}, so the file is tried on drawn ones; --verify-images FOLDER gives real ones"
    ));
    Ok(Vec::new())
}

/// Images from all over `source`.
fn some(source: &dyn Source) -> selfcls_core::Result<Vec<Arc<Rgb8>>> {
    let count = source.len().min(REAL_IMAGES);
    let images = (0..count).map(|number| source.image(number * source.len() / count));
    images.collect()
}

fn size(path: &Path) -> u64 {
    // It was written a moment ago; what is gone has no size.
    std::fs::metadata(path).map_or(0, |metadata| metadata.len())
}
