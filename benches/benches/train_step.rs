//! A training step, views on the device to updated weights; beside PyTorch.
//!
//! ```text
//! cargo bench -p selfcls-benches --bench train_step -- --peer-python PYTHON --json
//! ```
//!
//! Ours and the peer run in turn on random views of the same shapes, with the same network, heads and
//! queue and as many threads; each figure is the median over rounds of the median over steps (on a GPU the mean over
//! steps that follow each other without a wait). Every
//! backend of this build is measured (`--features selfcls-benches/tch` adds one), or those of
//! `--backend`, each on the cases that suit it, or those that `--case` names. A second series of steps is
//! timed phase by phase, with the device waited for in between. The peer is called as `PYTHON SCRIPT
//! --arch A --batch N --global-size N --locals N --local-size N --heads N... --hidden N --dim N
//! --queue N --threads N --steps N --warmup N` and what `--peer-arg` adds (`--channels-last`,
//! `--amp=bfloat16`), and prints a JSON object of milliseconds, `total` and the five phases, and of `peak_mib`.
//!
//! Memory is what the steps take at their peak beyond what the process held before the network was made, libraries
//! included: of the first case alone, since later ones find the memory of earlier ones.

#![allow(clippy::print_stdout)]

use burn::tensor::{Device, Distribution, Int, Tensor};
use clap::Parser;
use selfcls_backends::{Backend, Opened, Selection, open, set_threads};
use selfcls_benches::Outcome;
use selfcls_benches::clock::Clock;
use selfcls_benches::figures::{Better, Turns, median, sentence};
use selfcls_benches::memory::Memory;
use selfcls_benches::peer::{self, PeerArgs};
use selfcls_core::Config;
use selfcls_core::loss::Loss;
use selfcls_core::model::{Context, Noise, SelfClassifier, ViewBatch, with_weight_layout};
use selfcls_core::optim::Optimizer;
use selfcls_core::queue::Queue;
use selfcls_core::runtime::Runtime;
use selfcls_core::train::{Batch, Learner};
use serde_json::{Map, Value, json};
use std::num::NonZeroUsize;
use std::time::Instant;

/// Milliseconds per training step, ours beside PyTorch's.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    peer: PeerArgs,
    /// One more argument for the peer; may be repeated.
    #[arg(long, allow_hyphen_values = true)]
    peer_arg: Vec<String>,
    /// Backends as the program's --backend takes them; by default all of this build.
    #[arg(long, value_delimiter = ',')]
    backend: Vec<Selection>,
    /// Run the cases whose name contains this, on every backend; may be repeated.
    #[arg(long)]
    case: Vec<String>,
    /// Name all cases and end.
    #[arg(long)]
    list: bool,
    /// Threads of either side.
    #[arg(long, default_value_t = NonZeroUsize::MIN.saturating_add(1))]
    threads: NonZeroUsize,
    /// What ours computes convolutions and linear layers in: f32, bf16 or fp16. The peer's is a `--peer-arg`.
    #[arg(long, default_value = "f32")]
    precision: String,
    /// Ours recomputes activations (`train.recompute`), in whole steps; what that costs and spares.
    #[arg(long)]
    recompute: bool,
    /// Whole steps of ours and nothing else, none waited for: also how long handing one over takes (`host_ms`).
    #[arg(long)]
    whole: bool,
    /// Alternations of ours and the peer.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Steps per round.
    #[arg(long, default_value_t = 3)]
    steps: usize,
    /// Steps before the first that counts.
    #[arg(long, default_value_t = 2)]
    warmup: usize,
    /// Count the processor time of all threads instead of the time that passes, on Linux and without a peer: it tells
    /// the shares of the phases on a machine that other programs use too.
    #[arg(long, conflicts_with = "peer_python")]
    processor_time: bool,
    /// One JSON object per case instead of a sentence.
    #[arg(long)]
    json: bool,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

/// The shape of a training step.
struct Case {
    name: &'static str,
    /// The name of the backbone, ours and torchvision's.
    arch: &'static str,
    batch: usize,
    global_size: usize,
    locals: usize,
    local_size: usize,
    /// The slowest kind of backend that is measured on it unless asked.
    least: Speed,
}

#[derive(PartialEq, PartialOrd)]
enum Speed {
    /// A second opinion, or a graphics driver that may run on a CPU.
    Slow,
    /// At home on a laptop.
    Middling,
    /// What large trainings run on.
    Fast,
    /// None: measured where it is asked for, on GPUs.
    Asked,
}

