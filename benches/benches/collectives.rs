//! What processes take to tell each other something; beside torch.distributed.
//!
//! ```text
//! cargo bench -p selfcls-benches --features tch --bench collectives -- --peer-python PYTHON --json
//! ```
//!
//! Alone it starts `--nproc` processes of itself on this machine. Started by a launcher (torchrun, Slurm, LSF, mpirun) it is
//! one of the launcher's: that is how the network of a cluster is measured, without a peer.
//!
//! A figure is the median over rounds of the median over `--repeats` of what rank 0 waits for one operation, its result
//! included. Bytes are what one rank brings. The peer is called as `PYTHON SCRIPT [--cpu] --threads N --repeats N
//! --warmup N --case OPERATION:BYTES...`, once for each rank and with the variables of torchrun; its rank 0 prints an object
//! of milliseconds by case.

#![allow(clippy::print_stdout)]

use burn::tensor::{Device, Tensor};
use clap::Parser;
use selfcls_backends::{
    Launcher, Rendezvous, Selection, TchDevice, for_rank, join, open, set_threads,
};
use selfcls_benches::Outcome;
use selfcls_benches::args::CommonArgs;
use selfcls_benches::figures::{Better, Turns, median};
use selfcls_core::collective::{Collective, Reduction};
use serde_json::{Map, Value, json};
use std::io::Read;
use std::net::TcpListener;
use std::num::NonZeroUsize;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Milliseconds per collective operation, ours beside torch.distributed's.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: CommonArgs,
    /// Processes to start where no launcher has.
    #[arg(long, default_value_t = 2)]
    nproc: usize,
    /// A device of libtorch, as the program's --backend takes it.
    #[arg(long, default_value = "tch")]
    backend: Selection,
    /// Measure the cases whose name contains this; may be repeated.
    #[arg(long)]
    case: Vec<String>,
    /// Threads of each process.
    #[arg(long, default_value_t = NonZeroUsize::MIN)]
    threads: NonZeroUsize,
    /// Operations per case and round.
    #[arg(long, default_value_t = 20)]
    repeats: usize,
    /// Operations before the first that counts.
    #[arg(long, default_value_t = 3)]
    warmup: usize,
}

/// An operation and its size: what a step of `paper/train_100ep` sends (docs/scaling.md).
struct Case {
    name: &'static str,
    operation: Operation,
    bytes: usize,
}

#[derive(Clone, Copy)]
enum Operation {
    AllReduce,
    AllGather,
}

const CASES: [Case; 5] = [
    case("all-reduce of a number", Operation::AllReduce, 4),
    case(
        "all-reduce of batch statistics",
        Operation::AllReduce,
        33_000,
    ),
    case(
        "all-reduce of the loss's sums",
        Operation::AllReduce,
        2_400_000,
    ),
    case("all-reduce of gradients", Operation::AllReduce, 137_600_000),
    case("all-gather of logits", Operation::AllGather, 30_720_000),
];

const fn case(name: &'static str, operation: Operation, bytes: usize) -> Case {
    Case {
        name,
        operation,
        bytes,
    }
}

impl Case {
    /// As the peer takes it.
    fn key(&self) -> String {
        let operation = match self.operation {
            Operation::AllReduce => "all_reduce",
            Operation::AllGather => "all_gather",
        };
        format!("{operation}:{}", self.bytes)
    }
}

impl Args {
    fn cases(&self) -> impl Iterator<Item = &'static Case> {
        let chosen = |case: &&Case| {
            self.case.is_empty() || self.case.iter().any(|part| case.name.contains(part))
        };
        CASES.iter().filter(chosen)
    }
}

fn main() -> Outcome<()> {
    let args = Args::parse();
    match Rendezvous::from_env()? {
        Some(place) => as_rank(&args, &place),
        None => as_launcher(&args),
    }
}

/// One process of several. Rank 0 of those that another launcher started reports; of those that this program started it
/// prints the object that the peer's prints too.
fn as_rank(args: &Args, place: &Rendezvous) -> Outcome<()> {
    set_threads(args.threads)?;
    let opened = open(&for_rank(args.backend, place)?)?;
    let timeout = Duration::from_secs(300);
    let peers = join(place, &opened, timeout, |reason| eprintln!("{reason}"))?;
    let mut figures = Vec::new();
    for case in args.cases() {
        figures.push((case, series(args, case, &*peers, &opened.device)?));
    }
    if place.rank > 0 {
        return Ok(());
    }
    if place.launcher == Launcher::Selfcls {
        let figures = figures.into_iter();
        let object: Map<String, Value> =
            figures.map(|(case, ms)| (case.key(), json!(ms))).collect();
        println!("{}", Value::Object(object));
        return Ok(());
    }
    for (case, ms) in figures {
        let turns = Turns {
            ours: vec![ms],
            ..Turns::default()
        };
        report(args, case, place.world_size, &opened.name, &turns);
    }
    Ok(())
}

