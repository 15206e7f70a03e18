//! The loop over epochs and steps.

use super::event::{EpochEvent, Event, StepEvent};
use super::step::{Learner, StepOutput};
use super::transfer::{distinct, numbers, stage};
use super::wishes::AskedBy;
use super::{processors, start};
use crate::checkpoint::{FORMAT, Manifest, Position, Snapshot};
use crate::collective::Reduction;
use crate::config::Config;
use crate::data::{Loader, Shares, Source};
use crate::kernels::PendingRead;
use crate::model::{SelfClassifier, state_dict, with_state_dict};
use crate::optim::LrSchedule;
use crate::queue::Queue;
use crate::runtime::Runtime;
use crate::views::Recipe;
use crate::{Error, Result};
use burn::tensor::{Int, Tensor};
use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Trains one model on one source, alone or as one of several ranks.
pub struct Trainer {
    config: Config,
    runtime: Runtime,
    samples: usize,
    loader: Loader,
    schedule: LrSchedule,
    learner: Learner,
    position: Position,
    /// Who asked to stop, as far as all ranks know.
    asked_by: Option<AskedBy>,
}

/// A step that was made, with its numbers still on their way.
struct Made {
    epoch: usize,
    step: usize,
    lr: f64,
    /// Loss, neighbour accuracy (zero where unknown), and the ranks' wishes to stop.
    numbers: PendingRead,
    knows_neighbours: bool,
    assigned: Tensor<1, Int>,
}

/// Mean of a quantity that is not always known.
#[derive(Default)]
struct Mean {
    sum: f64,
    count: usize,
}

impl Mean {
    fn add(&mut self, value: Option<f64>) {
        if let Some(value) = value {
            self.sum += value;
            self.count += 1;
        }
    }

    fn value(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }
}

impl Trainer {
    /// A trainer at the beginning of its run. All ranks make theirs together.
    ///
    /// # Errors
    /// If the configuration is impossible, also for this number of ranks, the source is smaller than one
    /// batch, or ranks were given different settings or data.
    pub fn new(config: Config, source: Arc<dyn Source>, runtime: Runtime) -> Result<Self> {
        config.validate_for_ranks(runtime.collective.world_size())?;
        if config.train.precision != runtime.kernels.precision() {
            return Err(Error::Invalid(format!(
                "train.precision = {:?}, but the kernels given compute in {:?}",
                config.train.precision,
                runtime.kernels.precision()
            )));
        }
        let samples = source.len();
        let peers = Arc::clone(&runtime.collective);
        let loader = Loader::new(
            Arc::clone(&source),
            Recipe::new(&config.views),
            config.train.batch_size,
            config.train.seed,
            processors::workers(config.data.workers, &runtime)?,
        )?
        .in_parts(config.train.accumulate)?
        .for_rank(peers.rank(), peers.world_size())?;
        start::compare(&*peers, &config, &*source)?;
        let runtime = runtime.with_shared_statistics(config.train.syncbn_group_size)?;
        let steps_per_epoch = loader.steps_per_epoch();
        let schedule = config.optim.schedule(config.train.epochs, steps_per_epoch);
        let learner = Learner::new(&config, runtime.clone());
        Ok(Self {
            config,
            runtime,
            samples,
            loader,
            schedule,
            learner,
            position: Position {
                step: 0,
                steps_per_epoch,
                epoch_loss_sum: 0.0,
                epoch_loss: None,
                best_loss: None,
            },
            asked_by: None,
        })
    }

    /// Replaces the initial weights by those of `pretrained` in the configuration, where it names some.
    ///
    /// # Errors
    /// If they cannot be read or do not fit the model.
    pub fn load_pretrained(&mut self) -> Result<()> {
        let fresh = self.learner.model();
        let config = &self.config.pretrained;
        if let Some(state) = crate::pretrained::select(config, state_dict(fresh))? {
            let model = with_state_dict(fresh.clone(), &state)?;
            let queue = self.learner.queue().cloned();
            self.learner
                .replace(model, self.config.optim.init(), queue, 0);
        }
        Ok(())
    }

    /// Takes the weights and running statistics of rank 0, so that all ranks begin alike.
    ///
    /// # Errors
    /// If a peer fails.
    pub fn take_first_ranks_weights(&mut self) -> Result<()> {
        let peers = Arc::clone(&self.runtime.collective);
        if peers.world_size() == 1 {
            return Ok(());
        }
        let state = start::share_weights(&*peers, state_dict(self.learner.model()))?;
        self.learner.set_weights(&state)
    }

