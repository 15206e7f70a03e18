//! `train`: from a folder of images to a run directory.

use crate::args::BackendArgs;
use crate::config_args::ConfigArgs;
use crate::error::{CliError, Result};
use crate::output;
use crate::progress::{Progress, Stage};
use crate::run_log::RunLog;
use crate::signals;
use crate::subject::{device, device_of_rank};
use clap::Args;
use selfcls_backends::Rendezvous;
use selfcls_core::Config;
use selfcls_core::data::{self, Source};
use selfcls_core::runtime::Runtime;
use selfcls_core::train::{self, AskedBy, Event, MonitorEvent, Outcome};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Train a classifier on images; labels are not needed, and not used where there are some
///
/// The run directory given to --out then holds the resolved configuration, the metrics and the checkpoints. A run that
/// was interrupted continues when the same command is given again.
///
/// The configuration starts from a preset; a file given to --config and then single flags go over it. The defaults that
/// the flags below name are the paper's; a preset replaces many of them: see --print-config.
#[derive(Debug, Args)]
#[command(
    override_usage = "selfcls-cli train --data <SOURCE> --out <RUN> [OPTIONS]",
    after_help = "The other configuration keys are flags too, e.g. --model.heads 10,20: see --help.",
    after_long_help = ""
)]
pub(crate) struct TrainArgs {
    /// Images to train on: a folder, with or without one sub-folder per class, or one of cifar10:FOLDER, cifar100:FOLDER,
    /// cifar20:FOLDER, idx:FOLDER, FILE.tar, tar:FOLDER, `shapes[:COUNT]`
    ///
    /// cifar10, cifar100 and cifar20 (CIFAR-100 with its coarse labels) read the binary version, idx the files of MNIST and
    /// its kin, packed with gzip or not; FOLDER:test takes the test images. Tar files are uncompressed; FILE may be a range,
    /// name-{000..146}.tar, and labels come from folders or .cls members (WebDataset). shapes is drawn by the program.
    #[arg(long, value_name = "SOURCE", required_unless_present = "print_config")]
    pub(crate) data: Option<PathBuf>,
    /// Run directory to create, or to continue
    #[arg(long, value_name = "RUN", required_unless_present = "print_config")]
    pub(crate) out: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) backend: BackendArgs,
    /// Print the resolved configuration as TOML, each value with its origin, and stop
    #[arg(long)]
    pub(crate) print_config: bool,
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
}

pub(crate) fn run(args: &TrainArgs, progress: Progress) -> Result<()> {
    let resolved = args.config.resolve()?;
    if args.print_config {
        return output::text(&resolved.annotated_toml());
    }
    let (Some(data), Some(out)) = (&args.data, &args.out) else {
        return Err(CliError::usage("train needs --data SOURCE and --out RUN"));
    };
    let mut config = resolved.config;
    config.data.source = data.display().to_string();
    let Some(place) = Rendezvous::from_env().map_err(CliError::usage)? else {
        let opened = device(&args.backend)?;
        let runtime = opened
            .runtime(config.train.precision)
            .map_err(CliError::usage)?;
        let source = data::open(&config.data.source, &config.data)?;
        progress.note(&format!("device: {}", opened.name));
        progress.note(&args.config.summary());
        let outcome = train_in(out, config, source, runtime, progress)?;
        return output::text(&format!("{}\n", outcome.checkpoint.display()));
    };
    run_as_rank(&place, args, config, out, progress)
}

/// One of several processes that train together. Rank 0 speaks for all; the others write what they would
/// say to files of their own.
fn run_as_rank(
    place: &Rendezvous,
    args: &TrainArgs,
    config: Config,
    out: &Path,
    progress: Progress,
) -> Result<()> {
    let progress = match place.rank {
        0 => progress,
        _ => Progress::Quiet,
    };
    let log = RunLog::of_rank(out, place.rank);
    signals::log_to(&log);
    let joined = join(place, args, &config, &log, progress);
    let (source, runtime) = joined.inspect_err(|error| log.note_error(error))?;
    let outcome = train_in(out, config, source, runtime, progress)?;
    match place.rank {
        0 => output::text(&format!("{}\n", outcome.checkpoint.display())),
        _ => Ok(()),
    }
}

