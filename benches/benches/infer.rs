//! Classifying a folder of images, end to end: read, decode, preprocess, run; beside a Python program
//! that does the same with Pillow and onnxruntime.
//!
//! ```text
//! cargo bench -p selfcls-benches --bench infer -- --data FOLDER --peer-python PYTHON --json
//! ```
//!
//! The model is a ResNet-18 for 224 pixels with initial weights, exported by this build, or that of `--model`.
//! Ours and the peer run in turn, each in a process of its own (a process is bound to one engine), on the
//! same files, threads and batch; each figure is the median of `--rounds`. The peer is called as
//! `PYTHON SCRIPT MODEL FOLDER --batch N --threads N --limit N --resize N --crop N` and prints a JSON
//! object with `wall_images_per_s` and, if it likes, `peak_mib`, the memory it took.
//!
//! Per engine there are, beside a case for each batch: `start`, from nothing to the first answer, processes
//! included, and `overhead`, our [`Classifier::run`] beside the engine alone on the same prepared images, in
//! turn in one process.

#![allow(clippy::print_stdout)]

use clap::Parser;
use selfcls_backends::{Selection, open};
use selfcls_benches::Outcome;
use selfcls_benches::figures::{Better, Turns, median, sentence};
use selfcls_benches::peer::{PeerArgs, figure, run};
use selfcls_core::Config;
use selfcls_core::data::read_all;
use selfcls_core::metadata::{Metadata, TrainingSummary};
use selfcls_core::model::state_dict;
use selfcls_core::pixels::Rgb8;
use selfcls_export::inference::ort::session::Session;
use selfcls_export::inference::ort::session::builder::GraphOptimizationLevel;
use selfcls_export::inference::ort::value::TensorRef;
use selfcls_export::inference::{environment, ort};
use selfcls_export::{Classifier, Engine, EngineChoice, OnnxWriter, Options, StreamOptions};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// Runs of each image for the overhead, the first not counted.
const ALTERNATIONS: usize = 4;

