//! `train`: from a folder of images to a run directory.

use crate::args::BackendArgs;
use crate::config_args::ConfigArgs;
use crate::error::{CliError, Result};
use crate::output;
use crate::progress::{Progress, Stage};
use crate::subject::device;
use clap::Args;
use selfcls_core::Config;
use selfcls_core::data::{self, Source};
use selfcls_core::runtime::Runtime;
use selfcls_core::train::{self, Event, Outcome};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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
    /// cifar20:FOLDER, idx:FOLDER, FILE.tar, tar:FOLDER, shapes[:COUNT]
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
    let opened = device(&args.backend)?;
    let runtime = opened
        .runtime(config.train.precision)
        .map_err(CliError::usage)?;
    let source = data::open(&config.data.source, &config.data)?;
    progress.note(&format!("device: {}", opened.name));
    progress.note(&args.config.summary());
    let outcome = train_in(out, config, source, runtime, progress)?;
    output::text(&format!("{}\n", outcome.checkpoint.display()))
}

/// Trains in the run directory `out`, shown by `progress` and noted in `log.txt`. SIGINT and SIGTERM
/// end it after a checkpoint.
pub(crate) fn train_in(
    out: &Path,
    config: Config,
    source: Arc<dyn Source>,
    runtime: Runtime,
    progress: Progress,
) -> Result<Outcome> {
    let mut report = Report::new(out, progress);
    let outcome = train::run(
        out,
        config,
        source,
        runtime,
        &mut |event| report.event(event),
        stop_flag(),
    )?;
    if !outcome.complete {
        return Err(CliError::interrupted(format!(
            "stopped after step {}; {} holds everything",
            outcome.step,
            outcome.checkpoint.display()
        ))
        .hint("give the same command again to continue"));
    }
    Ok(outcome)
}

/// True once the user or the system has asked the process to end. A second request ends it at once.
fn stop_flag() -> &'static AtomicBool {
    static STOP: AtomicBool = AtomicBool::new(false);
    // A handler that is set already, by an earlier training in this process, does the same.
    let _ = ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        anstream::eprintln!("finishing the step and writing a checkpoint; again to stop at once");
    });
    &STOP
}

/// Shows events, and keeps the lasting ones in `log.txt`.
struct Report {
    progress: Progress,
    stage: Option<Stage>,
    log: PathBuf,
    steps: usize,
    epochs: usize,
}

impl Report {
    fn new(out: &Path, progress: Progress) -> Self {
        Self {
            progress,
            stage: None,
            log: out.join("log.txt"),
            steps: 0,
            epochs: 0,
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
                if epoch.step == self.steps
                    && let Some(stage) = self.stage.take()
                {
                    stage.finish(&format!("done, loss {:.4}", epoch.loss));
                }
            }
            Event::Checkpoint(_) => {}
        }
    }

    fn note(&self, line: &str) {
        match &self.stage {
            Some(stage) => stage.note(line),
            None => self.progress.note(line),
        }
        let file = OpenOptions::new().create(true).append(true).open(&self.log);
        // The log is a convenience: a full disk shows itself at the next checkpoint, with an error.
        let _ = file.and_then(|mut file| writeln!(file, "{line}"));
    }
}
