//! Trials and answers as files (safetensors), for the process that runs an engine.

use super::Trial;
use crate::inference::raw::{Pixels, RawNetwork, RawOutput};
use crate::inference::{Engine, EngineChoice};
use crate::{Error, Result};
use safetensors::{Dtype, SafeTensors, View};
use std::borrow::Cow;
use std::fs;
use std::path::Path;

/// An array on its way into a file.
struct Stored {
    dtype: Dtype,
    shape: Vec<usize>,
    data: Vec<u8>,
}

impl View for Stored {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.data)
    }

    fn data_len(&self) -> usize {
        self.data.len()
    }
}

/// Writes what the file gets in each trial.
///
/// # Errors
/// [`Error::Io`] if the file cannot be written.
pub fn write_trials(path: &Path, trials: &[Trial]) -> Result<()> {
    let arrays = trials.iter().enumerate().map(|(number, trial)| {
        let (dtype, data) = match &trial.image {
            Pixels::Float(values) => (Dtype::F32, bytes_of(values)),
            Pixels::Bytes(values) => (Dtype::U8, values.clone()),
        };
        let shape = trial.shape.clone();
        (number.to_string(), Stored { dtype, shape, data })
    });
    write(path, arrays)
}

/// Runs the file `model` on the trials in `trials`, in the engine `choice`, and writes what it says.
///
/// # Errors
/// [`Error::Engine`] and [`Error::Run`] if the engine cannot be had or fails, [`Error::Io`] and
/// [`Error::Model`] if a file cannot be read or written.
pub fn answer(
    model: &Path,
    trials: &Path,
    answers: &Path,
    choice: &EngineChoice,
) -> Result<Engine> {
    let bytes = fs::read(trials).map_err(Error::io("read", trials))?;
    let arrays = parse(trials, &bytes)?;
    let mut network = RawNetwork::load(model, choice)?;
    let mut outputs = Vec::new();
    for (name, array) in arrays.iter() {
        let image = match array.dtype() {
            Dtype::U8 => Pixels::Bytes(array.data().to_vec()),
            _ => Pixels::Float(floats(array.data())),
        };
        for output in network.run(array.shape(), &image)? {
            let stored = Stored {
                dtype: Dtype::F32,
                shape: output.shape,
                data: bytes_of(&output.values),
            };
            outputs.push((format!("{name}/{}", output.name), stored));
        }
    }
    write(answers, outputs)?;
    Ok(network.engine().clone())
}

/// Reads the outputs of each of `count` trials.
///
/// # Errors
/// [`Error::Io`] and [`Error::Model`] if the file cannot be read.
pub fn read_answers(path: &Path, count: usize) -> Result<Vec<Vec<RawOutput>>> {
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    let mut answers = vec![Vec::new(); count];
    for (name, array) in parse(path, &bytes)?.iter() {
        let (number, output) = name.split_once('/').unwrap_or_default();
        let answer = number.parse().ok().and_then(|n: usize| answers.get_mut(n));
        if let Some(answer) = answer {
            answer.push(RawOutput {
                name: output.to_owned(),
                shape: array.shape().to_vec(),
                values: floats(array.data()),
            });
        }
    }
    Ok(answers)
}

fn write(path: &Path, arrays: impl IntoIterator<Item = (String, Stored)>) -> Result<()> {
    let bytes = safetensors::serialize(arrays, None).map_err(|error| unusable(path, error))?;
    fs::write(path, bytes).map_err(Error::io("write", path))
}

fn parse<'a>(path: &Path, bytes: &'a [u8]) -> Result<SafeTensors<'a>> {
    SafeTensors::deserialize(bytes).map_err(|error| unusable(path, error))
}

fn unusable(path: &Path, error: impl std::fmt::Display) -> Error {
    Error::Model {
        model: path.display().to_string(),
        reason: error.to_string(),
        option: None,
    }
}

fn bytes_of(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    let (values, _) = bytes.as_chunks();
    values
        .iter()
        .map(|&bytes| f32::from_le_bytes(bytes))
        .collect()
}