/// The data and the device of a rank, which has found the others.
fn join(
    place: &Rendezvous,
    args: &TrainArgs,
    config: &Config,
    log: &RunLog,
    progress: Progress,
) -> Result<(Arc<dyn Source>, Runtime)> {
    config.validate_for_ranks(place.world_size)?;
    let opened = device_of_rank(&args.backend, place)?;
    let mut runtime = opened
        .runtime(config.train.precision)
        .map_err(CliError::usage)?;
    let timeout = Duration::from_secs(config.train.timeout_seconds);
    let log = log.clone();
    let last_words = move |reason: &str| {
        let error = CliError::failure(reason);
        log.note_error(&error);
        error.print();
    };
    let peers =
        selfcls_backends::join(place, &opened, timeout, last_words).map_err(CliError::failure)?;
    runtime.collective = Arc::clone(&peers);
    share_processors(&runtime)?;
    let source = data::open(&config.data.source, &config.data).inspect_err(|error| {
        peers.leave(&error.to_string());
    })?;
    progress.note(&format!("device: {}", opened.name));
    progress.note(&format!("processes: {place}"));
    progress.note(&args.config.summary());
    Ok((source, runtime))
}

/// Each process computes on its share of this machine's cores, unless told otherwise.
fn share_processors(runtime: &Runtime) -> Result<()> {
    // With the others, also where it does not matter here.
    let cores = train::cores_of_rank(runtime)?;
    let all = std::thread::available_parallelism().map_or(1, usize::from);
    if cores < all && std::env::var_os("OMP_NUM_THREADS").is_none() {
        let cores = NonZeroUsize::new(cores).unwrap_or(NonZeroUsize::MIN);
        // Where threads run already the number stays as it is: slower, not wrong.
        let _ = selfcls_backends::set_threads(cores);
    }
    Ok(())
}

/// Trains in the run directory `out`, shown by `progress` and noted in `log.txt` (or this rank's own). Signals end it
/// after a checkpoint: see [`signals`].
pub(crate) fn train_in(
    out: &Path,
    config: Config,
    source: Arc<dyn Source>,
    runtime: Runtime,
    progress: Progress,
) -> Result<Outcome> {
    let rank = runtime.collective.rank();
    let log = RunLog::of_rank(out, rank);
    signals::log_to(&log);
    let mut report = Report::new(log.clone(), progress);
    let outcome = train::run(
        out,
        config,
        source,
        runtime,
        &mut |event| report.event(event),
        signals::stop_flag(),
    );
    let ended = match outcome {
        Ok(outcome) if outcome.complete => Ok(outcome),
        Ok(outcome) => Err(said_by_rank_0(stopped(&outcome), rank)),
        Err(error @ selfcls_core::Error::Stopped(_)) => Err(said_by_rank_0(error.into(), rank)),
        Err(error @ selfcls_core::Error::Memory(_)) => {
            Err(CliError::from(error).hint(HOW_TO_TAKE_LESS_MEMORY))
        }
        Err(error) => Err(error.into()),
    };
    ended.inspect_err(|error| log.note_error(error))
}

const HOW_TO_TAKE_LESS_MEMORY: &str = "--train.accumulate N makes the same step in N parts; --train.recompute true keeps less and takes longer; \
    --train.precision bf16, a smaller --train.batch_size and smaller views take less";

/// What all ranks would say, and rank 0 says for all.
fn said_by_rank_0(error: CliError, rank: usize) -> CliError {
    if rank > 0 { error.unsaid() } else { error }
}

/// The end of a training that was asked to stop.
fn stopped(outcome: &Outcome) -> CliError {
    let error = CliError::stopped(format!(
        "stopped after step {}; {} holds everything",
        outcome.step,
        outcome.checkpoint.display()
    ));
    if signals::has_said_why() {
        // When it was asked.
        return error;
    }
    match outcome.asked_by {
        Some(AskedBy::Rank(rank)) => error.hint(format!(
            "rank {rank} was asked to stop, and says why in {} or on its terminal",
            RunLog::name_of_rank(rank)
        )),
        Some(AskedBy::Several) => {
            error.hint("other ranks were asked to stop, and say why in their logs")
        }
        None => error,
    }
}

