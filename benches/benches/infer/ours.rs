//! Our side, in a process of its own.

use crate::cases::Case;
use crate::{Args, alone, materials};
use selfcls_benches::Outcome;
use selfcls_benches::figures::median;
use selfcls_benches::memory;
use selfcls_core::data::read_all;
use selfcls_core::pixels::Rgb8;
use selfcls_export::{
    Classifier, Decoding, EngineChoice, OpenVinoDevice, Options, Provider, StreamOptions, read,
};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

/// What the program tells itself in another process.
#[derive(clap::Args)]
pub(crate) struct MeasureArgs {
    /// Measure this engine.
    #[arg(long = "measure", hide = true)]
    pub(crate) engine: Option<String>,
    /// What we add to the engine.
    #[arg(long, hide = true)]
    overhead: bool,
    /// One image after the other.
    #[arg(long, hide = true)]
    one_by_one: bool,
    /// Decode at a part of the size.
    #[arg(long, hide = true)]
    reduced: bool,
    /// Several runs of the network side by side.
    #[arg(long, hide = true)]
    many: bool,
}

/// This program, to measure our side of `case`.
pub(crate) fn command(args: &Args, case: &Case) -> Outcome<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--measure", case.engine]);
    command.arg("--model").arg(&case.model);
    command.arg("--data").arg(&case.data);
    for (name, library) in [
        ("--onnxruntime", &args.onnxruntime),
        ("--openvino", &args.openvino),
    ] {
        if let Some(library) = library {
            command.arg(name).arg(library);
        }
    }
    command.args(case.sizes(args));
    for (name, is_set) in [("--reduced", case.reduced), ("--many", case.many)] {
        if is_set {
            command.arg(name);
        }
    }
    command.args(["--runs", &case.runs.to_string()]);
    command.env("RAYON_NUM_THREADS", args.threads.to_string());
    Ok(command)
}

const OPENVINO: Provider = Provider::OpenVino(OpenVinoDevice::Cpu);

/// The figures, from this process.
pub(crate) fn measure(args: &Args) -> Outcome<Value> {
    let model = args.model.as_ref().ok_or("no model")?;
    let how = &args.measure;
    let started = Instant::now();
    let classifier = Classifier::open(model, &options(args)?)?;
    let open = started.elapsed();
    let files = materials::images(&args.data, args.limit)?;
    if how.overhead {
        return alone::measure(args, model, &classifier, &files);
    }
    let mut said = if how.one_by_one {
        one_by_one(&classifier, &files)?
    } else {
        stream(args, &classifier, files)?
    };
    let preprocess = &classifier.metadata().preprocess;
    said["engine"] = json!(classifier.runs_on());
    said["open_ms"] = json!(open.as_secs_f64() * 1e3);
    said["peak_mib"] = json!(memory::peak());
    said["resize"] = json!(preprocess.resize);
    said["crop"] = json!(preprocess.crop);
    Ok(said)
}

fn options(args: &Args) -> Outcome<Options> {
    let engine = args.measure.engine.as_deref();
    let choice = match (engine, &args.onnxruntime, &args.openvino) {
        (Some("tract"), _, _) => EngineChoice::Tract,
        (Some("openvino" | "openvino-bf16"), _, Some(library)) => {
            EngineChoice::OnnxRuntimeAt(library.clone())
        }
        (_, Some(library), _) => EngineChoice::OnnxRuntimeAt(library.clone()),
        (_, None, _) => EngineChoice::OnnxRuntime,
    };
    let options = Options::default()
        .engine(choice)
        .threads(args.threads)
        .runs(args.runs)
        .many(args.measure.many);
    Ok(match engine {
        Some("openvino") => options.provider(OPENVINO),
        Some("openvino-bf16") => options.provider(OPENVINO).half_precision(true),
        _ => options,
    })
}

/// All files as a stream, after one batch to warm up.
fn stream(args: &Args, classifier: &Classifier, files: Vec<PathBuf>) -> Outcome<Value> {
    let batch = args.batch.first().copied().unwrap_or(16).max(1);
    // One image for all: what is warmed up is the engine, and each of its runs has its own memory.
    let image = read(files.first().ok_or("no images")?)?;
    classifier.classify_batch(&vec![&image; 2 * batch])?;
    drop(image);
    let count = files.len();
    let decoding = match args.measure.reduced {
        true => Decoding::Reduced,
        false => Decoding::Exact,
    };
    let stream = StreamOptions::default().batch(batch).decoding(decoding);
    let (started, busy) = (Instant::now(), process_ms());
    for (_, prediction) in stream.start(classifier, files)? {
        prediction?;
    }
    let seconds = started.elapsed().as_secs_f64();
    let busy = process_ms().zip(busy).map(|(after, before)| after - before);
    Ok(json!({
        "images": count,
        "images_per_s": count as f64 / seconds,
        "cpu_ms_per_image": busy.map(|ms| ms / count as f64),
    }))
}

/// From a file to its answer, one after the other.
fn one_by_one(classifier: &Classifier, files: &[PathBuf]) -> Outcome<Value> {
    let classify = |file: &PathBuf| classifier.classify(&read(file)?);
    let busy = process_ms();
    // The first one warms up, and is what a start from nothing is measured by.
    let first = files.first().ok_or("no images")?;
    classify(first)?;
    let mut times = Vec::new();
    for file in &files[1..] {
        let started = Instant::now();
        classify(file)?;
        times.push(started.elapsed().as_secs_f64() * 1e3);
    }
    let busy = process_ms().zip(busy).map(|(after, before)| after - before);
    Ok(json!({
        "images": files.len(),
        "latency_ms": median(&times),
        "cpu_ms_per_image": busy.map(|ms| ms / files.len() as f64),
    }))
}

pub(crate) fn decode(files: &[PathBuf]) -> Outcome<Vec<Rgb8>> {
    let images: Result<Vec<Rgb8>, _> = read_all(files).into_iter().collect();
    Ok(images?)
}

/// Processor time of this process so far, in steps of a hundredth of a second, where the system tells.
fn process_ms() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    // After the program's name, which may have spaces.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) * 10.0)
}
