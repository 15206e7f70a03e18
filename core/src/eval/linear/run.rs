//! The epochs of a linear evaluation, and going on where it stopped.

use super::feed::Feed;
use super::probe::{Learner, Probe};
use super::score::Tally;
use super::state::{Position, State, save_weights};
use super::{EpochResult, LinearConfig, best};
use crate::checkpoint::RunLock;
use crate::runtime::Runtime;
use crate::weights::StateDict;
use crate::{Error, Result};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A linear evaluation: settings, and what is evaluated.
pub struct Linear<'a> {
    /// The settings.
    pub config: LinearConfig,
    /// Names the model, the images and the kind of batches, so that a state is continued with nothing else.
    pub subject: String,
    /// Number of classes.
    pub classes: usize,
    /// Where the state is kept, to go on after an interruption; it is created.
    pub folder: Option<&'a Path>,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub enum LinearEvent {
    /// It goes on after so many complete epochs and so many steps.
    Resumed {
        /// Complete epochs.
        epochs: usize,
        /// Steps in the one that is not complete.
        steps: usize,
    },
    /// So many of the epoch's samples are done.
    Progress {
        /// The epoch, from 1.
        epoch: usize,
        /// Samples in all epochs so far.
        samples: usize,
    },
    /// An epoch is complete.
    Epoch(EpochResult),
    /// Something the user should know.
    Warning(String),
}

/// How it ended.
#[derive(Debug)]
pub struct Outcome {
    /// Whether all epochs are done; false if it was asked to stop.
    pub complete: bool,
    /// Every epoch so far.
    pub epochs: Vec<EpochResult>,
    /// The trained part after the last step, by name.
    pub weights: StateDict,
}

/// How long a process that has the folder is waited for: it may be about to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// Name of the state's file, and of the trained part as it was in the best epoch.
const STATE: &str = "linear-state.safetensors";
const BEST: &str = "linear-best.safetensors";

impl Linear<'_> {
    /// Trains `probe` on `feed`, testing it after each epoch. When `stop` becomes true the current step is finished, the
    /// state is saved where there is a folder, and the function returns.
    ///
    /// # Errors
    /// If a setting is impossible, the folder's state is of something else or in use, a batch cannot be had, a label is
    /// not below the number of classes, or the loss is no longer finite.
    pub fn run(
        &self,
        probe: Probe,
        runtime: &Runtime,
        feed: &mut dyn Feed,
        listen: &mut dyn FnMut(LinearEvent),
        stop: &AtomicBool,
    ) -> Result<Outcome> {
        self.config.validate()?;
        if feed.samples() == 0 {
            return Err(Error::Data("there are no images to learn from".into()));
        }
        let _lock = self
            .folder
            .map(|folder| {
                RunLock::acquire(folder, PATIENCE, stop, &mut |line| {
                    listen(LinearEvent::Warning(line));
                })
            })
            .transpose()?;
        let mut learner = Learner::new(&self.config, probe, runtime.clone(), self.classes);
        let mut position = Position::new(&self.config, &self.subject);
        if let Some(path) = self.path(STATE).filter(|path| path.exists()) {
            let state = State::load(&path)?;
            self.check(&path, &state.position)?;
            learner.restore(&state.weights, state.optimizer)?;
            position = state.position;
            listen(LinearEvent::Resumed {
                epochs: position.epochs.len(),
                steps: position.steps,
            });
        }
        let schedule = self.config.optim().schedule(self.config.epochs, 1);
        let mut stopped = false;
        while position.epochs.len() < self.config.epochs && !stopped {
            let lr = schedule.at(position.epochs.len());
            stopped = self.epoch(&mut learner, &mut position, feed, lr, listen, stop)?;
            if !stopped {
                self.complete(&learner, &mut position, feed, lr, listen)?;
                stopped = stop.load(Ordering::Relaxed);
            }
            if let Some(path) = self.path(STATE) {
                self.state(&learner, &position).save(&path)?;
            }
        }
        Ok(Outcome {
            complete: position.epochs.len() == self.config.epochs,
            epochs: position.epochs,
            weights: learner.weights(),
        })
    }

    /// Trains to the end of the epoch; true if it was asked to stop before.
    fn epoch(
        &self,
        learner: &mut Learner,
        position: &mut Position,
        feed: &mut dyn Feed,
        lr: f64,
        listen: &mut dyn FnMut(LinearEvent),
        stop: &AtomicBool,
    ) -> Result<bool> {
        let epoch = position.epochs.len();
        let samples = feed.samples();
        let first = position.steps;
        let steps = samples.div_ceil(self.config.batch_size);
        feed.train(epoch, first, self.config.batch_size, &mut |batch| {
            self.check_labels(&batch.labels)?;
            position.loss.0 += learner.step(&batch, lr)?;
            position.loss.1 += batch.labels.len();
            position.steps += 1;
            listen(LinearEvent::Progress {
                epoch: epoch + 1,
                samples: epoch * samples + position.loss.1,
            });
            // The last batch needs no stop: the epoch is over anyway.
            Ok(if position.steps < steps && stop.load(Ordering::Relaxed) {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            })
        })?;
        Ok(position.steps < steps)
    }

    /// Tests the epoch's layer and keeps it if it is the best so far.
    fn complete(
        &self,
        learner: &Learner,
        position: &mut Position,
        feed: &mut dyn Feed,
        lr: f64,
        listen: &mut dyn FnMut(LinearEvent),
    ) -> Result<()> {
        let mut tally = Tally::default();
        let answers = learner.frozen();
        feed.test(self.config.batch_size, &mut |batch| {
            self.check_labels(&batch.labels)?;
            tally.add(&answers.logits(&batch), &batch.labels);
            Ok(ControlFlow::Continue(()))
        })?;
        let accuracy = tally.accuracy();
        let result = EpochResult {
            epoch: position.epochs.len() + 1,
            lr,
            loss: position.loss.0 / position.loss.1.max(1) as f64,
            top1: accuracy.top1,
            top5: accuracy.top5,
        };
        position.epochs.push(result);
        (position.steps, position.loss) = (0, (0.0, 0));
        if best(&position.epochs).is_some_and(|best| best.epoch == result.epoch)
            && let Some(path) = self.path(BEST)
        {
            save_weights(&path, &learner.weights())?;
        }
        listen(LinearEvent::Epoch(result));
        Ok(())
    }

    fn check_labels(&self, labels: &[usize]) -> Result<()> {
        match labels.iter().find(|&&label| label >= self.classes) {
            None => Ok(()),
            Some(label) => Err(Error::Data(format!(
                "an image is of class {label}, but there are only {} classes, counted from 0",
                self.classes
            ))),
        }
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        self.folder.map(|folder| folder.join(name))
    }

    fn state(&self, learner: &Learner, position: &Position) -> State {
        State {
            position: position.clone(),
            weights: learner.weights(),
            optimizer: learner.optimizer().state(),
        }
    }

    /// Refuses to go on with the state of something else.
    fn check(&self, path: &Path, found: &Position) -> Result<()> {
        let mut differs = Vec::new();
        if found.subject != self.subject {
            differs.push("another model, other images or another mode".to_string());
        }
        if found.config != self.config {
            differs.push(format!(
                "other settings ({:?}, now {:?})",
                found.config, self.config
            ));
        }
        if differs.is_empty() {
            return Ok(());
        }
        Err(Error::Checkpoint(format!(
            "{} is of an evaluation of {}; give the command it was begun with, or another --out",
            path.display(),
            differs.join(" with ")
        )))
    }
}