/// Images classified per second, ours beside a Python peer.
#[derive(Parser)]
struct Args {
    /// An exported classifier; without it, a ResNet-18 with initial weights is exported first.
    #[arg(long)]
    model: Option<PathBuf>,
    /// A folder of images, searched recursively.
    #[arg(long)]
    data: PathBuf,
    /// ONNX Runtime's library; without it, ORT_DYLIB_PATH or a well-known place must have it.
    #[arg(long)]
    onnxruntime: Option<PathBuf>,
    #[command(flatten)]
    peer: PeerArgs,
    /// Images per run of the network; one case each.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16])]
    batch: Vec<usize>,
    /// Threads of either side.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Runs of the network at a time of our side; 0 is the default.
    #[arg(long, default_value_t = 0)]
    runs: usize,
    /// At most this many images.
    #[arg(long, default_value_t = 200)]
    limit: usize,
    /// Alternations of ours and the peer.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// One JSON object per case instead of a sentence.
    #[arg(long)]
    json: bool,
    /// Measure this engine in this process and print its figures (used by the program itself).
    #[arg(long, hide = true)]
    measure: Option<String>,
    /// Measure what we add to the engine (used by the program itself).
    #[arg(long, hide = true)]
    overhead: bool,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Outcome<()> {
    let args = Args::parse();
    let folder = tempfile::tempdir()?;
    let model = match &args.model {
        Some(model) => model.clone(),
        None => untrained(folder.path())?,
    };
    if let Some(engine) = &args.measure {
        println!("{}", measure(&args, &model, engine)?);
        return Ok(());
    }
    let report = |case: Value| {
        if args.json {
            println!("{case}");
        } else {
            println!("{}", sentence(&case));
        }
    };
    for engine in ["onnxruntime", "tract"] {
        for &batch in &args.batch {
            report(compare(&args, &model, engine, batch)?);
        }
        report(start(&args, &model, engine)?);
        report(overhead(&args, &model, engine)?);
    }
    Ok(())
}

/// One case: the sides in turn, `rounds` times.
fn compare(args: &Args, model: &Path, engine: &str, batch: usize) -> Outcome<Value> {
    let mut turns = Turns::default();
    let mut last = Value::Null;
    let mut theirs = Value::Null;
    for _ in 0..args.rounds.max(1) {
        last = run(&mut ourselves(args, model, engine, batch, args.limit)?)?;
        turns.ours.push(figure(&last, "images_per_s")?);
        if let Some(mut peer) = their_command(args, model, &last, batch, args.limit) {
            theirs = run(&mut peer)?;
            turns.peer.push(figure(&theirs, "wall_images_per_s")?);
        }
    }
    let case = json!({
        "bench": "infer",
        "case": format!("{engine} batch {batch}"),
        "engine": last["engine"],
        "images": last["images"],
        "threads": args.threads,
        "open_ms": last["open_ms"],
        "latency_ms": last["latency_ms"],
        "peak_mib": [last["peak_mib"], theirs["peak_mib"]],
    });
    Ok(turns.report(case, "images/s", Better::Higher))
}

/// From nothing to the first answer.
fn start(args: &Args, model: &Path, engine: &str) -> Outcome<Value> {
    let mut turns = Turns::default();
    let timed = |command: &mut Command| -> Outcome<(f64, Value)> {
        let started = Instant::now();
        let said = run(command)?;
        Ok((started.elapsed().as_secs_f64() * 1e3, said))
    };
    for _ in 0..args.rounds.max(1) {
        let (ours, said) = timed(&mut ourselves(args, model, engine, 1, 1)?)?;
        turns.ours.push(ours);
        if let Some(mut peer) = their_command(args, model, &said, 1, 1) {
            turns.peer.push(timed(&mut peer)?.0);
        }
    }
    let case =
        json!({"bench": "infer", "case": format!("{engine} start"), "threads": args.threads});
    Ok(turns.report(case, "ms", Better::Lower))
}

/// What we add to the engine.
fn overhead(args: &Args, model: &Path, engine: &str) -> Outcome<Value> {
    let mut command = ourselves(args, model, engine, 1, args.limit.min(16))?;
    let said = run(command.arg("--overhead"))?;
    let list = |key: &str| -> Vec<f64> {
        let values = said[key].as_array().map_or(&[][..], Vec::as_slice);
        values.iter().filter_map(Value::as_f64).collect()
    };
    let turns = Turns {
        ours: list("ours_ms"),
        peer: list("engine_ms"),
    };
    let case = json!({
        "bench": "infer",
        "case": format!("{engine} overhead"),
        "engine": said["engine"],
        "threads": args.threads,
    });
    Ok(turns.report(case, "ms per image", Better::Lower))
}

fn their_command(
    args: &Args,
    model: &Path,
    ours: &Value,
    batch: usize,
    limit: usize,
) -> Option<Command> {
    let mut peer = args.peer.command("infer.py")?;
    let (crop, resize) = (ours["crop"].to_string(), ours["resize"].to_string());
    peer.arg(model).arg(&args.data);
    peer.args(["--crop", &crop, "--resize", &resize]);
    peer.args(limits(args, batch, limit));
    Some(peer)
}

/// Exports a ResNet-18 with initial weights: how long it takes does not depend on what it has learnt.
fn untrained(folder: &Path) -> Outcome<PathBuf> {
    let mut config = Config::default();
    config.model.hidden_dim = 512;
    config.model.heads = vec![1000];
    let device = open(&Selection::default())?.device;
    let weights = state_dict(&config.model.init(&device, 0));
    let metadata = Metadata::new(&config, TrainingSummary::default());
    let path = folder.join("resnet18.onnx");
    OnnxWriter::new(&config.model, &weights, metadata).write(&path)?;
    Ok(path)
}

fn ourselves(
    args: &Args,
    model: &Path,
    engine: &str,
    batch: usize,
    limit: usize,
) -> Outcome<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--measure", engine]);
    command.arg("--model").arg(model);
    command.arg("--data").arg(&args.data);
    if let Some(library) = &args.onnxruntime {
        command.arg("--onnxruntime").arg(library);
    }
    command.args(limits(args, batch, limit));
    if args.runs > 0 {
        command.args(["--runs", &args.runs.to_string()]);
    }
    command.env("RAYON_NUM_THREADS", args.threads.to_string());
    Ok(command)
}

fn limits(args: &Args, batch: usize, limit: usize) -> Vec<String> {
    let pairs = [
        ("--batch", batch),
        ("--threads", args.threads),
        ("--limit", limit),
    ];
    pairs
        .iter()
        .flat_map(|(name, value)| [(*name).to_owned(), value.to_string()])
        .collect()
}

