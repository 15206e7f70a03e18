//! Exact nearest neighbours; beside brute force with torch and with scikit-learn.
//!
//! ```text
//! cargo bench -p selfcls-benches --bench knn -- --peer-python PYTHON --json
//! ```
//!
//! Ours and the peers search the same random unit embeddings in turn, with as many threads; each figure is
//! the median of `--rounds`. Besides the time, a case tells which share of the neighbours agrees with the
//! peer's, how much memory either side took at its peak beyond its input (Linux only), and at which share
//! of the rate at which this machine multiplies large matrices, measured in the same run, ours calculated
//! similarities. The peer is called as `PYTHON SCRIPT --library L --queries FILE --references FILE
//! --dim N --k N --threads N --neighbours FILE`, reads rows of f32, writes rows of k u32, nearest first, and
//! prints a JSON object with `seconds` and `peak_mib`.
//!
//! With `--cached` the references are in a file, as they must be where a training set does not fit into memory:
//! `--cached --queries 5000 --references 200000 --dim 2048 --k 200`.

use clap::Parser;
use selfcls_backends::set_threads;
use selfcls_benches::Outcome;
use selfcls_benches::args::CommonArgs;
use selfcls_benches::figures::{Better, Turns, median};
use selfcls_benches::memory::Memory;
use selfcls_benches::peer;
use selfcls_core::data::Source;
use selfcls_core::eval::features::{Key, Precision};
use selfcls_core::eval::{Extractor, Forward, Keep, Network, PixelNetwork, nearest};
use selfcls_core::metrics::knn::{Neighbours, UnitEmbeddings};
use selfcls_core::pixels::Rgb8;
use selfcls_core::random::{Draw, Purpose, Stream, stream};
use serde_json::{Value, json};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// Seconds for an exact search, ours beside other libraries.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: CommonArgs,
    /// The peer's libraries; one case each.
    #[arg(long, value_delimiter = ',', default_values = ["torch", "scikit-learn"])]
    libraries: Vec<String>,
    /// Samples to be classified.
    #[arg(long, default_value_t = 10_000)]
    queries: usize,
    /// Samples among which neighbours are searched.
    #[arg(long, default_value_t = 50_000)]
    references: usize,
    /// Values of an embedding.
    #[arg(long, default_value_t = 128)]
    dim: usize,
    /// Neighbours of each query.
    #[arg(long, default_value_t = 20)]
    k: usize,
    /// Threads of either side.
    #[arg(long, default_value_t = NonZeroUsize::MIN.saturating_add(1))]
    threads: NonZeroUsize,
    /// Instead of beside peers: with the references in a file of features in 16 bits, as `eval knn --cache --half` has
    /// them, read in parts. Only ours, once; what counts is the memory.
    #[arg(long)]
    cached: bool,
    /// Where that file is made; it is removed again.
    #[arg(long, default_value = ".")]
    folder: PathBuf,
}