    /// Continues from `snapshot`, whose configuration the caller has compared.
    ///
    /// # Errors
    /// If the snapshot's arrays or its data do not fit this trainer.
    pub fn resume(&mut self, snapshot: Snapshot) -> Result<()> {
        let manifest = snapshot.manifest;
        if manifest.samples == 0 {
            return Err(Error::Checkpoint(
                "the checkpoint holds weights that were converted, and no training to continue; start one from them: --pretrained RUN and another --out".into(),
            ));
        }
        if manifest.samples != self.samples
            || manifest.position.steps_per_epoch != self.position.steps_per_epoch
        {
            return Err(Error::Checkpoint(format!(
                "the run was started on {} images, the data now holds {}: sample numbers would mean other images; restore the data, or start anew with another --out",
                manifest.samples, self.samples
            )));
        }
        let device = &self.runtime.device;
        let fresh = Learner::new(&self.config, self.runtime.clone());
        let model = with_state_dict(fresh.model().clone(), &snapshot.model)?;
        let mut optimizer = self.config.optim.init();
        optimizer.restore(snapshot.optimizer, device)?;
        let queue = match snapshot.queue {
            Some(state) if state.indices.len() == self.config.queue.length => {
                Some(Queue::from_state(state, self.config.model.dim, device)?)
            }
            None if self.config.queue.length == 0 => None,
            other => {
                return Err(Error::Checkpoint(format!(
                    "the checkpoint's queue has {} rows, the configuration says queue.length = {}",
                    other.map_or(0, |state| state.indices.len()),
                    self.config.queue.length
                )));
            }
        };
        self.learner
            .set_loss_scale(manifest.loss_scale.or(fresh.loss_scale()));
        self.position = manifest.position;
        self.learner
            .replace(model, optimizer, queue, self.position.step);
        Ok(())
    }

