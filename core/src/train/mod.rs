//! Training: the step, the loop over epochs, and a run's life on disk.
//!
//! [`Trainer`] knows no screen and no file format: it emits [`Event`]s and hands out
//! [`Snapshot`](crate::checkpoint::Snapshot)s. [`run`] puts it into a run directory: configuration,
//! records, checkpoints, automatic resume.

mod compatibility;
mod event;
mod records;
mod run;
mod step;
mod trainer;

pub use event::{EpochEvent, Event, StepEvent};
pub use run::{Outcome, run};
pub use step::{Batch, Learner, StepOutput};
pub use trainer::Trainer;
