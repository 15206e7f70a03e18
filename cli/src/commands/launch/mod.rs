//! `launch`: several processes on this machine.

mod group;
mod outcome;
mod output;
mod port;
mod signals;

use crate::args::{Cli, Command};
use crate::error::{CliError, Result};
use crate::progress::Progress;
use clap::{Args, Parser};
use group::{Group, Threads};
use outcome::Outcome;
use selfcls_backends::{Launcher, Rendezvous};
use signals::Signals;
use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::time::Duration;

/// Train with several processes on this machine, one per GPU or part of the processor
///
/// Starts the command behind `--` N times and tells each copy its rank, with the variables that torchrun sets. What rank 0
/// says is shown; of the others the last lines, should they be the first to fail. SIGINT, SIGTERM, SIGHUP and SIGUSR1 are
/// passed on to all ranks. When a rank dies the others get --grace seconds to end by themselves; then they are killed.
///
/// OMP_NUM_THREADS, where it is not set, becomes each rank's share of the cores; threads for images the ranks share among themselves.
///
/// Exit codes: 0 when all ranks succeed; 75 or 130 when they stopped after a checkpoint, as `train` does, or were asked to
/// before they were started again; 2 when the first
/// rank to fail did so with 2; otherwise 1.
#[derive(Debug, Args)]
#[command(
    override_usage = "selfcls-cli launch --nproc <N> [OPTIONS] -- train --data <SOURCE> --out <RUN> [OPTIONS]"
)]
pub(crate) struct LaunchArgs {
    /// How many processes
    #[arg(long, value_name = "N")]
    nproc: NonZeroUsize,
    /// Start all of them again, up to R times, when one has died; a training goes on at its last checkpoint
    #[arg(long, value_name = "R", default_value_t = 0)]
    max_restarts: u32,
    /// TCP port at which they meet; by default one that is free
    #[arg(long, value_name = "P", value_parser = clap::value_parser!(u16).range(1..))]
    master_port: Option<u16>,
    /// Seconds the others have to end by themselves when one has died
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    grace: u64,
    /// Show what all ranks say, on standard error, each line behind its rank
    #[arg(long)]
    show_all: bool,
    /// The command: train, or devices to see what each would be told
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

pub(crate) fn run(args: &LaunchArgs, progress: Progress) -> Result<()> {
    let mut signals = Signals::listen();
    refuse_launchers()?;
    check_command(args)?;
    let threads = Threads::share(args.nproc);
    progress.note(&format!(
        "launching {} processes with {threads} each",
        args.nproc
    ));
    let mut attempt = 0;
    loop {
        let group = start(args, attempt, threads)?;
        let outcome = group.watch(Duration::from_secs(args.grace), &mut signals)?;
        // What comes from now on reaches no rank any more.
        signals.hear();
        match (outcome, signals.request()) {
            (Outcome::Success, _) => return Ok(()),
            (Outcome::Stopped(error), _) => return Err(error),
            (Outcome::Failed { error, retry }, request) if retry && attempt < args.max_restarts => {
                error.print();
                if let Some((request, _)) = request {
                    return Err(outcome::not_started_again(request));
                }
                attempt += 1;
                progress.note(&format!(
                    "starting all ranks again ({attempt} of {} restarts)",
                    args.max_restarts
                ));
            }
            (Outcome::Failed { error, .. }, _) => return Err(error),
        }
    }
}

/// Refuses to be one of several processes itself: each would start a training of its own.
fn refuse_launchers() -> Result<()> {
    let hint = "start `train` with that launcher, without `launch`, which is for one machine and started once";
    match Rendezvous::from_env() {
        Ok(None) => Ok(()),
        Ok(Some(place)) => Err(CliError::usage(format!(
            "launch is one of {} processes that {} started, and each would start a training of its own",
            place.world_size, place.launcher
        ))
        .hint(hint)),
        Err(error) => Err(CliError::usage(format!(
            "launch was started by another launcher, as its variables say: {error}"
        ))
        .hint(hint)),
    }
}

/// Refuses, once instead of N times, what cannot be typed or trained by so many; and commands that N processes would do N
/// times over.
fn check_command(args: &LaunchArgs) -> Result<()> {
    let program = OsString::from("selfcls-cli");
    let typed = Cli::try_parse_from(std::iter::once(&program).chain(&args.command));
    match typed.unwrap_or_else(|error| error.exit()).command {
        Command::Train(train) => {
            let config = train.config.resolve()?.config;
            Ok(config.validate_for_ranks(args.nproc.get())?)
        }
        Command::Devices => Ok(()),
        _ => Err(CliError::usage(format!(
            "launch runs `train` and `devices` only, not `{}`: it would be done once by each process",
            args.command[0].display()
        ))
        .hint("run it without launch")),
    }
}

/// Starts every rank for the first time, or once more.
fn start(args: &LaunchArgs, attempt: u32, threads: Threads) -> Result<Group> {
    let nproc = args.nproc.get();
    let master_port = match args.master_port {
        Some(port) => port,
        None => port::free(attempt)?,
    };
    let places = (0..nproc).map(|rank| Rendezvous {
        rank,
        world_size: nproc,
        local_rank: rank,
        local_world_size: nproc,
        master_addr: "127.0.0.1".to_owned(),
        master_port,
        attempt,
        // Its process id tells it from others.
        run: String::new(),
        agent_store: false,
        launcher: Launcher::Selfcls,
    });
    Group::start(places, &args.command, threads, args.show_all)
}