const CASES: [Case; 7] = [
    case("resnet18 2x32 b8", "resnet18", 8, (32, 0, 0), Speed::Slow),
    case(
        "resnet18 2x32 b64",
        "resnet18",
        64,
        (32, 0, 0),
        Speed::Middling,
    ),
    case(
        "resnet18 2x32+6x16 b64",
        "resnet18",
        64,
        (32, 6, 16),
        Speed::Middling,
    ),
    case(
        "resnet50 2x224+6x96 b8",
        "resnet50",
        8,
        (224, 6, 96),
        Speed::Fast,
    ),
    case("vit_tiny 2x224 b8", "vit_tiny", 8, (224, 0, 0), Speed::Fast),
    case(
        "resnet50 2x224+6x96 b64",
        "resnet50",
        64,
        (224, 6, 96),
        Speed::Asked,
    ),
    case(
        "vit_tiny 2x224 b64",
        "vit_tiny",
        64,
        (224, 0, 0),
        Speed::Asked,
    ),
];

/// Of `batch` samples with two global views and `(global size, local views, local size)`.
const fn case(
    name: &'static str,
    arch: &'static str,
    batch: usize,
    (global_size, locals, local_size): (usize, usize, usize),
    least: Speed,
) -> Case {
    Case {
        name,
        arch,
        batch,
        global_size,
        locals,
        local_size,
        least,
    }
}

const HEADS: [usize; 4] = [10, 20, 40, 80];
const HIDDEN: usize = 512;
const DIM: usize = 128;
const QUEUE: usize = 16_384;
const GLOBALS: usize = 2;
/// Learning rate: small, so that no number of steps on random images overflows.
const RATE: f64 = 0.1;

const PHASES: [&str; 5] = ["embed", "queue_heads", "loss", "backward", "optimizer"];

impl Case {
    /// The configuration of this case.
    ///
    /// # Errors
    /// If this build does not know the backbone or the precision.
    fn config(&self, args: &Args) -> Result<Config, String> {
        let text = format!(
            "[model]\nbackbone = \"{}\"\n[train]\nprecision = \"{}\"\nrecompute = {}\n",
            self.arch, args.precision, args.recompute
        );
        let mut config = Config::from_toml(&text)?;
        config.model.hidden_dim = HIDDEN;
        config.model.dim = DIM;
        config.model.heads = HEADS.to_vec();
        config.queue.length = QUEUE;
        Ok(config)
    }

    fn peer_args(&self) -> Vec<String> {
        let mut args = vec![
            "--arch".to_owned(),
            self.arch.to_owned(),
            "--heads".to_owned(),
        ];
        args.extend(HEADS.map(|classes| classes.to_string()));
        for (name, value) in [
            ("--batch", self.batch),
            ("--global-size", self.global_size),
            ("--locals", self.locals),
            ("--local-size", self.local_size),
            ("--hidden", HIDDEN),
            ("--dim", DIM),
            ("--queue", QUEUE),
        ] {
            args.extend([name.to_owned(), value.to_string()]);
        }
        args
    }
}

fn speed(backend: Backend) -> Speed {
    match backend {
        Backend::NdArray | Backend::Wgpu => Speed::Slow,
        Backend::Flex => Speed::Middling,
        Backend::Tch => Speed::Fast,
    }
}

fn main() -> Outcome<()> {
    let args = Args::parse();
    if args.list {
        CASES.iter().for_each(|case| println!("{}", case.name));
        return Ok(());
    }
    set_threads(args.threads)?;
    let compiled_in = Backend::ALL.into_iter().filter(|b| b.is_compiled_in());
    let selections: Vec<Selection> = match &args.backend[..] {
        [] => compiled_in.map(Backend::default_selection).collect(),
        chosen => chosen.to_vec(),
    };
    let mut first = true;
    for selection in selections {
        let opened = open(&selection)?;
        for case in &CASES {
            let chosen = match &args.case[..] {
                [] => speed(opened.backend) >= case.least,
                parts => parts.iter().any(|part| case.name.contains(part)),
            };
            if chosen {
                let report = compare(&args, &opened, case, std::mem::take(&mut first))?;
                if args.json {
                    println!("{report}");
                } else {
                    println!("{}", sentence(&report));
                }
            }
        }
    }
    Ok(())
}

