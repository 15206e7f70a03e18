//! Classifying a folder of images, end to end: read, decode, preprocess, run; beside a Python program
//! that does the same with Pillow and onnxruntime.
//!
//! ```text
//! cargo bench -p selfcls-benches --bench infer -- --data FOLDER --peer-python PYTHON --json
//! ```
//!
//! The model is a ResNet-18 for 224 pixels with initial weights, exported by this build, or that of `--model`.
//! Ours and the peer run in turn, each in a process of its own (a process is bound to one library), on the
//! same files, threads and batch; each figure is the median of `--rounds`. The peer is called as
//! `PYTHON SCRIPT MODEL FOLDER --batch N --threads N --limit N --resize N --crop N` and prints a JSON
//! object with `wall_images_per_s` and, if it likes, `peak_mib`, the memory it took, `cpu_ms_per_image` and
//! `latency_ms`, the median time of a batch.
//!
//! | case | what is compared |
//! |---|---|
//! | `batch N` | images per second; with 1 we have two images under way at a time (`Options::many`), the peer one |
//! | `latency` | one image after the other, from file to answer: the median time |
//! | `runs` | several runs of the network side by side, beside one on all threads: both ours |
//! | `int8` | the file that docs/quantise_int8.py makes of the model, on both sides |
//! | `large photos` | `--data` enlarged to 12 megapixels; we decode at a part of the size, as `predict --fast` |
//! | `large photos, draft` | the peer too, with Pillow's `draft` |
//! | `start` | from nothing to the first answer, processes included |
//! | `overhead N` | our [`Classifier::run`] beside the engine alone on the same prepared images, in one process |
//! | `overhead N, processor time` | the same in processor time, which a busy machine disturbs less |
//!
//! `--only TEXT` chooses cases by their names. Each case also says the processor time per image and the most memory
//! of either side, where they are known.

#![allow(clippy::print_stdout)]

mod alone;
mod cases;
mod materials;
mod ours;

use clap::Parser;
use selfcls_benches::Outcome;
use selfcls_benches::args::CommonArgs;
use std::path::PathBuf;

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
    /// An ONNX Runtime with OpenVINO, for cases with it; without it, the one that SELFCLS_OPENVINO_DYLIB names.
    #[arg(long)]
    openvino: Option<PathBuf>,
    #[command(flatten)]
    common: CommonArgs,
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
    /// Only the cases whose names contain this.
    #[arg(long)]
    only: Option<String>,
    /// Measure in this process and print the figures (used by the program itself).
    #[command(flatten)]
    measure: ours::MeasureArgs,
}

fn main() -> Outcome<()> {
    let mut args = Args::parse();
    if args.openvino.is_none() {
        args.openvino = std::env::var_os("SELFCLS_OPENVINO_DYLIB")
            .filter(|path| !path.is_empty())
            .map(PathBuf::from);
    }
    if args.measure.engine.is_some() {
        println!("{}", ours::measure(&args)?);
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    cases::all(&args, folder.path(), &mut |case| {
        args.common.print(&case);
    })
}
