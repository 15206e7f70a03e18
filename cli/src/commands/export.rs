//! `export`: from a checkpoint to an ONNX file.

use crate::args::{BackendArgs, EngineArgs};
use crate::error::{CliError, Result};
use crate::output;
use crate::progress::Progress;
use crate::subject::{device, load, model};
use clap::Args;
use selfcls_core::atomic;
use selfcls_core::config::Precision;
use selfcls_core::data::{Shapes, Source};
use selfcls_core::eval::{Features, ModelNetwork};
use selfcls_core::metadata::{Metadata, TrainingSummary};
use selfcls_export::{Classifier, HeadSelection, OnnxWriter};
use std::path::PathBuf;
use std::str::FromStr;

/// Write a trained classifier as an ONNX file, preprocessing and class names included
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// A run directory (its newest checkpoint), a checkpoint, or a file of weights (see convert)
    #[arg(value_name = "RUN|CHECKPOINT|FILE")]
    pub(crate) model: PathBuf,
    /// File to write
    #[arg(long, value_name = "MODEL.onnx")]
    pub(crate) out: PathBuf,
    /// Which classifier: its position in model.heads, from 0; or all of them
    #[arg(long, value_name = "N|all", default_value = "0")]
    pub(crate) head: HeadChoice,
    #[command(flatten)]
    pub(crate) backend: BackendArgs,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
}

/// One classifier, or all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeadChoice {
    /// All classifiers.
    All,
    /// The classifier at this position of `model.heads`.
    One(usize),
}

impl FromStr for HeadChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Self::All),
            number => number
                .parse()
                .map(Self::One)
                .map_err(|_| "write a number from 0 up, or all".to_string()),
        }
    }
}

/// Largest difference between the file's logits or embeddings and the trained model's that is put
/// down to rounding.
const TOLERANCE: f32 = 1e-4;

pub(crate) fn run(args: &ExportArgs, progress: Progress) -> Result<()> {
    let written = export(args, progress)?;
    progress.note(&format!(
        "largest difference to the trained model: {:.1e} with {}",
        written.difference,
        written.classifier.engine()
    ));
    output::text(&format!("{}\n", args.out.display()))
}

/// A file that was written and compared.
pub(crate) struct Exported {
    /// Largest difference between its logits and embeddings and the trained model's.
    pub(crate) difference: f32,
    /// The file, opened.
    pub(crate) classifier: Classifier,
}

/// Makes the file, runs it beside the trained model on images, and writes it only if they agree.
pub(crate) fn export(args: &ExportArgs, progress: Progress) -> Result<Exported> {
    let (manifest, weights) = load(&args.model)?;
    progress.note(&format!("exporting {}", args.model.display()));
    let config = &manifest.config;
    if config.model.heads.is_empty() {
        return Err(CliError::failure(format!(
            "{} is a backbone, without classifiers to export",
            args.model.display()
        ))
        .hint("train some on it: train --pretrained FILE --pretrained.parts backbone"));
    }
    let summary = TrainingSummary {
        epochs: manifest.position.epoch(),
        steps: manifest.position.step as u64,
        samples: manifest.samples,
        source: TrainingSummary::source_name(&config.data.source),
        loss: manifest.position.epoch_loss,
    };
    let heads = match args.head {
        HeadChoice::All => HeadSelection::All,
        HeadChoice::One(index) => HeadSelection::One(index),
    };
    let bytes = OnnxWriter::new(&config.model, &weights, Metadata::new(config, summary))
        .heads(heads)
        .to_bytes()?;
    let classifier = Classifier::from_bytes(bytes.clone(), &args.engine.options())?;

    let runtime = device(&args.backend)?
        .runtime(Precision::F32)
        .map_err(CliError::failure)?;
    let model = model(&manifest, &weights, &runtime)?;
    let mut network = ModelNetwork::new(model, runtime, Features::Embedding);
    let mut difference = 0.0_f32;
    let samples = Shapes::new(10, 1, config.preprocess().crop.max(32));
    for count in [1, 2, 7] {
        let images = (0..count)
            .map(|index| samples.image(index))
            .collect::<Result<Vec<_>, _>>()?;
        let input = classifier.prepare(&images);
        difference = difference.max(classifier.difference(&mut network, &input)?);
    }
    if difference > TOLERANCE {
        return Err(CliError::failure(format!(
            "{} was not written: with {} it differs from the trained model by {difference:.1e}, more than {TOLERANCE:.0e}",
            args.out.display(),
            classifier.engine()
        ))
        .hint("this is a defect of selfcls or of the engine; try another with --onnxruntime PATH, and report it"));
    }
    atomic::write(&args.out, &bytes)?;
    Ok(Exported {
        difference,
        classifier,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_numbers_or_all() {
        assert_eq!("all".parse(), Ok(HeadChoice::All));
        assert_eq!("3".parse(), Ok(HeadChoice::One(3)));
        for wrong in ["", "-1", "ALL", "1,2"] {
            assert!(wrong.parse::<HeadChoice>().is_err(), "{wrong:?}");
        }
    }
}