/// One case on one backend: the sides in turn, `rounds` times. Of the `first` the memory, too.
fn compare(args: &Args, opened: &Opened, case: &Case, first: bool) -> Outcome<Value> {
    let mut report = json!({
        "bench": "train_step",
        "case": format!("{}, {}", case.name, opened.backend),
        "backend": opened.name,
        "precision": args.precision,
        "recompute": args.recompute,
        "threads": args.threads,
    });
    let config = match case.config(args) {
        Ok(config) => config,
        Err(reason) => {
            report["not_available"] = reason.into();
            return Ok(report);
        }
    };
    let runtime = opened.runtime(config.train.precision)?;
    let memory = first.then(Memory::watch).flatten();
    let data = Data::new(case, &runtime.device);
    let clock = match args.processor_time {
        true => Clock::Processor,
        false => Clock::Wall(Instant::now()),
    };
    let mut whole = Whole::new(&config, &runtime, &data);
    for _ in 0..args.warmup + args.steps {
        whole.step(clock)?;
    }
    let peak = memory.and_then(Memory::peak);
    if args.whole {
        let (host, step) = whole.series(args.steps.max(1), clock)?;
        report["host_ms"] = json!(host);
        report["peak_mib"] = json!([peak, Value::Null]);
        let turns = Turns {
            ours: vec![step],
            ..Turns::default()
        };
        return Ok(turns.report(report, "ms per step", Better::Lower));
    }
    let mut peer_peak = Value::Null;
    let mut apart = Apart::new(&config, &runtime, &data);
    for _ in 0..args.warmup {
        apart.step(clock)?;
    }
    let mut turns = Turns::default();
    let mut phases = vec![Turns::default(); PHASES.len()];
    for _ in 0..args.rounds.max(1) {
        let typical = whole.typical(args.steps.max(1), runtime.asynchronous, clock)?;
        turns.ours.push(typical);
        let steps: Vec<_> = (0..args.steps.max(1))
            .map(|_| apart.step(clock))
            .collect::<Outcome<_>>()?;
        for (number, phase) in phases.iter_mut().enumerate() {
            let times: Vec<f64> = steps.iter().map(|step| step[number]).collect();
            phase.ours.extend(median(&times));
        }
        if let Some(mut command) = args.peer.command("train_step.py") {
            command.args(case.peer_args());
            for (name, value) in [
                ("--threads", args.threads.get()),
                ("--steps", args.steps.max(1)),
                ("--warmup", args.warmup),
            ] {
                command.args([name, &value.to_string()]);
            }
            let times = peer::run(command.args(&args.peer_arg))?;
            turns.peer.push(peer::figure(&times, "total")?);
            for (name, phase) in PHASES.into_iter().zip(&mut phases) {
                phase.peer.push(peer::figure(&times, name)?);
            }
            peer_peak = times["peak_mib"].clone();
        }
    }
    let phases: Map<String, Value> = PHASES
        .into_iter()
        .zip(&phases)
        .map(|(name, phase)| {
            let (ours, peer) = (median(&phase.ours), median(&phase.peer));
            let ratio = ours.zip(peer).map(|(ours, peer)| ours / peer);
            (
                name.to_owned(),
                json!({"ours": ours, "peer": peer, "ratio": ratio}),
            )
        })
        .collect();
    report["phases"] = Value::Object(phases);
    report["peak_mib"] = json!([peak, peer_peak]);
    report["peer_args"] = json!(args.peer_arg);
    let units = match args.processor_time {
        true => "processor ms per step",
        false => "ms per step",
    };
    Ok(turns.report(report, units, Better::Lower))
}

/// Random views.
struct Data {
    views: ViewBatch,
    numbers: Tensor<1, Int>,
}

impl Data {
    fn new(case: &Case, device: &Device) -> Self {
        let normal = Distribution::Normal(0.0, 1.0);
        let images = |count: usize, size: usize| {
            Tensor::random([count * case.batch, 3, size, size], normal, device)
        };
        let views = ViewBatch {
            global: images(GLOBALS, case.global_size),
            local: (case.locals > 0).then(|| images(case.locals, case.local_size)),
        };
        Self {
            views,
            numbers: Tensor::arange(0..case.batch as i64, device),
        }
    }
}

/// A queue that is full of random embeddings, of samples that are not in a batch of `batch`.
fn full_queue(batch: usize, device: &Device) -> Queue {
    let mut queue = Queue::new(QUEUE, DIM, device);
    let normal = Distribution::Normal(0.0, 1.0);
    let embeddings: Tensor<2> = Tensor::random([QUEUE, DIM], normal, device);
    let norms = embeddings.clone().square().sum_dim(1).sqrt();
    let others = Tensor::arange(batch as i64..(batch + QUEUE) as i64, device);
    queue.push(embeddings / norms, others.clone(), others);
    queue
}

/// The step as the trainer takes it.
struct Whole {
    learner: Learner,
    batch: Batch,
    device: Device,
}

impl Whole {
    fn new(config: &Config, runtime: &Runtime, data: &Data) -> Self {
        let mut learner = Learner::new(config, runtime.clone());
        let model = learner.model().clone();
        let queue = full_queue(data.numbers.dims()[0], &runtime.device);
        learner.replace(model, config.optim.init(), Some(queue), 0);
        Self {
            learner,
            batch: Batch {
                views: data.views.clone(),
                indices: data.numbers.clone(),
                labels: data.numbers.clone(),
            },
            device: runtime.device.clone(),
        }
    }

