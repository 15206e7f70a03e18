//! Answers as lines: for people, as JSON, as CSV.

use crate::error::{CliError, Result};
use crate::output;
use selfcls_export::Prediction;
use serde::Serialize;
use std::path::Path;

/// Text that is kept before it is printed.
const KEPT: usize = 8 << 10;

/// How answers are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Text,
    Json,
    Csv,
}

/// What became of an image.
pub(super) enum Outcome<'a> {
    /// The answer, and the class that was given to the image for it.
    Classified(&'a Prediction, Option<usize>),
    /// Why it could not be read, or has no finite answer.
    Failed(&'a str),
}

/// Prints answers, many at a time.
pub(super) struct Lines {
    format: Format,
    top: usize,
    text: String,
}

/// An answer as printed by `--json`.
#[derive(Serialize)]
struct Answer<'a> {
    /// Null where a folder could not be searched. Of a name that is not UTF-8, what can be shown of it.
    file: Option<String>,
    /// The bytes of such a name.
    #[serde(skip_serializing_if = "Option::is_none")]
    file_percent_encoded: Option<String>,
    #[serde(flatten)]
    outcome: Said<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Said<'a> {
    Classified {
        class: Option<usize>,
        name: Option<&'a str>,
        probability: f32,
        top: Vec<Ranked<'a>>,
    },
    Failed {
        error: &'a str,
    },
}

#[derive(Serialize)]
struct Ranked<'a> {
    class: usize,
    name: Option<&'a str>,
    probability: f32,
}

impl Lines {
    /// Prints the `top` classes of each image.
    pub(super) fn new(format: Format, top: usize) -> Self {
        let header = match format {
            Format::Csv => "file,rank,class,name,probability,error\n",
            Format::Text | Format::Json => "",
        };
        Self {
            format,
            top,
            text: header.to_owned(),
        }
    }

    /// Adds the lines of an image; without a path it is not an image but a folder that could not be searched.
    pub(super) fn add(&mut self, file: Option<&Path>, outcome: &Outcome<'_>) -> Result<()> {
        let name = file.map(output::path).unwrap_or_default();
        match (self.format, outcome) {
            (Format::Json, outcome) => self.add_json(file, outcome)?,
            // Only machines want to know at once.
            (Format::Text, Outcome::Failed(_)) => {}
            (Format::Csv, Outcome::Failed(error)) => {
                // The message names the file too.
                let error = output::shown(error);
                let (name, error) = (output::csv_field(&name), output::csv_field(&error));
                self.text.push_str(&format!("{name},,,,,{error}\n"));
            }
            (format, Outcome::Classified(prediction, class)) => {
                self.add_ranks(format, &name, prediction, *class);
            }
        }
        if self.text.len() > KEPT {
            self.flush()?;
        }
        Ok(())
    }

    /// Prints what is kept.
    pub(super) fn flush(&mut self) -> Result<()> {
        let text = std::mem::take(&mut self.text);
        output::text(&text)
    }

    /// A line for each rank. An image that is given no class has a dash, or in CSV nothing, for the first.
    fn add_ranks(
        &mut self,
        format: Format,
        file: &str,
        prediction: &Prediction,
        given: Option<usize>,
    ) {
        for (rank, candidate) in prediction.top(self.top).iter().enumerate() {
            let is_refused = rank == 0 && given.is_none();
            let (class, name) = match (is_refused, format) {
                (true, Format::Csv) => (String::new(), ""),
                (true, _) => ("-".to_owned(), ""),
                _ => (
                    candidate.class.to_string(),
                    candidate.name.unwrap_or_default(),
                ),
            };
            let probability = candidate.probability;
            let line = if format == Format::Csv {
                format!(
                    "{},{},{class},{},{probability},\n",
                    output::csv_field(file),
                    rank + 1,
                    output::csv_field(name)
                )
            } else {
                let separator = if name.is_empty() { "" } else { "\t" };
                let name = output::shown(name);
                format!("{file}\t{class}\t{probability:.4}{separator}{name}\n")
            };
            self.text.push_str(&line);
        }
    }

    fn add_json(&mut self, file: Option<&Path>, outcome: &Outcome<'_>) -> Result<()> {
        let outcome = match outcome {
            Outcome::Failed(error) => Said::Failed { error },
            Outcome::Classified(prediction, class) => Said::Classified {
                class: *class,
                name: class.and(prediction.name()),
                probability: prediction.confidence(),
                top: prediction
                    .top(self.top)
                    .iter()
                    .map(|candidate| Ranked {
                        class: candidate.class,
                        name: candidate.name,
                        probability: candidate.probability,
                    })
                    .collect(),
            },
        };
        let answer = Answer {
            file: file.map(|file| file.display().to_string()),
            file_percent_encoded: file.and_then(output::percent_encoded),
            outcome,
        };
        let line = serde_json::to_string(&answer).map_err(|error| {
            CliError::failure(format!("cannot write the result as JSON: {error}"))
        })?;
        self.text.push_str(&line);
        self.text.push('\n');
        Ok(())
    }
}
