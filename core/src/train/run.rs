//! A run's life on disk: `config.toml`, its records, `checkpoints/`, and going on where it stopped.

use super::compatibility;
use super::event::Event;
use super::monitor::Monitor;
use super::records::Records;
use super::trainer::Trainer;
use crate::checkpoint::{self, Position, RunLock};
use crate::config::Config;
use crate::data::Source;
use crate::model::SelfClassifier;
use crate::runtime::Runtime;
use crate::{Error, Result, atomic};
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    /// Whether all epochs are done; false if it was asked to stop.
    pub complete: bool,
    /// Steps made since the beginning of the run.
    pub step: usize,
    /// The newest checkpoint.
    pub checkpoint: PathBuf,
    /// The model as of that checkpoint, for inference.
    pub model: SelfClassifier,
}

/// Trains in the run directory `dir`, from the beginning or from its newest checkpoint.
///
/// `listen` hears every event. When `stop` becomes true the current step is finished, a checkpoint is
/// written and the function returns.
///
/// # Errors
/// If the folder is in use, not a run directory, or holds a run with other settings; and whatever
/// stops training itself. What was written stays usable in every case.
pub fn run(
    dir: &Path,
    config: Config,
    source: Arc<dyn Source>,
    runtime: Runtime,
    listen: &mut dyn FnMut(&Event),
    stop: &AtomicBool,
) -> Result<Outcome> {
    refuse_foreign(dir)?;
    let mut trainer = Trainer::new(config.clone(), Arc::clone(&source), runtime.clone())?;
    let monitor = Monitor::new(&config, &source, &runtime)?;
    let _lock = RunLock::acquire(dir)?;
    let mut newest = checkpoint::list(dir)?.pop();
    if let Some(path) = &newest {
        let snapshot = checkpoint::load(path)?;
        compatibility::check(dir, &snapshot.manifest.config, &config)?;
        trainer.resume(snapshot)?;
    } else {
        trainer.load_pretrained()?;
    }
    atomic::write(&dir.join("config.toml"), config.to_toml().as_bytes())?;
    let mut records = Records::open(dir, &config, trainer.position().step)?;
    for warning in trainer.warnings() {
        listen(&Event::Warning(warning));
    }
    listen(&trainer.start_event());

    let every = config.checkpoint.every_steps;
    let mut stopped = false;
    while trainer.position().epoch() < config.train.epochs && !stopped {
        let asked = || stop.load(Ordering::Relaxed);
        let regular = |position: &Position| every > 0 && position.step.is_multiple_of(every);
        let mut settle = |position: &Position| asked() || regular(position);
        let flow = trainer.epoch(&mut settle, &mut |trainer, event| {
            records.record(event)?;
            listen(event);
            // Before the checkpoint: what a checkpoint's journal lacks is made again, and nothing else.
            if let (Event::Epoch(epoch), Some(monitor)) = (event, &monitor)
                && monitor.is_due(epoch)
            {
                let measured = match monitor.measure(trainer.model(), epoch) {
                    Ok(measured) => Event::Monitor(measured),
                    // Days of training shall not end for a look at them.
                    Err(error) => Event::Warning(format!("the monitor failed: {error}")),
                };
                records.record(&measured)?;
                listen(&measured);
            }
            let position = trainer.position();
            let stop = asked();
            let due = match event {
                // The trainer is a step ahead, and not at rest.
                Event::Step(step) if step.step < position.step => false,
                // The epoch event follows the last step and saves in its place.
                Event::Step(_) if position.step_in_epoch() == 0 => false,
                Event::Step(_) => stop || regular(position),
                _ => true,
            };
            if due {
                let path = checkpoint::save(dir, &trainer.snapshot())?;
                listen(&Event::Checkpoint(path.clone()));
                newest = Some(path);
                if stop {
                    return Ok(ControlFlow::Break(()));
                }
            }
            Ok(ControlFlow::Continue(()))
        })?;
        stopped = flow.is_break();
    }
    let complete = trainer.position().epoch() >= config.train.epochs;
    let checkpoint = newest.ok_or_else(|| {
        Error::Checkpoint(format!("{} ended without a checkpoint", dir.display()))
    })?;
    Ok(Outcome {
        complete,
        step: trainer.position().step,
        checkpoint,
        model: trainer.model(),
    })
}

/// Refuses a folder with contents that are no run's: nobody wants checkpoints among their photos.
fn refuse_foreign(dir: &Path) -> Result<()> {
    const OURS: [&str; 5] = [
        "config.toml",
        "checkpoints",
        "metrics.jsonl",
        ".lock",
        "log.txt",
    ];
    if dir.is_file() {
        return Err(Error::Checkpoint(format!(
            "{} is a file; --out needs a folder, new or of a run to continue",
            dir.display()
        )));
    }
    if dir.join("config.toml").is_file() {
        return Ok(());
    }
    let Ok(entries) = fs::read_dir(dir) else {
        return Ok(()); // Not there yet; creating it reports what may be wrong.
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if !OURS.iter().any(|ours| name == *ours) {
            return Err(Error::Checkpoint(format!(
                "{} is not empty and not a run directory (it holds {}); choose a new folder for --out",
                dir.display(),
                name.display()
            )));
        }
    }
    Ok(())
}