/// Shows events, and keeps the lasting ones in a log.
struct Report {
    progress: Progress,
    stage: Option<Stage>,
    log: RunLog,
    steps: usize,
    epochs: usize,
    /// The loss of the last epoch, once it is over.
    last: Option<f64>,
}

impl Report {
    fn new(log: RunLog, progress: Progress) -> Self {
        Self {
            progress,
            stage: None,
            log,
            steps: 0,
            epochs: 0,
            last: None,
        }
    }

    fn event(&mut self, event: &Event) {
        match event {
            Event::Start {
                step,
                steps,
                epochs,
                samples,
                parameters,
            } => {
                let from = match step {
                    0 => String::new(),
                    step => format!(", continuing after step {step}"),
                };
                self.note(&format!(
                    "{samples} images, {parameters} parameters, {epochs} epochs of {} steps{from}",
                    steps / epochs
                ));
                signals::steps_begin();
                (self.steps, self.epochs) = (*steps, *epochs);
                self.stage = Some(self.progress.stage("training", *steps as u64));
            }
            Event::Warning(text) => self.note(&format!("warning: {text}")),
            Event::Step(step) => {
                if let Some(stage) = &mut self.stage {
                    let message =
                        format!("epoch {}/{} loss {:.4}", step.epoch, self.epochs, step.loss);
                    stage.set(step.step as u64, &message);
                }
            }
            Event::Epoch(epoch) => {
                let neighbours = epoch.neighbour_accuracy.map_or(String::new(), |x| {
                    format!(", neighbours of the same class {:.1} %", 100.0 * x)
                });
                self.note(&format!(
                    "epoch {}: loss {:.4}, lr {:.2e}{neighbours}, {} classes in use in the last batch, {:.1} s ({:.0} images/s)",
                    epoch.epoch, epoch.loss, epoch.lr, epoch.used_classes, epoch.seconds, epoch.images_per_second
                ));
                self.last = (epoch.step == self.steps).then_some(epoch.loss);
            }
            Event::Monitor(monitor) => self.note(&monitor_line(monitor)),
            Event::Checkpoint(_) => {
                // What the monitor found after the last epoch comes before.
                if let Some(loss) = self.last.take()
                    && let Some(stage) = self.stage.take()
                {
                    stage.finish(&format!("done, loss {loss:.4}"));
                }
            }
        }
    }

    fn note(&self, line: &str) {
        match &self.stage {
            Some(stage) => stage.note(line),
            None => self.progress.note(line),
        }
        self.log.note(line);
    }
}

/// What the monitor found, in one line; of several heads the first and the one with the highest NMI.
fn monitor_line(monitor: &MonitorEvent) -> String {
    let mut parts = Vec::new();
    let nmi = |place: &usize| monitor.heads[*place].nmi.unwrap_or_default();
    let best = (0..monitor.heads.len()).max_by(|a, b| nmi(a).total_cmp(&nmi(b)).then(b.cmp(a)));
    let mut shown = vec![0];
    shown.extend(best.filter(|&best| best > 0));
    for head in shown.iter().filter_map(|&place| monitor.heads.get(place)) {
        let mut part = format!("head {}", head.head);
        if let (Some(nmi), Some(acc)) = (head.nmi, head.acc) {
            part.push_str(&format!(
                " NMI {:.1} % ACC {:.1} %",
                100.0 * nmi,
                100.0 * acc
            ));
        }
        let (used, clusters) = (head.used, head.clusters);
        parts.push(format!("{part} ({used} of {clusters} clusters used)"));
    }
    if let Some(knn) = monitor.knn {
        parts.push(format!("nearest neighbours right {:.1} %", 100.0 * knn));
    }
    if let Some(agreement) = monitor.agreement {
        parts.push(format!("heads agree by NMI {:.1} %", 100.0 * agreement));
    }
    let parts = parts.join(", ");
    format!(
        "  on {} images: {parts}, {:.1} s",
        monitor.samples, monitor.seconds
    )
}
