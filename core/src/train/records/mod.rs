//! What a run writes down while it trains: `metrics.jsonl` for programs, `events.*` for TensorBoard,
//! `report.html` for people.

mod journal;
mod report;
mod tensorboard;

use super::event::{EpochEvent, Event, MonitorEvent, StepEvent};
use crate::Result;
use crate::config::Config;
use journal::Journal;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use tensorboard::EventFile;

/// A row of `metrics.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Row {
    Step(StepEvent),
    Epoch(EpochEvent),
    Monitor(MonitorEvent),
}

impl Row {
    /// The row that `event` leaves: every epoch, what the monitor found, and every `every`-th step.
    fn of(event: &Event, every: usize) -> Option<Self> {
        match event {
            Event::Step(step) if step.step.is_multiple_of(every) => Some(Self::Step(step.clone())),
            Event::Epoch(epoch) => Some(Self::Epoch(epoch.clone())),
            Event::Monitor(monitor) => Some(Self::Monitor(monitor.clone())),
            _ => None,
        }
    }
}

/// All records of a run directory.
pub(super) struct Records {
    run: PathBuf,
    config: Config,
    journal: Journal,
    events: EventFile,
}

impl Records {
    /// Opens the records of `run` as of `step` steps; what an interrupted run recorded of later steps,
    /// which will be made again, is taken back.
    pub(super) fn open(run: &Path, config: &Config, step: usize) -> Result<Self> {
        Ok(Self {
            run: run.to_path_buf(),
            config: config.clone(),
            journal: Journal::open(run, step)?,
            events: EventFile::create(run, step)?,
        })
    }

    /// Records what is worth it.
    pub(super) fn record(&mut self, event: &Event) -> Result<()> {
        let Some(row) = Row::of(event, self.config.train.log_every) else {
            return Ok(());
        };
        self.journal.append(&row)?;
        self.events.append(&row)?;
        if !matches!(row, Row::Step(_)) {
            report::write(&self.run, &self.config, &self.journal.rows()?)?;
        }
        Ok(())
    }

    /// The epoch that ended with `step`, if it is the last thing recorded: nobody has looked at the model since.
    pub(super) fn unmeasured(&self, step: usize) -> Result<Option<EpochEvent>> {
        Ok(match self.journal.rows()?.pop() {
            Some(Row::Epoch(epoch)) if epoch.step == step => Some(epoch),
            _ => None,
        })
    }
}