    /// The whole state between two steps.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            manifest: Manifest {
                format: FORMAT,
                version: env!("CARGO_PKG_VERSION").into(),
                position: self.position,
                samples: self.samples,
                optimizer_steps: BTreeMap::new(),
                loss_scale: self.learner.loss_scale(),
                queue: None,
                files: BTreeMap::new(),
                config: self.config.clone(),
            },
            model: state_dict(self.learner.model()),
            optimizer: self.learner.optimizer().state(),
            queue: self.learner.queue().map(Queue::state),
        }
    }

    /// Where the run stands.
    pub fn position(&self) -> &Position {
        &self.position
    }

    /// The model for inference.
    pub fn model(&self) -> SelfClassifier {
        self.learner.inference_model()
    }

    /// The event that describes where training begins.
    pub fn start_event(&self) -> Event {
        Event::Start {
            step: self.position.step,
            steps: self.schedule.total(),
            epochs: self.config.train.epochs,
            samples: self.samples,
            parameters: self.learner.parameters(),
        }
    }

    /// What about this configuration and this data deserves a warning.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let length = self.config.queue.length;
        if length > self.samples {
            warnings.push(format!(
                "queue.length = {length} is longer than the data ({} images): most samples' nearest neighbour will be their own earlier self; a quarter of the data or less is usual",
                self.samples
            ));
        }
        let dropped = self.samples % self.config.train.batch_size;
        if dropped * 4 > self.samples {
            warnings.push(format!(
                "each epoch leaves out {dropped} of {} images, the incomplete last batch; a smaller train.batch_size would use more of them",
                self.samples
            ));
        }
        warnings
    }

    /// Whether the run is to stop: alone, whether `wish` says so now; among several ranks, whether they have
    /// agreed on it in a step that has been read, so that all stop after the same step.
    pub fn is_to_stop(&self, wish: &AtomicBool) -> bool {
        if self.runtime.collective.world_size() == 1 {
            wish.load(Ordering::Relaxed)
        } else {
            self.asked_by.is_some()
        }
    }

    /// Who asked several ranks to stop, if they have agreed on it.
    pub fn asked_by(&self) -> Option<AskedBy> {
        self.asked_by
    }

    /// Trains to the end of the current epoch. `observe` hears of every step and may stop between two;
    /// the result tells whether it did. `wish` is this rank's wish to stop, which it tells the others with
    /// the next step; see [`is_to_stop`](Self::is_to_stop).
    ///
    /// On an asynchronous device `observe` hears of a step when the next one is under way, and the
    /// trainer's position is then a step ahead of the event's. Before the end of the epoch, and wherever
    /// `settle` asks for it, the trainer waits: the last event is then that of the step just made, and
    /// [`snapshot`](Self::snapshot) is as of that event.
    ///
    /// # Errors
    /// If an image cannot be read, the loss is no longer a finite number, or a peer fails.
    pub fn epoch(
        &mut self,
        wish: &AtomicBool,
        settle: &mut dyn FnMut(&Self) -> bool,
        observe: &mut dyn FnMut(&Self, &Event) -> Result<ControlFlow<()>>,
    ) -> Result<ControlFlow<()>> {
        let began = Instant::now();
        let (epoch, first) = (self.position.epoch(), self.position.step_in_epoch());
        let mut neighbours = Mean::default();
        let mut done = 0;
        let mut unread = VecDeque::new();
        let kernels = Arc::clone(&self.runtime.kernels);
        let ready = move |batch| stage(batch, &*kernels);
        let mut loaded = self.loader.epoch_made_ready(epoch, first, ready);
        loop {
            let parts = loaded
                .by_ref()
                .take(self.config.train.accumulate)
                .map(|part| {
                    let Runtime {
                        kernels, device, ..
                    } = &self.runtime;
                    Ok(part?.upload(&self.config.views, &**kernels, device))
                })
                .collect::<Result<Vec<_>>>()?;
            if parts.is_empty() {
                return Ok(ControlFlow::Continue(()));
            }
            let lr = self.schedule.at(self.position.step);
            let output = self.learner.step_in_parts(&parts, lr)?;
            done += 1;
            self.position.step += 1;
            unread.push_back(self.agree(epoch, lr, output, wish)?);
            let last = self.position.step_in_epoch() == 0;
            let mut flow = ControlFlow::Continue(());
            let mut assigned = None;
            loop {
                // Asked anew after each event: what it brought may be the wish to stop.
                let behind = self.runtime.asynchronous && !last && !settle(self);
                if unread.len() <= usize::from(behind) {
                    break;
                }
                let Some(made) = unread.pop_front() else {
                    break;
                };
                let (event, classes) = self.read(made)?;
                neighbours.add(event.neighbour_accuracy);
                assigned = Some(classes);
                if observe(self, &Event::Step(event))?.is_break() {
                    flow = ControlFlow::Break(());
                }
            }
            if let Some(assigned) = assigned.filter(|_| last) {
                let loss = self.position.epoch_loss_sum / self.position.steps_per_epoch as f64;
                self.position.epoch_loss = Some(loss);
                self.position.epoch_loss_sum = 0.0;
                let seconds = began.elapsed().as_secs_f64();
                let event = EpochEvent {
                    epoch: epoch + 1,
                    step: self.position.step,
                    loss,
                    lr,
                    used_classes: self.used_classes(assigned)?,
                    neighbour_accuracy: neighbours.value(),
                    seconds,
                    images_per_second: (done * self.config.train.batch_size) as f64 / seconds,
                };
                if observe(self, &Event::Epoch(event))?.is_break() {
                    flow = ControlFlow::Break(());
                }
            }
            if flow.is_break() {
                return Ok(flow);
            }
        }
    }

    /// Adds up what the ranks found in the step just made, and their wishes to stop: one small message.
    fn agree(&self, epoch: usize, lr: f64, output: StepOutput, wish: &AtomicBool) -> Result<Made> {
        // Filled in by the device, not sent there.
        let number = |value: f32| Tensor::zeros([1], &self.runtime.device).add_scalar(value);
        let knows_neighbours = output.neighbour_accuracy.is_some();
        let Runtime {
            kernels,
            collective: peers,
            ..
        } = &self.runtime;
        let [wish, rank] = AskedBy::addends(wish.load(Ordering::Relaxed), peers.rank());
        let numbers = vec![
            output.loss,
            output.neighbour_accuracy.unwrap_or_else(|| number(0.0)),
            number(wish),
            number(rank),
        ];
        let numbers = peers.all_reduce(Tensor::cat(numbers, 0), Reduction::Sum)?;
        Ok(Made {
            epoch: epoch + 1,
            step: self.position.step,
            lr,
            numbers: kernels.begin_read(numbers),
            knows_neighbours,
            assigned: output.assigned,
        })
    }

    /// Waits for a step's numbers; with the classes that it assigned.
    fn read(&mut self, made: Made) -> Result<(StepEvent, Tensor<1, Int>)> {
        let Made {
            epoch, step, lr, ..
        } = made;
        let [loss, accuracy, wishes, ranks] = numbers(made.numbers)?;
        if !loss.is_finite() {
            return Err(Error::Diverged(format!(
                "the loss became {loss} at step {step} (epoch {epoch}, learning rate {lr}); lower optim.lr or lengthen optim.warmup_epochs; the last checkpoint is from before"
            )));
        }
        self.position.epoch_loss_sum += loss;
        if self.runtime.collective.world_size() > 1 {
            let asked_by = || AskedBy::from_sums([wishes, ranks]);
            self.asked_by = self.asked_by.or_else(asked_by);
        }
        let known = made.knows_neighbours && self.loader.has_labels();
        let event = StepEvent {
            epoch,
            step,
            loss,
            lr,
            neighbour_accuracy: known.then_some(accuracy),
        };
        Ok((event, made.assigned))
    }

    /// Classes that occur among all ranks' samples of a step.
    fn used_classes(&self, assigned: Tensor<1, Int>) -> Result<usize> {
        let peers = &self.runtime.collective;
        let parts = self.config.train.accumulate;
        let shares = Shares::new(self.config.train.batch_size / parts, peers.world_size());
        let counts: Vec<usize> = shares.sizes().iter().map(|size| size * parts).collect();
        distinct(peers.all_gather_int(assigned, &counts)?)
    }
}