/// Our side: classifies one batch to warm up, then all files against the clock.
fn measure(args: &Args, model: &Path, engine: &str) -> Outcome<Value> {
    let choice = match (engine, &args.onnxruntime) {
        ("tract", _) => EngineChoice::Tract,
        (_, Some(library)) => EngineChoice::OnnxRuntimeAt(library.clone()),
        (_, None) => EngineChoice::OnnxRuntime,
    };
    let started = Instant::now();
    let options = Options::default()
        .engine(choice)
        .threads(args.threads)
        .runs(args.runs)
        // One image at a time is to be answered soonest; of batches there are many.
        .many(args.batch.first().is_some_and(|&batch| batch > 1));
    let classifier = Classifier::open(model, &options)?;
    let open = started.elapsed();

    let mut files = Vec::new();
    list_images(&args.data, &mut files)?;
    files.sort();
    files.truncate(args.limit);
    if args.overhead {
        return alone(args, model, &classifier, &files);
    }
    let batch = args.batch.first().copied().unwrap_or(16).max(1);
    let warm_up = decode(&files[..files.len().min(batch)])?;
    classifier.classify_batch(&warm_up)?;

    let count = files.len();
    let stream = StreamOptions::default().batch(batch);
    let started = Instant::now();
    for (_, prediction) in stream.start(&classifier, files)? {
        prediction?;
    }
    let seconds = started.elapsed().as_secs_f64();
    let times: Vec<f64> = warm_up
        .iter()
        .cycle()
        .take(if args.limit > 1 { 20 } else { 0 })
        .map(|image| -> Outcome<f64> {
            let started = Instant::now();
            classifier.classify(image)?;
            Ok(started.elapsed().as_secs_f64() * 1e3)
        })
        .collect::<Outcome<_>>()?;
    let preprocess = &classifier.metadata().preprocess;
    Ok(json!({
        "engine": classifier.engine().to_string(),
        "images": count,
        "images_per_s": count as f64 / seconds,
        "open_ms": open.as_secs_f64() * 1e3,
        "latency_ms": median(&times),
        "peak_mib": peak_mib(),
        "resize": preprocess.resize,
        "crop": preprocess.crop,
    }))
}

/// Our run of the network beside the engine's alone, image by image in turn.
fn alone(args: &Args, model: &Path, classifier: &Classifier, files: &[PathBuf]) -> Outcome<Value> {
    let environment = environment().ok_or("no engine is in use")?;
    let builder = Session::builder(&environment)?;
    let mut builder = builder.with_optimization_level(GraphOptimizationLevel::All)?;
    if matches!(classifier.engine(), Engine::OnnxRuntime(_)) {
        // As ours: what is compared is what we add.
        builder = builder
            .with_intra_threads(args.threads)?
            .with_intra_op_spinning(false)?;
    }
    let mut session = builder.commit_from_file(model)?;
    let side = classifier.input_side();
    let inputs: Vec<Vec<f32>> = decode(files)?
        .iter()
        .map(|image| classifier.prepare(std::slice::from_ref(image)))
        .collect();
    let (mut ours, mut engine) = (Vec::new(), Vec::new());
    for round in 0..ALTERNATIONS {
        for input in &inputs {
            let started = Instant::now();
            classifier.run(input)?;
            let us = started.elapsed().as_secs_f64() * 1e3;
            let started = Instant::now();
            let image = TensorRef::from_array_view(([1, 3, side, side], input.as_slice()))?;
            session.run(ort::inputs!["image" => image])?;
            let it = started.elapsed().as_secs_f64() * 1e3;
            // The first round warms up.
            if round > 0 {
                ours.push(us);
                engine.push(it);
            }
        }
    }
    Ok(json!({
        "engine": classifier.engine().to_string(),
        "ours_ms": ours,
        "engine_ms": engine,
    }))
}

/// The most memory that this process has had, where the system tells.
fn peak_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024.0)
}

fn decode(files: &[PathBuf]) -> Outcome<Vec<Rgb8>> {
    let images: Result<Vec<Rgb8>, _> = read_all(files).into_iter().collect();
    Ok(images?)
}

/// The files that the peer would take.
fn list_images(folder: &Path, found: &mut Vec<PathBuf>) -> Outcome<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let extension = path.extension().map(|e| e.to_ascii_lowercase());
        if path.is_dir() {
            list_images(&path, found)?;
        } else if extension.is_some_and(|e| e == "jpg" || e == "jpeg" || e == "png") {
            found.push(path);
        }
    }
    Ok(())
}
