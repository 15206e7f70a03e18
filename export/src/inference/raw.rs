//! A file in an engine, without our own checks: for looking at a file that was just written, whatever its
//! inputs and outputs are. Files from elsewhere belong into a [`Classifier`](super::Classifier).

use super::engine::{self, Engine, EngineChoice, Selected};
use super::fixed::Fixed;
use crate::{Error, Result, names};
use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;
use ort::value::TensorRef;
use std::path::Path;

/// The values of `image`, row-major.
#[derive(Debug, Clone, PartialEq)]
pub enum Pixels {
    /// Of a file that takes normalised planes.
    Float(Vec<f32>),
    /// Of a file that takes bytes.
    Bytes(Vec<u8>),
}

/// An output of one run.
#[derive(Debug, Clone, PartialEq)]
pub struct RawOutput {
    /// Its name.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its values, row-major.
    pub values: Vec<f32>,
}

/// A loaded file.
pub struct RawNetwork {
    engine: Engine,
    loaded: Loaded,
}

enum Loaded {
    OnnxRuntime(Session),
    Tract(Fixed),
}

impl RawNetwork {
    /// Loads the file at `path`, with the weights beside it where it keeps them there.
    ///
    /// # Errors
    /// [`Error::Engine`] if there is no such engine, [`Error::Run`] if it refuses the file.
    pub fn load(path: &Path, choice: &EngineChoice) -> Result<Self> {
        let selected = engine::select(choice, &[])?;
        let engine = selected.engine();
        let failed = |reason: String| failed(&engine, "load the file", reason);
        let loaded = match selected {
            Selected::Tract => Loaded::Tract(Fixed::load(path).map_err(failed)?),
            Selected::OnnxRuntime(runtime) => {
                let load = || -> ort::Result<Session> {
                    Session::builder(&runtime.environment)?
                        .with_optimization_level(GraphOptimizationLevel::All)?
                        .commit_from_file(path)
                };
                Loaded::OnnxRuntime(load().map_err(|error| failed(error.to_string()))?)
            }
        };
        Ok(Self { engine, loaded })
    }

    /// What runs it.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Runs it on `image` of `shape` and gives all outputs.
    ///
    /// # Errors
    /// [`Error::Run`] if the engine fails or an output is not `f32`.
    pub fn run(&mut self, shape: &[usize], image: &Pixels) -> Result<Vec<RawOutput>> {
        let outputs = match &mut self.loaded {
            Loaded::OnnxRuntime(session) => {
                run(session, shape, image).map_err(|error| error.to_string())
            }
            Loaded::Tract(fixed) => fixed.run(shape, image),
        };
        outputs.map_err(|reason| failed(&self.engine, "run the file", reason))
    }
}

fn run(session: &mut Session, shape: &[usize], image: &Pixels) -> ort::Result<Vec<RawOutput>> {
    let outputs = match image {
        Pixels::Float(values) => {
            let input = TensorRef::from_array_view((shape, &values[..]))?;
            session.run(ort::inputs![names::IMAGE => input])
        }
        Pixels::Bytes(values) => {
            let input = TensorRef::from_array_view((shape, &values[..]))?;
            session.run(ort::inputs![names::IMAGE => input])
        }
    }?;
    let outputs = outputs.iter().map(|(name, value)| {
        let (shape, values) = value.try_extract_tensor::<f32>()?;
        Ok(RawOutput {
            name: name.to_owned(),
            shape: shape.iter().map(|&n| n as usize).collect(),
            values: values.to_vec(),
        })
    });
    outputs.collect()
}

impl std::fmt::Debug for RawNetwork {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RawNetwork")
            .field("engine", &self.engine)
            .finish_non_exhaustive()
    }
}

fn failed(engine: &Engine, action: &'static str, reason: String) -> Error {
    Error::Run {
        engine: engine.to_string(),
        action,
        reason,
    }
}