fn main() -> Outcome<()> {
    let args = Args::parse();
    set_threads(args.threads)?;
    let queries = embeddings(args.queries, args.dim, 0)?;
    if args.cached {
        let case = streamed(&args, &queries)?;
        args.common.print(&case);
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let references = embeddings(args.references, args.dim, 1)?;
    write(&folder.path().join("queries"), &queries)?;
    write(&folder.path().join("references"), &references)?;
    for library in &args.libraries {
        let case = compare(&args, library, &queries, &references, folder.path())?;
        args.common.print(&case);
    }
    Ok(())
}

/// Uniform in a cube and then scaled to length 1: no two similarities are likely to be equal.
fn embeddings(count: usize, dim: usize, number: u64) -> Outcome<UnitEmbeddings> {
    let mut draw = stream(0, Purpose::Evaluation, [number, 0, 0]);
    let values = (0..count * dim).map(|_| draw.uniform(-1.0, 1.0) as f32);
    Ok(UnitEmbeddings::new(values.collect(), dim)?)
}

fn write(path: &Path, embeddings: &UnitEmbeddings) -> Outcome<()> {
    let bytes: Vec<u8> = embeddings
        .data()
        .iter()
        .flat_map(|x| x.to_le_bytes())
        .collect();
    Ok(std::fs::write(path, bytes)?)
}

/// References that a file holds.
fn streamed(args: &Args, queries: &UnitEmbeddings) -> Outcome<Value> {
    let folder = tempfile::tempdir_in(&args.folder)?;
    let source: Arc<dyn Source> = Arc::new(Nothing(args.references));
    let preprocess = PixelNetwork { side: 1 }.preprocess();
    let extractor = Extractor {
        keep: Keep::Cache {
            path: folder.path().join("references.safetensors"),
            key: Key::new("", &*source, &preprocess, 1.0, ""),
            precision: Precision::Half,
            recompute: true,
            any_features: false,
        },
        preprocess,
        batch_size: 1024,
        workers: 1,
        temperature: 1.0,
    };
    let mut network = Random {
        dim: args.dim,
        draw: stream(0, Purpose::Evaluation, [1, 0, 0]),
    };
    let found = extractor.run(&source, &mut network, &mut |_| ())?;
    let memory = Memory::watch();
    let start = Instant::now();
    let neighbours = nearest(queries, &found.features, args.k, &mut |_| ())?;
    let seconds = start.elapsed().as_secs_f64();
    std::hint::black_box(&neighbours);
    let peak = memory.and_then(Memory::peak);
    let rate = products_per_second();
    let products = queries.len() as f64 * args.references as f64 * args.dim as f64;
    let case = json!({
        "bench": "knn",
        "case": format!(
            "{} of {} x {} in a file of 16-bit features, k {}",
            queries.len(), args.references, args.dim, args.k
        ),
        "threads": args.threads,
        "gemm_share": products / seconds / rate,
        "gemm_gflops": 2e-9 * rate,
        "file_mib": (args.references * args.dim * 2) as f64 / f64::from(1 << 20),
        "peak_mib": peak,
    });
    let turns = Turns {
        ours: vec![seconds],
        peer: Vec::new(),
    };
    Ok(turns.report(case, "s", Better::Lower))
}

/// Images of one pixel.
struct Nothing(usize);

impl Source for Nothing {
    fn len(&self) -> usize {
        self.0
    }

    fn image(&self, _: usize) -> selfcls_core::Result<Arc<Rgb8>> {
        Rgb8::new(1, 1, vec![0; 3]).map(Arc::new)
    }

    fn label(&self, _: usize) -> Option<usize> {
        None
    }

    fn classes(&self) -> &[String] {
        &[]
    }

    fn name(&self, index: usize) -> String {
        index.to_string()
    }
}

/// A network without heads whose features are random.
struct Random {
    dim: usize,
    draw: Stream,
}

impl Network for Random {
    fn forward(&mut self, _: Vec<f32>, count: usize) -> selfcls_core::Result<Forward> {
        let values = (0..count * self.dim).map(|_| self.draw.uniform(-1.0, 1.0) as f32);
        Ok(Forward {
            logits: Vec::new(),
            features: values.collect(),
        })
    }
}

/// One case: the sides in turn, `rounds` times.
fn compare(
    args: &Args,
    library: &str,
    queries: &UnitEmbeddings,
    references: &UnitEmbeddings,
    folder: &Path,
) -> Outcome<Value> {
    let mut turns = Turns::default();
    let (mut rates, mut peaks, mut peer_peak) = (Vec::new(), Vec::new(), Value::Null);
    let mut agreement = None;
    for round in 0..=args.common.rounds().end {
        let memory = Memory::watch();
        let start = Instant::now();
        let found = Neighbours::search(queries, references, args.k)?;
        let seconds = start.elapsed().as_secs_f64();
        if round == 0 {
            // The first search started the threads.
            continue;
        }
        turns.ours.push(seconds);
        peaks.extend(memory.and_then(Memory::peak));
        rates.push(products_per_second());
        if let Some(mut command) = args.common.peer.command("knn.py") {
            let result = folder.join("neighbours");
            command.args(["--library", library]);
            command.arg("--queries").arg(folder.join("queries"));
            command.arg("--references").arg(folder.join("references"));
            command.arg("--neighbours").arg(&result);
            for (name, value) in [
                ("--dim", args.dim),
                ("--k", args.k),
                ("--threads", args.threads.get()),
            ] {
                command.args([name, &value.to_string()]);
            }
            let figures = peer::run(&mut command)?;
            turns.peer.push(peer::figure(&figures, "seconds")?);
            peer_peak = figures["peak_mib"].clone();
            agreement = Some(agreeing(&found, &std::fs::read(&result)?));
        }
    }
    let products = queries.len() as f64 * references.len() as f64 * args.dim as f64;
    let share = median(&turns.ours)
        .zip(median(&rates))
        .map(|(seconds, rate)| products / seconds / rate);
    let case = json!({
        "bench": "knn",
        "case": format!(
            "{} of {} x {}, k {}, beside {library}",
            queries.len(), references.len(), args.dim, args.k
        ),
        "threads": args.threads,
        "gemm_share": share,
        "gemm_gflops": median(&rates).map(|rate| 2e-9 * rate),
        "peak_mib": median(&peaks),
        "peer_peak_mib": peer_peak,
        "agreement": agreement,
    });
    Ok(turns.report(case, "s", Better::Lower))
}

/// Which share of our neighbours stand at the same place in the peer's rows.
fn agreeing(ours: &Neighbours, peers: &[u8]) -> f64 {
    let (peers, _) = peers.as_chunks::<4>();
    let ours: Vec<u32> = ours.rows().flatten().map(|near| near.index).collect();
    let pairs = ours.iter().zip(peers);
    let equal = pairs
        .filter(|(ours, peers)| **ours == u32::from_le_bytes(**peers))
        .count();
    equal as f64 / ours.len().max(peers.len()) as f64
}

/// Multiplications (each with its addition) per second of one large matrix product on all threads: what
/// this machine can do.
#[allow(unsafe_code)]
fn products_per_second() -> f64 {
    const SIDE: usize = 1536;
    let (left, right) = (vec![0.5f32; SIDE * SIDE], vec![0.25f32; SIDE * SIDE]);
    let mut out = vec![0.0f32; SIDE * SIDE];
    let stride = SIDE as isize;
    let times: Vec<f64> = (0..4)
        .map(|_| {
            let start = Instant::now();
            // SAFETY: all three are row-major squares of `SIDE`, and `out` overlaps neither input.
            unsafe {
                gemm::gemm(
                    SIDE,
                    SIDE,
                    SIDE,
                    out.as_mut_ptr(),
                    1,
                    stride,
                    false,
                    left.as_ptr(),
                    1,
                    stride,
                    right.as_ptr(),
                    1,
                    stride,
                    0.0f32,
                    1.0f32,
                    false,
                    false,
                    false,
                    gemm::Parallelism::Rayon(0),
                );
            }
            start.elapsed().as_secs_f64()
        })
        .collect();
    std::hint::black_box(&out);
    let fastest = times.into_iter().fold(f64::INFINITY, f64::min);
    (SIDE * SIDE * SIDE) as f64 / fastest
}
