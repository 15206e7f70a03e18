//! `slurm`: a job script for a preset.

mod directive;
mod script;

use crate::args::{Cli, Command};
use crate::error::{CliError, Result};
use crate::output;
use clap::builder::PossibleValuesParser;
use clap::{Args, Parser};
use directive::{Directive, Time};
use script::{Place, Script};
use selfcls_core::Config;
use selfcls_core::config::presets;
use std::num::NonZeroUsize;

/// Print an sbatch script that trains a preset on GPUs of a Slurm cluster
///
/// For example: selfcls-cli slurm paper/train_100ep_bs_256 --nodes 1 --gpus-per-node 4 > train.sbatch
///
/// The job starts one rank per GPU. Some time before it runs out (--grace) each rank gets SIGUSR1, the training writes a
/// checkpoint and ends with exit code 75, upon which the script puts the job back into the queue; it goes on at that very
/// step. So it does when Slurm has preempted the job, and not when a start got no further than the one before. Where --data and --out are not given the script takes them from the environment: DATA=... sbatch train.sbatch
#[derive(Debug, Args)]
#[command(
    override_usage = "selfcls-cli slurm <PRESET> --nodes <N> --gpus-per-node <M> [OPTIONS] [-- <TRAIN OPTIONS>]"
)]
pub(crate) struct SlurmArgs {
    /// The preset, as of `train --preset`; `selfcls-cli presets` lists them
    #[arg(
        value_name = "PRESET",
        value_parser = PossibleValuesParser::new(presets::all().map(|preset| preset.name)),
        hide_possible_values = true
    )]
    preset: String,
    /// How many machines
    #[arg(long, value_name = "N")]
    nodes: NonZeroUsize,
    /// GPUs of each; 0 trains on processors
    #[arg(long, value_name = "M")]
    gpus_per_node: usize,
    /// Processes on each machine; by default one per GPU, or one
    #[arg(long, value_name = "R")]
    ranks_per_node: Option<NonZeroUsize>,
    /// Cores of each process; eight make views for one fast GPU
    #[arg(long, value_name = "C", default_value = "8")]
    cpus_per_rank: NonZeroUsize,
    /// How long the job may run before it is put back into the queue: minutes, H:M:S or D-H:M:S
    #[arg(long, value_name = "TIME", default_value = "24:00:00")]
    time: Time,
    /// Seconds before the end of that at which ranks are told: longer than two steps and two checkpoints take. Slurm may be
    /// up to a minute early
    #[arg(long, value_name = "SECONDS", default_value = "120", value_parser = clap::value_parser!(u16).range(1..))]
    grace: u16,
    /// The partition
    #[arg(long, value_name = "NAME")]
    partition: Option<String>,
    /// The account
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// A further option of sbatch, without its dashes: mem=0, constraint=a100; may be repeated
    #[arg(long, value_name = "OPTION[=VALUE]")]
    sbatch: Vec<String>,
    /// Training images: see `train --data`
    #[arg(long, value_name = "SOURCE")]
    data: Option<String>,
    /// Run directory, on a file system that all machines share
    #[arg(long, value_name = "RUN")]
    out: Option<String>,
    /// Backend and device, as of `train`; by default tch:cuda, or tch:cpu without GPUs
    #[arg(long, value_name = "NAME[:DEVICE]")]
    backend: Option<String>,
    /// The program as the machines find it; a script around it has to end with `exec selfcls-cli ...`
    #[arg(long, value_name = "PATH", default_value = "selfcls-cli")]
    program: String,
    /// What stands before the program, with quotes as for a shell, but nothing in it is expanded: $HOME stays as it is.
    /// --prefix 'apptainer exec --nv image.sif'
    #[arg(long, value_name = "WORDS", allow_hyphen_values = true)]
    prefix: Option<String>,
    /// Further options of `train`
    #[arg(last = true, value_name = "TRAIN OPTIONS")]
    train: Vec<String>,
}

pub(crate) fn run(args: &SlurmArgs) -> Result<()> {
    output::text(&script(args)?.to_string())
}

