//! Running the written file beside the trained model, in every engine that is there.

use crate::args::EngineArgs;
use crate::commands::run_onnx::RunOnnxArgs;
use crate::error::{CliError, Result};
use selfcls_core::eval::{ModelNetwork, Trace};
use selfcls_core::metadata::Metadata;
use selfcls_core::pixels::Rgb8;
use selfcls_export::inference::raw::RawOutput;
use selfcls_export::inference::{LIBRARY_VARIABLE, Library};
use selfcls_export::proof::{Tolerance, Trial, difference, exchange, grey_levels, trials, worse};
use selfcls_export::{EngineChoice, FileOptions};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// What an engine made of the file.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Proof {
    /// The engine, with its version.
    pub(crate) engine: String,
    /// Images that were compared.
    pub(crate) images: usize,
    /// Largest difference of an output to the trained model's, in parts of its largest value (of 1, where that is
    /// smaller).
    pub(crate) difference: f32,
    /// Largest difference of the file's own preprocessing, in grey levels; none where it does nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) grey_levels: Option<f32>,
}

/// An engine that cannot run the file.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Unable {
    /// The engine.
    pub(crate) engine: String,
    /// Its words.
    pub(crate) reason: String,
}

/// The file and what is known of it.
pub(super) struct Subject<'a> {
    /// The written file.
    pub(super) model: &'a Path,
    /// Its preprocessing as a file of its own, if it does any.
    pub(super) preprocessing: Option<&'a Path>,
    /// What it says about itself.
    pub(super) metadata: &'a Metadata,
    /// How it was written.
    pub(super) options: &'a FileOptions,
}

/// The engines of this machine. The built-in one is always there.
pub(super) fn engines(args: &EngineArgs) -> Vec<EngineChoice> {
    let mut engines = vec![EngineChoice::Tract];
    match &args.onnxruntime {
        Some(path) => engines.push(EngineChoice::OnnxRuntimeAt(path.clone())),
        None => {
            let named = std::env::var_os(LIBRARY_VARIABLE).is_some_and(|path| !path.is_empty());
            if named || Library::search().0.is_some() {
                engines.push(EngineChoice::OnnxRuntime);
            }
        }
    }
    engines
}

/// The file beside the trained model on the same images.
pub(super) struct Trials<'a> {
    subject: Subject<'a>,
    trials: Vec<Trial>,
    network: &'a ModelNetwork,
    /// What the model says of each trial's images as [`Trial::prepared`] has them, where the file prepares nothing.
    expected: Vec<Trace>,
    /// Where other processes find the trials, and leave their answers.
    folder: PathBuf,
}

impl<'a> Trials<'a> {
    /// Prepares the runs, in `folder`, and has the trained model make them.
    pub(super) fn new(
        subject: Subject<'a>,
        network: &'a ModelNetwork,
        images: &[Arc<Rgb8>],
        folder: PathBuf,
    ) -> Result<Self> {
        let trials = trials(subject.options, &subject.metadata.preprocess, images);
        exchange::write_trials(&folder.join("trials"), &trials)?;
        let expected = match subject.preprocessing {
            // Depends on what the file makes of the pixels.
            Some(_) => Vec::new(),
            None => trials
                .iter()
                .map(|trial| network.trace(trial.prepared.clone(), trial.count))
                .collect(),
        };
        Ok(Self {
            subject,
            trials,
            network,
            expected,
            folder,
        })
    }

    /// Runs the file in `engine` and compares.
    ///
    /// The inner error is an engine that cannot run the file; the outer one that anything else failed.
    pub(super) fn prove(&self, engine: &EngineChoice) -> Result<Result<Proof, Unable>> {
        let unable = |reason: String| Unable {
            engine: describe(engine),
            reason,
        };
        let (name, outputs) = match self.run(engine, self.subject.model)? {
            Ok(answer) => answer,
            Err(reason) => return Ok(Err(unable(reason))),
        };
        let mut proof = Proof {
            engine: name,
            images: self.trials.iter().map(|trial| trial.count).sum(),
            difference: 0.0,
            grey_levels: None,
        };
        let prepared = match self.subject.preprocessing {
            None => Vec::new(),
            Some(file) => match self.run(engine, file)? {
                Ok((_, prepared)) => prepared,
                Err(reason) => return Ok(Err(unable(reason))),
            },
        };
        for (number, trial) in self.trials.iter().enumerate() {
            let expected = match prepared.get(number) {
                None => self.expected[number].clone(),
                Some(prepared) => {
                    let planes = prepared.first().map_or(&[][..], |planes| &planes.values);
                    if trial.own_size {
                        let preprocess = &self.subject.metadata.preprocess;
                        let levels = grey_levels(preprocess, planes, &trial.prepared);
                        let worst = proof.grey_levels.unwrap_or(0.0);
                        proof.grey_levels = Some(worse(worst, levels));
                    }
                    if planes.len() != trial.prepared.len() {
                        // Already infinitely far off; the model could not run it.
                        continue;
                    }
                    self.network.trace(planes.to_vec(), trial.count)
                }
            };
            let found = difference(self.subject.metadata, &outputs[number], &expected);
            let found = found.map_err(CliError::failure)?;
            proof.difference = worse(proof.difference, found);
        }
        Ok(Ok(proof))
    }

    /// Has another process run `file` on all trials. The inner error is the engine's.
    #[allow(clippy::type_complexity, reason = "the engine's name and its outputs")]
    fn run(
        &self,
        engine: &EngineChoice,
        file: &Path,
    ) -> Result<Result<(String, Vec<Vec<RawOutput>>), String>> {
        let answers = self.folder.join("answers");
        let started = std::env::current_exe().and_then(|program| {
            Command::new(program)
                .arg("run-onnx")
                .arg(file)
                .arg(self.folder.join("trials"))
                .arg(&answers)
                .args(RunOnnxArgs::engine_arguments(engine))
                .env("NO_COLOR", "1")
                .output()
        });
        let output = started.map_err(|error| {
            CliError::failure(format!(
                "cannot start the process that runs the file: {error}"
            ))
        })?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let said = said.trim().trim_start_matches("error: ");
            let reason = if said.is_empty() {
                output.status.to_string()
            } else {
                said.to_owned()
            };
            return Ok(Err(reason));
        }
        let name = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let outputs = exchange::read_answers(&answers, self.trials.len())?;
        Ok(Ok((name, outputs)))
    }
}

impl Proof {
    /// Whether the file does what the trained model does.
    pub(super) fn holds(&self, tolerance: Tolerance) -> bool {
        self.difference <= tolerance.outputs
            && self.grey_levels.unwrap_or(0.0) <= tolerance.grey_levels
    }

    /// In words.
    pub(super) fn text(&self) -> String {
        let levels = self.grey_levels.map_or(String::new(), |levels| {
            format!(", its preprocessing by {levels:.2} grey levels")
        });
        format!(
            "largest difference to the trained model on {} images: {:.1e}{levels}, with {}",
            self.images, self.difference, self.engine
        )
    }
}

/// What to call an engine before it has said its version.
pub(super) fn describe(engine: &EngineChoice) -> String {
    match engine {
        EngineChoice::Tract => "tract (built in)".into(),
        EngineChoice::OnnxRuntimeAt(path) => format!("ONNX Runtime ({})", path.display()),
        _ => "ONNX Runtime".into(),
    }
}