    /// Milliseconds of one step.
    fn step(&mut self, clock: Clock) -> Outcome<f64> {
        let mut watch = Watch::start(&self.device, clock)?;
        self.learner.step(self.batch.clone(), RATE)?;
        watch.lap()
    }

    /// Milliseconds of one of several steps: the median, or, on a device that works while it is given the next step, the
    /// mean, for it is not to wait between them.
    fn typical(&mut self, steps: usize, asynchronous: bool, clock: Clock) -> Outcome<f64> {
        if asynchronous {
            return Ok(self.series(steps, clock)?.1);
        }
        let times: Vec<f64> = (0..steps)
            .map(|_| self.step(clock))
            .collect::<Outcome<_>>()?;
        median(&times).ok_or_else(|| "no step was made".into())
    }

    /// Milliseconds for handing over one of `steps` steps, and until it is done: means.
    fn series(&mut self, steps: usize, clock: Clock) -> Outcome<(f64, f64)> {
        let mut watch = Watch::start(&self.device, clock)?;
        let began = clock.now()?;
        for _ in 0..steps {
            self.learner.step(self.batch.clone(), RATE)?;
        }
        let handed_over = clock.now()? - began;
        let done = watch.lap()?;
        Ok((handed_over / steps as f64, done / steps as f64))
    }
}

/// The same step in its parts.
struct Apart {
    model: Option<SelfClassifier>,
    optimizer: Optimizer,
    queue: Queue,
    loss: Loss,
    runtime: Runtime,
    views: ViewBatch,
    numbers: Tensor<1, Int>,
}

impl Apart {
    fn new(config: &Config, runtime: &Runtime, data: &Data) -> Self {
        let device = runtime.device.clone().autodiff();
        Self {
            model: Some(with_weight_layout(
                config.model.init(&device, 0),
                &*runtime.kernels,
            )),
            optimizer: config.optim.init(),
            queue: full_queue(data.numbers.dims()[0], &runtime.device),
            loss: config.loss.init(),
            runtime: runtime.clone(),
            views: data.views.clone(),
            numbers: data.numbers.clone(),
        }
    }

    /// Milliseconds of each of [`PHASES`].
    fn step(&mut self, clock: Clock) -> Outcome<[f64; PHASES.len()]> {
        let model = self.model.take().ok_or("an earlier step failed")?;
        let kernels = &*self.runtime.kernels;
        let context = Context::training(kernels, Noise::default());
        let mut watch = Watch::start(&self.runtime.device, clock)?;
        let embeddings = model.embed(self.views.clone(), &context);
        let embed = watch.lap()?;

        let (rows, batch) = (embeddings.dims()[0], self.numbers.dims()[0]);
        let first = embeddings.clone().slice(0..batch).without_autodiff();
        let neighbours = self.queue.nearest(first.clone(), self.numbers.clone());
        let numbers = self.numbers.clone();
        self.queue.push(first, numbers.clone(), numbers);
        let rest = embeddings.slice(batch..rows);
        let embeddings = Tensor::cat(vec![neighbours.embeddings.autodiff(), rest], 0);
        let logits: Vec<Tensor<3>> = model
            .logits(embeddings)
            .into_iter()
            .map(|logits| {
                let classes = logits.dims()[1];
                logits.reshape([rows / batch, batch, classes])
            })
            .collect();
        let queue_heads = watch.lap()?;

        // Its gradient is part of it: the backward pass begins at the logits.
        let heads = logits.len() as f64;
        let mut pulls = Vec::new();
        for logits in logits {
            let (_, gradient) = self.loss.value_and_gradient(logits.clone(), GLOBALS)?;
            pulls.push((logits, gradient / heads));
        }
        let forward = watch.lap()?;

        let pull = pulls
            .into_iter()
            .map(|(logits, gradient)| (logits * gradient).sum())
            .reduce(|a, b| a + b);
        let mut grads = pull.ok_or("a network without heads")?.backward();
        let backward = watch.lap()?;

        self.model = Some(self.optimizer.step(RATE, model, &mut grads, kernels));
        let update = watch.lap()?;
        Ok([embed, queue_heads, forward, backward, update])
    }
}

/// Time since the last lap, once the device has done what it was given.
struct Watch<'a> {
    device: &'a Device,
    clock: Clock,
    last: f64,
}

impl<'a> Watch<'a> {
    fn start(device: &'a Device, clock: Clock) -> Outcome<Self> {
        let mut watch = Self {
            device,
            clock,
            last: 0.0,
        };
        watch.lap()?;
        Ok(watch)
    }

    /// Milliseconds.
    fn lap(&mut self) -> Outcome<f64> {
        self.device
            .sync()
            .map_err(|error| format!("the device failed: {error:?}"))?;
        let now = self.clock.now()?;
        Ok(now - std::mem::replace(&mut self.last, now))
    }
}