fn script(args: &SlurmArgs) -> Result<Script> {
    refuse_control_characters(args)?;
    if args.time.seconds() <= u64::from(args.grace) {
        return Err(CliError::usage(format!(
            "--grace {} is as long as --time {} or longer: ranks would be told to end before they have begun",
            args.grace,
            args.time.as_str()
        ))
        .hint("give less grace, or more time"));
    }
    let ranks_per_node = match (args.ranks_per_node, args.gpus_per_node) {
        (Some(ranks), _) => ranks.get(),
        (None, gpus) => gpus.max(1),
    };
    if args.gpus_per_node > 0 && ranks_per_node > args.gpus_per_node {
        return Err(CliError::usage(format!(
            "--ranks-per-node {ranks_per_node} is more than --gpus-per-node {}: each rank needs a GPU of its own",
            args.gpus_per_node
        )));
    }
    let Some(ranks) = args.nodes.get().checked_mul(ranks_per_node) else {
        return Err(CliError::usage(format!(
            "--nodes {} of {ranks_per_node} ranks each are more ranks than can be counted: choose fewer",
            args.nodes
        )));
    };
    let backend = args.backend.as_deref().unwrap_or(match args.gpus_per_node {
        0 => "tch:cpu",
        _ => "tch:cuda",
    });
    let mut train = vec!["--preset", &args.preset, "--backend", backend];
    train.extend(args.train.iter().map(String::as_str));
    let config = training(&train)?;
    let batch = share(&config, ranks)?;
    check_ranks(&config, ranks)?;
    let slug = args.preset.replace('/', "-");
    let mut directives = vec![
        Directive::new("job-name", &format!("selfcls-{slug}"))?,
        Directive::new("nodes", &args.nodes.to_string())?,
        Directive::new("ntasks-per-node", &ranks_per_node.to_string())?,
    ];
    if args.gpus_per_node > 0 {
        directives.push(Directive::new(
            "gpus-per-node",
            &args.gpus_per_node.to_string(),
        )?);
    }
    directives.push(Directive::new(
        "cpus-per-task",
        &args.cpus_per_rank.to_string(),
    )?);
    directives.push(Directive::new("time", args.time.as_str())?);
    for (name, value) in [("partition", &args.partition), ("account", &args.account)] {
        if let Some(value) = value {
            directives.push(Directive::new(name, value)?);
        }
    }
    let own: Vec<String> = directives.iter().map(|one| one.name().to_owned()).collect();
    for option in &args.sbatch {
        directives.push(Directive::parse(option, &own)?);
    }
    Ok(Script {
        summary: summary(args, ranks, batch),
        directives,
        grace: args.grace,
        cpus_per_rank: args.cpus_per_rank.get(),
        image_threads: match args.gpus_per_node {
            0 => args.cpus_per_rank.get(),
            // One core is for the thread that gives the GPU its work.
            _ => args.cpus_per_rank.get().saturating_sub(1).max(1),
        },
        several: ranks > 1,
        data: args.data.clone().map_or(Place::Asked, Place::Given),
        out: args
            .out
            .clone()
            .map_or_else(|| Place::Default(format!("runs/{slug}")), Place::Given),
        program: program(args)?,
        train: train.iter().map(|word| (*word).to_owned()).collect(),
    })
}

/// The words that start a rank.
fn program(args: &SlurmArgs) -> Result<Vec<String>> {
    let prefix = args.prefix.as_deref().unwrap_or_default();
    let Some(mut words) = shlex::split(prefix) else {
        return Err(CliError::usage(format!(
            "--prefix {prefix:?} ends inside a quotation, or in a backslash"
        )));
    };
    words.push(args.program.clone());
    Ok(words)
}

/// What the words mean to `train`, checked here rather than when the job has waited for its machines.
fn training(words: &[&str]) -> Result<Config> {
    let command = ["selfcls-cli", "train", "--data", "data", "--out", "run"];
    let typed = Cli::try_parse_from(command.iter().chain(words));
    match typed.unwrap_or_else(|error| error.exit()).command {
        Command::Train(train) => Ok(train.config.resolve()?.config),
        _ => Err(CliError::usage(
            "what follows `--` has to be options of train",
        )),
    }
}

/// Refuses settings that so many ranks cannot train with.
fn check_ranks(config: &Config, ranks: usize) -> Result<()> {
    config.validate_for_ranks(ranks).map_err(|error| {
        CliError::usage(error).hint(
            "append `-- --KEY VALUE` to change a setting (train.syncbn_group_size = 0 shares batch statistics among all ranks), or choose other numbers of nodes and ranks",
        )
    })
}

/// The total batch, and in words each rank's part of it.
fn share(config: &Config, ranks: usize) -> Result<(usize, String)> {
    let (batch, parts) = (config.train.batch_size, config.train.accumulate);
    let (least, rest) = (batch / parts / ranks, batch / parts % ranks);
    if least == 0 {
        return Err(CliError::usage(format!(
            "train.batch_size = {batch} in {parts} parts (train.accumulate) leaves some of {ranks} ranks without an image"
        ))
        .hint("append `-- --train.batch_size B` with a larger B, or choose fewer nodes or ranks"));
    }
    let images = match rest {
        0 => (least * parts).to_string(),
        _ => format!("{} or {}", least * parts, (least + 1) * parts),
    };
    Ok((batch, images))
}

fn summary(args: &SlurmArgs, ranks: usize, (batch, share): (usize, String)) -> String {
    let count = |number: usize, one: &str| match number {
        1 => format!("1 {one}"),
        n => format!("{n} {one}s"),
    };
    let machine = match args.gpus_per_node {
        0 => String::new(),
        gpus => format!(" of {}", count(gpus, "GPU")),
    };
    format!(
        "{} on {}{machine}: {} of {share} images, {batch} in all",
        args.preset,
        count(args.nodes.get(), "node"),
        count(ranks, "rank")
    )
}

/// Nothing that can be quoted for a shell, but a line break in a comment or an `#SBATCH` line would begin another.
fn refuse_control_characters(args: &SlurmArgs) -> Result<()> {
    let named = [
        ("--data", args.data.as_ref()),
        ("--out", args.out.as_ref()),
        ("--backend", args.backend.as_ref()),
        ("--program", Some(&args.program)),
        ("--prefix", args.prefix.as_ref()),
    ];
    let named = named
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)));
    let further = args.train.iter().map(|word| ("an option of train", word));
    for (name, value) in named.chain(further) {
        if value.chars().any(char::is_control) {
            return Err(CliError::usage(format!(
                "{name} {value:?} has a line break or another control character, which no job script can hold: rename it"
            )));
        }
    }
    Ok(())
}
