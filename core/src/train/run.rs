//! A run's life on disk: `config.toml`, its records, `checkpoints/`, and going on where it stopped.

use super::compatibility;
use super::event::{EpochEvent, Event};
use super::monitor::Monitor;
use super::records::Records;
use super::start;
use super::trainer::Trainer;
use super::wishes::AskedBy;
use crate::checkpoint::{self, Position, RunLock};
use crate::config::Config;
use crate::data::Source;
use crate::model::SelfClassifier;
use crate::panics::guarded;
use crate::runtime::Runtime;
use crate::{Error, Result, atomic};
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    /// Whether all epochs are done; false if it was asked to stop.
    pub complete: bool,
    /// Who asked to stop, if several ranks have agreed on it.
    pub asked_by: Option<AskedBy>,
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
/// Of several ranks, each calls it. Rank 0 alone reads and writes the folder; the others, which need not
/// see it, take the checkpoint from rank 0. All hear the same events, but that rank 0 alone is told what the
/// monitor has measured, and a `stop` of one stops all after the same step. They return when the last checkpoint is on disk.
///
/// # Errors
/// If the folder is in use, not a run directory, or holds a run with other settings; [`Error::Stopped`] if it was in use
/// until `stop` became true; and whatever
/// stops training itself, in this rank or, as [`Error::Peers`], in another; [`Error::Memory`] if the device has too little. What was written stays usable
/// in every case.
pub fn run(
    dir: &Path,
    config: Config,
    source: Arc<dyn Source>,
    runtime: Runtime,
    listen: &mut dyn FnMut(&Event),
    stop: &AtomicBool,
) -> Result<Outcome> {
    let peers = Arc::clone(&runtime.collective);
    let outcome = guarded(|| train(dir, config, source, runtime, listen, stop));
    match &outcome {
        // They know.
        Ok(_) | Err(Error::Stopped(_)) => {}
        // Otherwise they would wait for this rank until they give up.
        Err(error) => peers.leave(&error.to_string()),
    }
    outcome
}

fn train(
    dir: &Path,
    config: Config,
    source: Arc<dyn Source>,
    runtime: Runtime,
    listen: &mut dyn FnMut(&Event),
    stop: &AtomicBool,
) -> Result<Outcome> {
    let peers = Arc::clone(&runtime.collective);
    let writes = peers.rank() == 0;
    if writes {
        refuse_foreign(dir)?;
    }
    let mut trainer = Trainer::new(config.clone(), Arc::clone(&source), runtime.clone())?;
    let monitor = Monitor::new(&config, &source, &runtime)?;
    let lock = if writes {
        // The other ranks wait for this one, and for no longer than the timeout.
        let patience = Duration::from_secs(config.train.timeout_seconds) / 2;
        let mut say = |line| listen(&Event::Warning(line));
        RunLock::acquire(dir, patience, stop, &mut say).map(Some)
    } else {
        Ok(None)
    };
    let _lock = start::share_stop(&*peers, lock)?;
    let mut newest = if writes {
        checkpoint::list(dir)?.pop()
    } else {
        None
    };
    let files = newest.as_deref().map(checkpoint::read).transpose()?;
    if let Some(files) = start::share_checkpoint(&*peers, files)? {
        let snapshot = files.snapshot()?;
        compatibility::check(dir, &snapshot.manifest.config, &config)?;
        newest = Some(checkpoint::folder(dir, snapshot.manifest.position.step));
        trainer.resume(snapshot)?;
    } else if writes {
        trainer.load_pretrained()?;
    }
    trainer.take_first_ranks_weights()?;
    let mut records = None;
    if writes {
        atomic::write(&dir.join("config.toml"), config.to_toml().as_bytes())?;
        records = Some(Records::open(dir, &config, trainer.position().step)?);
    }
    for warning in trainer.warnings() {
        listen(&Event::Warning(warning));
    }
    listen(&trainer.start_event());
    if let Some(monitor) = &monitor {
        let unmeasured = match &records {
            Some(records) => records.unmeasured(trainer.position().step)?,
            None => None,
        };
        if let Some(epoch) = start::share_epoch(&*peers, unmeasured)?
            && monitor.is_due(&epoch)
            && trainer.position().epoch() < config.train.epochs
        {
            look(monitor, &trainer, &epoch, &mut records, listen)?;
        }
    }

    let every = config.checkpoint.every_steps;
    let mut stopped = false;
    while trainer.position().epoch() < config.train.epochs && !stopped {
        let regular = |position: &Position| every > 0 && position.step.is_multiple_of(every);
        let mut settle =
            |trainer: &Trainer| trainer.is_to_stop(stop) || regular(trainer.position());
        let flow = trainer.epoch(stop, &mut settle, &mut |trainer, event| {
            if let Some(records) = &mut records {
                records.record(event)?;
            }
            listen(event);
            // Before the checkpoint: what a checkpoint's journal lacks is made again, and nothing else. Whoever asks to stop
            // has no time for it, so that the next start begins with it; after the last epoch there is none.
            if let (Event::Epoch(epoch), Some(monitor)) = (event, &monitor)
                && monitor.is_due(epoch)
                && (!trainer.is_to_stop(stop) || trainer.position().epoch() >= config.train.epochs)
            {
                look(monitor, trainer, epoch, &mut records, listen)?;
            }
            let position = trainer.position();
            let stop = trainer.is_to_stop(stop);
            let due = match event {
                // The trainer is a step ahead, and not at rest.
                Event::Step(step) if step.step < position.step => false,
                // The epoch event follows the last step and saves in its place.
                Event::Step(_) if position.step_in_epoch() == 0 => false,
                Event::Step(_) => stop || regular(position),
                _ => true,
            };
            if due {
                let path = if writes {
                    checkpoint::save(dir, &trainer.snapshot())?
                } else {
                    checkpoint::folder(dir, position.step)
                };
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
    // A launcher may end all processes when one has ended: not before the checkpoint is on disk.
    peers.barrier()?;
    let complete = trainer.position().epoch() >= config.train.epochs;
    let checkpoint = newest.ok_or_else(|| {
        Error::Checkpoint(format!("{} ended without a checkpoint", dir.display()))
    })?;
    Ok(Outcome {
        complete,
        asked_by: trainer.asked_by(),
        step: trainer.position().step,
        checkpoint,
        model: trainer.model(),
    })
}

/// Measures the model as it is after `epoch`, and notes what was found.
fn look(
    monitor: &Monitor,
    trainer: &Trainer,
    epoch: &EpochEvent,
    records: &mut Option<Records>,
    listen: &mut dyn FnMut(&Event),
) -> Result<()> {
    let measured = match monitor.measure(trainer.model(), epoch) {
        Ok(measured) => measured.map(Event::Monitor),
        // Days of training shall not end for a look at them.
        Err(error) => Some(Event::Warning(format!("the monitor failed: {error}"))),
    };
    if let Some(measured) = measured {
        if let Some(records) = records {
            records.record(&measured)?;
        }
        listen(&measured);
    }
    Ok(())
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
        let of_a_rank = name.to_string_lossy().starts_with("log.rank");
        if !of_a_rank && !OURS.iter().any(|ours| name == *ours) {
            return Err(Error::Checkpoint(format!(
                "{} is not empty and not a run directory (it holds {}); choose a new folder for --out",
                dir.display(),
                name.display()
            )));
        }
    }
    Ok(())
}
