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
//! object with `wall_images_per_s`.

#![allow(clippy::print_stdout)]

use clap::Parser;
use selfcls_backends::{Selection, open};
use selfcls_benches::Outcome;
use selfcls_benches::figures::{Better, Turns, sentence};
use selfcls_benches::peer::{PeerArgs, figure, run};
use selfcls_core::Config;
use selfcls_core::data::read_all;
use selfcls_core::metadata::{Metadata, TrainingSummary};
use selfcls_core::model::state_dict;
use selfcls_core::pixels::Rgb8;
use selfcls_export::{Classifier, EngineChoice, OnnxWriter, Options};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

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
    for engine in ["onnxruntime", "tract"] {
        for &batch in &args.batch {
            let case = compare(&args, &model, engine, batch)?;
            if args.json {
                println!("{case}");
            } else {
                println!("{}", sentence(&case));
            }
        }
    }
    Ok(())
}

/// One case: the sides in turn, `rounds` times.
fn compare(args: &Args, model: &Path, engine: &str, batch: usize) -> Outcome<Value> {
    let mut turns = Turns::default();
    let mut last = Value::Null;
    for _ in 0..args.rounds.max(1) {
        last = run(&mut ourselves(args, model, engine, batch)?)?;
        turns.ours.push(figure(&last, "images_per_s")?);
        if let Some(mut peer) = args.peer.command("infer.py") {
            let crop = last["crop"].to_string();
            let resize = last["resize"].to_string();
            peer.arg(model).arg(&args.data);
            peer.args(["--crop", &crop, "--resize", &resize]);
            peer.args(limits(args, batch));
            turns
                .peer
                .push(figure(&run(&mut peer)?, "wall_images_per_s")?);
        }
    }
    let case = json!({
        "bench": "infer",
        "case": format!("{engine} batch {batch}"),
        "engine": last["engine"],
        "images": last["images"],
        "threads": args.threads,
        "open_ms": last["open_ms"],
        "prepare_share": last["prepare_share"],
    });
    Ok(turns.report(case, "images/s", Better::Higher))
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

fn ourselves(args: &Args, model: &Path, engine: &str, batch: usize) -> Outcome<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--measure", engine]);
    command.arg("--model").arg(model);
    command.arg("--data").arg(&args.data);
    if let Some(library) = &args.onnxruntime {
        command.arg("--onnxruntime").arg(library);
    }
    command.args(limits(args, batch));
    command.env("RAYON_NUM_THREADS", args.threads.to_string());
    Ok(command)
}

fn limits(args: &Args, batch: usize) -> Vec<String> {
    let pairs = [
        ("--batch", batch),
        ("--threads", args.threads),
        ("--limit", args.limit),
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
    let options = Options {
        engine: choice,
        threads: args.threads,
        ..Options::default()
    };
    let classifier = Classifier::open(model, &options)?;
    let open = started.elapsed();

    let mut files = Vec::new();
    list_images(&args.data, &mut files)?;
    files.sort();
    files.truncate(args.limit);
    let batch = args.batch.first().copied().unwrap_or(16).max(1);
    let warm_up = &files[..files.len().min(batch)];
    classifier.classify_batch(&decode(warm_up)?)?;

    let started = Instant::now();
    let mut prepare = std::time::Duration::ZERO;
    let mut classes = Vec::with_capacity(files.len());
    for files in files.chunks(batch) {
        let preparing = Instant::now();
        let input = classifier.prepare(&decode(files)?);
        prepare += preparing.elapsed();
        let outputs = classifier.run(&input)?;
        classes.extend(classifier.predictions(&outputs)?.iter().map(|p| p.class()));
    }
    let seconds = started.elapsed().as_secs_f64();
    let preprocess = &classifier.metadata().preprocess;
    Ok(json!({
        "engine": classifier.engine().to_string(),
        "images": classes.len(),
        "images_per_s": classes.len() as f64 / seconds,
        "prepare_share": prepare.as_secs_f64() / seconds,
        "open_ms": open.as_secs_f64() * 1e3,
        "resize": preprocess.resize,
        "crop": preprocess.crop,
    }))
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
