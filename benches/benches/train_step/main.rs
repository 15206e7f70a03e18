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
//! --arch A --stem S --optimizer O --batch N --global-size N --locals N --local-size N --heads N... --hidden N
//! --dim N --queue N --threads N --steps N --warmup N` and what `--peer-arg` adds (`--channels-last`,
//! `--amp=bfloat16`), and prints a JSON object of milliseconds, `total` and the five phases, and of `peak_mib`.
//!
//! Memory is what the steps take at their peak beyond what the process held before the network was made, libraries
//! included: of the first case alone, since later ones find the memory of earlier ones. On a GPU it is the GPU's, what
//! tensors take of it, of every case.

#![allow(clippy::print_stdout)]

mod cases;
mod ours;

use cases::{CASES, Case, speed};
use clap::Parser;
use ours::{Apart, Data, PHASES, Whole};
use selfcls_backends::{Backend, Opened, Selection, open, set_threads};
use selfcls_benches::Outcome;
use selfcls_benches::args::CommonArgs;
use selfcls_benches::clock::Clock;
use selfcls_benches::figures::{Better, Turns, median};
use selfcls_benches::memory::Memory;
use selfcls_benches::peer;
use serde_json::{Map, Value, json};
use std::num::NonZeroUsize;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds per training step, ours beside PyTorch's.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: CommonArgs,
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
    /// What both sides update parameters with.
    #[arg(long, default_value = "larc", value_parser = ["larc", "adamw"])]
    optimizer: String,
    /// Ours recomputes activations (`train.recompute`), in whole steps; what that costs and spares.
    #[arg(long)]
    recompute: bool,
    /// Whole steps of ours and nothing else, none waited for: also how long handing one over takes (`host_ms`), and
    /// when all this was, in seconds since 1970 (`began`, `ended`).
    #[arg(long)]
    whole: bool,
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
                args.common.print(&report);
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
        "optimizer": args.optimizer,
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
    opened.forget_peak_memory();
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
    let peak = match opened.peak_memory() {
        Some(bytes) => Some(bytes as f64 / f64::from(1 << 20)),
        None => memory.and_then(Memory::peak),
    };
    if args.whole {
        let began = SystemTime::now();
        let (host, step) = whole.series(args.steps.max(1), clock)?;
        report["began"] = json!(seconds(began));
        report["ended"] = json!(seconds(SystemTime::now()));
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
    for _ in args.common.rounds() {
        let typical = whole.typical(args.steps.max(1), runtime.asynchronous, clock)?;
        turns.ours.push(typical);
        let steps: Vec<_> = (0..args.steps.max(1))
            .map(|_| apart.step(clock))
            .collect::<Outcome<_>>()?;
        for (number, phase) in phases.iter_mut().enumerate() {
            let times: Vec<f64> = steps.iter().map(|step| step[number]).collect();
            phase.ours.extend(median(&times));
        }
        if let Some(times) = peer_steps(args, case)? {
            turns.peer.push(peer::figure(&times, "total")?);
            for (name, phase) in PHASES.into_iter().zip(&mut phases) {
                phase.peer.push(peer::figure(&times, name)?);
            }
            peer_peak = times["peak_mib"].clone();
        }
    }
    report["phases"] = by_name(&phases);
    report["peak_mib"] = json!([peak, peer_peak]);
    report["peer_args"] = json!(args.peer_arg);
    let units = match args.processor_time {
        true => "processor ms per step",
        false => "ms per step",
    };
    Ok(turns.report(report, units, Better::Lower))
}

/// Seconds since 1970.
fn seconds(moment: SystemTime) -> Option<f64> {
    let since = moment.duration_since(UNIX_EPOCH);
    since.ok().map(|since| since.as_secs_f64())
}

/// What the peer says of a round of its steps, if there is a peer.
fn peer_steps(args: &Args, case: &Case) -> Outcome<Option<Value>> {
    let Some(mut command) = args.common.peer.command("train_step.py") else {
        return Ok(None);
    };
    command.args(case.peer_args(&args.optimizer));
    for (name, value) in [
        ("--threads", args.threads.get()),
        ("--steps", args.steps.max(1)),
        ("--warmup", args.warmup),
    ] {
        command.args([name, &value.to_string()]);
    }
    peer::run(command.args(&args.peer_arg)).map(Some)
}

/// Medians of each of [`PHASES`], and their ratio.
fn by_name(phases: &[Turns]) -> Value {
    let entries = PHASES.into_iter().zip(phases).map(|(name, phase)| {
        let (ours, peer) = (median(&phase.ours), median(&phase.peer));
        let ratio = ours.zip(peer).map(|(ours, peer)| ours / peer);
        let entry = json!({"ours": ours, "peer": peer, "ratio": ratio});
        (name.to_owned(), entry)
    });
    Value::Object(entries.collect::<Map<_, _>>())
}
