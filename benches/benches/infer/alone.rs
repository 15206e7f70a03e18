//! Our run of the network beside the engine's alone.

use crate::Args;
use crate::ours::decode;
use selfcls_benches::Outcome;
use selfcls_benches::clock::Clock;
use selfcls_export::inference::environment;
use selfcls_export::inference::ort::inputs;
use selfcls_export::inference::ort::session::Session;
use selfcls_export::inference::ort::session::builder::GraphOptimizationLevel;
use selfcls_export::inference::ort::value::TensorRef;
use selfcls_export::inference::raw::{Pixels, RawNetwork};
use selfcls_export::{Classifier, Engine, EngineChoice};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Pairs of runs at least, the first ones not counted.
const PAIRS: usize = 48;
const WARM_UP: usize = 2;

/// Batches of `files` through ours and the bare engine, in turn, in milliseconds per image.
pub(crate) fn measure(
    args: &Args,
    model: &Path,
    classifier: &Classifier,
    files: &[PathBuf],
) -> Outcome<Value> {
    let mut bare = Bare::new(args, model, classifier)?;
    let side = classifier.input_side();
    let batch = args.batch.first().copied().unwrap_or(1).min(files.len());
    let inputs: Vec<Vec<f32>> = decode(files)?
        .chunks_exact(batch)
        .map(|images| classifier.prepare(images))
        .collect();
    let mut figures = [const { Vec::new() }; 4];
    let pairs = (PAIRS / batch).max(8) + WARM_UP;
    for (pair, input) in inputs.iter().cycle().take(pairs).enumerate() {
        let ours = timed(|| {
            classifier.run(input)?;
            Ok(())
        })?;
        let shape = [batch, 3, side, side];
        // Not a part of what is measured.
        let pixels = Pixels::Float(input.clone());
        let engine = timed(|| bare.run(shape, &pixels))?;
        if pair >= WARM_UP {
            let values = [ours.0, engine.0, ours.1, engine.1];
            for (figures, value) in figures.iter_mut().zip(values) {
                figures.push(value / batch as f64);
            }
        }
    }
    let [ours, engine, ours_cpu, engine_cpu] = figures;
    Ok(json!({
        "engine": classifier.engine().to_string(),
        "ours_ms": ours,
        "engine_ms": engine,
        "ours_cpu_ms": ours_cpu,
        "engine_cpu_ms": engine_cpu,
    }))
}

/// The engine alone.
enum Bare {
    OnnxRuntime(Session),
    Tract(RawNetwork),
}

impl Bare {
    fn new(args: &Args, model: &Path, classifier: &Classifier) -> Outcome<Self> {
        if *classifier.engine() == Engine::Tract {
            return Ok(Self::Tract(RawNetwork::load(model, &EngineChoice::Tract)?));
        }
        let environment = environment().ok_or("ONNX Runtime is not in use")?;
        // As ours: what is compared is what we add.
        let builder = Session::builder(&environment)?;
        let mut builder = builder
            .with_optimization_level(GraphOptimizationLevel::All)?
            .with_intra_threads(args.threads)?
            .with_intra_op_spinning(false)?;
        Ok(Self::OnnxRuntime(builder.commit_from_file(model)?))
    }

    fn run(&mut self, shape: [usize; 4], image: &Pixels) -> Outcome<()> {
        match (self, image) {
            (Self::OnnxRuntime(session), Pixels::Float(values)) => {
                let image = TensorRef::from_array_view((shape, values.as_slice()))?;
                session.run(inputs!["image" => image])?;
            }
            (Self::OnnxRuntime(_), Pixels::Bytes(_)) => return Err("no floats".into()),
            (Self::Tract(network), image) => {
                network.run(&shape, image)?;
            }
        }
        Ok(())
    }
}

/// Milliseconds on the clock and of processor time, over all threads; not a number where the system does not tell.
fn timed(work: impl FnOnce() -> Outcome<()>) -> Outcome<(f64, f64)> {
    let busy = || Clock::Processor.now().ok();
    let (started, before) = (Instant::now(), busy());
    work()?;
    let wall = started.elapsed().as_secs_f64() * 1e3;
    let busy = busy().zip(before).map(|(after, before)| after - before);
    Ok((wall, busy.unwrap_or(f64::NAN)))
}