/// The median time of one operation in milliseconds.
fn series(args: &Args, case: &Case, peers: &dyn Collective, device: &Device) -> Outcome<f64> {
    let count = case.bytes / size_of::<f32>();
    let values = Tensor::<1>::ones([count], device);
    let rows = vec![1; peers.world_size()];
    let synchronise = || {
        let done = device.sync();
        done.map_err(|error| format!("the device failed: {error:?}"))
    };
    let mut times = Vec::new();
    for number in 0..args.warmup + args.repeats.max(1) {
        peers.barrier()?;
        synchronise()?;
        let start = Instant::now();
        match case.operation {
            Operation::AllReduce => drop(peers.all_reduce(values.clone(), Reduction::Max)?),
            Operation::AllGather => {
                let row = values.clone().reshape([1, count]);
                drop(peers.all_gather(row, &rows)?);
            }
        }
        synchronise()?;
        if number >= args.warmup {
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
    }
    median(&times).ok_or_else(|| "no operation was made".into())
}

/// Starts the processes of either side in turn.
fn as_launcher(args: &Args) -> Outcome<()> {
    if args.nproc < 2 {
        return Err("--nproc must be at least 2: one process has nobody to talk to".into());
    }
    let name = open(&args.backend)?.name;
    let cases: Vec<_> = args.cases().collect();
    let mut turns = vec![Turns::default(); cases.len()];
    for _ in args.common.rounds() {
        let found = ranks(args.nproc, true, || own(args))?;
        let peer = match args.common.peer.command("collectives.py") {
            None => None,
            Some(_) => Some(ranks(args.nproc, false, || torch(args, &cases))?),
        };
        for (case, turns) in cases.iter().zip(&mut turns) {
            let figure = |object: &Value| selfcls_benches::peer::figure(object, &case.key());
            turns.ours.push(figure(&found)?);
            if let Some(peer) = &peer {
                turns.peer.push(figure(peer)?);
            }
        }
    }
    for (case, turns) in cases.iter().zip(&turns) {
        report(args, case, args.nproc, &name, turns);
    }
    Ok(())
}

/// This program again, as a rank.
fn own(args: &Args) -> Outcome<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.env(Rendezvous::LAUNCHED_BY, std::process::id().to_string());
    command.args(["--backend", &args.backend.to_string()]);
    for case in &args.case {
        command.args(["--case", case]);
    }
    Ok(with_numbers(command, args))
}

/// The peer's, as a rank.
fn torch(args: &Args, cases: &[&Case]) -> Outcome<Command> {
    let mut command = args
        .common
        .peer
        .command("collectives.py")
        .ok_or("no peer")?;
    if args.backend == Selection::Tch(TchDevice::Cpu) {
        command.arg("--cpu");
    }
    for case in cases {
        command.args(["--case", &case.key()]);
    }
    Ok(with_numbers(command, args))
}

fn with_numbers(mut command: Command, args: &Args) -> Command {
    for (name, value) in [
        ("--threads", args.threads.get()),
        ("--repeats", args.repeats),
        ("--warmup", args.warmup),
    ] {
        command.args([name, &value.to_string()]);
    }
    command
}

/// Processes of one side. Those that still run are ended when it is dropped.
struct Started(Vec<Child>);

impl Started {
    /// Waits for the end of all, or for the first that fails, whose end it returns.
    fn wait(&mut self) -> Outcome<Option<ExitStatus>> {
        loop {
            let mut running = false;
            for child in &mut self.0 {
                match child.try_wait()? {
                    Some(status) if !status.success() => return Ok(Some(status)),
                    Some(_) => {}
                    None => running = true,
                }
            }
            if !running {
                return Ok(None);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // Those that have ended already need it no more.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What rank 0 of `count` processes prints: less than a pipe holds. A rank that fails takes the others along.
fn ranks(count: usize, ours: bool, command: impl Fn() -> Outcome<Command>) -> Outcome<Value> {
    let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
    let mut started = Started(Vec::new());
    for rank in 0..count {
        let place = Rendezvous {
            rank,
            world_size: count,
            local_rank: rank,
            local_world_size: count,
            master_addr: "127.0.0.1".to_owned(),
            master_port: port,
            attempt: 0,
            run: String::new(),
            agent_store: false,
            launcher: Launcher::Selfcls,
        };
        let mut command = command()?;
        command.envs(place.variables());
        let stdout = if rank == 0 {
            Stdio::piped()
        } else {
            Stdio::null()
        };
        started.0.push(command.stdout(stdout).spawn()?);
    }
    if let Some(status) = started.wait()? {
        let side = if ours { "ours" } else { "the peer" };
        return Err(format!("a rank of {side} failed: {status}").into());
    }
    let mut said = String::new();
    let first = started.0.first_mut();
    if let Some(stdout) = first.and_then(|child| child.stdout.as_mut()) {
        stdout.read_to_string(&mut said)?;
    }
    let last = said.lines().last().ok_or("rank 0 printed nothing")?;
    Ok(serde_json::from_str(last)?)
}

fn report(args: &Args, case: &Case, ranks: usize, device: &str, turns: &Turns) {
    let description = json!({
        "bench": "collectives",
        "case": format!("{}, {} B, {ranks} ranks", case.name, case.bytes),
        "bytes": case.bytes,
        "ranks": ranks,
        "device": device,
        "threads": args.threads,
    });
    let report = turns.report(description, "ms", Better::Lower);
    args.common.print(&report);
}
