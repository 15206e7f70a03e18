//! `predict`: images to classes, with an exported model.

use crate::args::EngineArgs;
use crate::error::{CliError, Result};
use crate::output;
use crate::progress::Progress;
use clap::Args;
use selfcls_core::data::{ImageFolder, read_all};
use selfcls_export::{Classifier, Prediction};
use serde::Serialize;
use std::borrow::Cow;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

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

/// Images decoded and classified at a time: bounds memory, whatever the folder holds.
const CHUNK: usize = 64;

/// The answer for a file as printed by `--json`.
#[derive(Serialize)]
struct Answer<'a> {
    file: String,
    #[serde(flatten)]
    outcome: Outcome<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Outcome<'a> {
    Classified {
        class: usize,
        name: Option<&'a str>,
        probability: f32,
        top: Vec<Ranked<'a>>,
    },
    Failed {
        error: String,
    },
}

#[derive(Serialize)]
struct Ranked<'a> {
    class: usize,
    name: Option<&'a str>,
    probability: f32,
}

pub(crate) fn run(args: &PredictArgs, progress: Progress) -> Result<()> {
    let files = ImageFolder::collect(&args.images)?;
    let classifier = Classifier::open(&args.model, &args.engine.options())?;
    progress.note(&format!("engine: {}", classifier.engine()));
    if args.csv {
        output::text("file,rank,class,name,probability\n")?;
    }
    let mut failed = 0;
    for chunk in files.chunks(CHUNK) {
        let (mut images, mut places) = (Vec::new(), Vec::new());
        for (file, result) in chunk.iter().zip(read_all(chunk)) {
            match result {
                Ok(image) => {
                    images.push(image);
                    places.push((file, None));
                }
                Err(error) => places.push((file, Some(error))),
            }
        }
        let mut predictions = classifier.classify_batch(&images)?.into_iter();
        let mut text = String::new();
        for (file, error) in places {
            let prediction = if error.is_none() {
                predictions.next()
            } else {
                None
            };
            failed += usize::from(error.is_some());
            match (&prediction, error) {
                (Some(prediction), _) => args.format(&mut text, file, prediction)?,
                (None, Some(error)) => args.format_error(&mut text, file, &error, progress)?,
                (None, None) => {}
            }
        }
        output::text(&text)?;
    }
    if failed > 0 {
        return Err(CliError::failure(format!(
            "{failed} of {} files could not be classified; the others were",
            files.len()
        )));
    }
    Ok(())
}

impl PredictArgs {
    fn format(&self, text: &mut String, file: &Path, prediction: &Prediction) -> Result<()> {
        let top = prediction.top(self.top.get());
        if self.json {
            let answer = Answer {
                file: file.display().to_string(),
                outcome: Outcome::Classified {
                    class: prediction.class(),
                    name: prediction.name(),
                    probability: prediction.confidence(),
                    top: top
                        .iter()
                        .map(|candidate| Ranked {
                            class: candidate.class,
                            name: candidate.name,
                            probability: candidate.probability,
                        })
                        .collect(),
                },
            };
            return append_json(text, &answer);
        }
        for (rank, candidate) in top.iter().enumerate() {
            let (class, name) = (candidate.class, candidate.name.unwrap_or_default());
            let probability = candidate.probability;
            let line = if self.csv {
                format!(
                    "{},{},{class},{},{probability}\n",
                    csv_field(&file.display().to_string()),
                    rank + 1,
                    csv_field(name)
                )
            } else {
                let name = if name.is_empty() {
                    String::new()
                } else {
                    format!("\t{name}")
                };
                format!("{}\t{class}\t{probability:.4}{name}\n", file.display())
            };
            text.push_str(&line);
        }
        Ok(())
    }

    fn format_error(
        &self,
        text: &mut String,
        file: &Path,
        error: &selfcls_core::Error,
        progress: Progress,
    ) -> Result<()> {
        progress.note(&format!("warning: {error}"));
        if !self.json {
            return Ok(());
        }
        let answer = Answer {
            file: file.display().to_string(),
            outcome: Outcome::Failed {
                error: error.to_string(),
            },
        };
        append_json(text, &answer)
    }
}

fn append_json(text: &mut String, answer: &Answer<'_>) -> Result<()> {
    let line = serde_json::to_string(answer)
        .map_err(|error| CliError::failure(format!("cannot write the result as JSON: {error}")))?;
    text.push_str(&line);
    text.push('\n');
    Ok(())
}

/// A CSV field, quoted where RFC 4180 asks for it.
pub(crate) fn csv_field(text: &str) -> Cow<'_, str> {
    if text.contains(['"', ',', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\"")).into()
    } else {
        text.into()
    }
}

#[cfg(test)]
mod tests {
    use super::csv_field;

    #[test]
    fn csv_fields_are_quoted_where_needed() {
        assert_eq!(csv_field("a b.png"), "a b.png");
        assert_eq!(csv_field("a,\"b\".png"), "\"a,\"\"b\"\".png\"");
    }
}
