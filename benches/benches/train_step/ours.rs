//! Our step, whole and in parts.

use crate::cases::{Case, DIM, GLOBALS, QUEUE};
use burn::tensor::{Device, Distribution, Int, Tensor};
use selfcls_benches::Outcome;
use selfcls_benches::clock::Clock;
use selfcls_benches::figures::median;
use selfcls_core::Config;
use selfcls_core::loss::Loss;
use selfcls_core::model::{Context, Noise, SelfClassifier, ViewBatch, with_weight_layout};
use selfcls_core::optim::Optimizer;
use selfcls_core::queue::Queue;
use selfcls_core::runtime::Runtime;
use selfcls_core::train::{Batch, Learner};

/// The phases of a step, as the peer names them.
pub(crate) const PHASES: [&str; 5] = ["embed", "queue_heads", "loss", "backward", "optimizer"];

/// Learning rate: small, so that no number of steps on random images overflows.
fn rate(config: &Config) -> f64 {
    if config.optim.kind.is_adamw() {
        1e-3
    } else {
        0.1
    }
}

/// Random views.
pub(crate) struct Data {
    views: ViewBatch,
    numbers: Tensor<1, Int>,
}

impl Data {
    pub(crate) fn new(case: &Case, device: &Device) -> Self {
        let normal = Distribution::Normal(0.0, 1.0);
        let images = |count: usize, size: usize| {
            Tensor::random([count * case.batch, 3, size, size], normal, device)
        };
        let views = ViewBatch {
            global: images(GLOBALS, case.global_size),
            local: (case.locals > 0).then(|| images(case.locals, case.local_size)),
        };
        Self {
            views,
            numbers: Tensor::arange(0..case.batch as i64, device),
        }
    }
}

/// A queue that is full of random embeddings, of samples that are not in a batch of `batch`.
fn full_queue(batch: usize, device: &Device) -> Queue {
    let mut queue = Queue::new(QUEUE, DIM, device);
    let normal = Distribution::Normal(0.0, 1.0);
    let embeddings: Tensor<2> = Tensor::random([QUEUE, DIM], normal, device);
    let norms = embeddings.clone().square().sum_dim(1).sqrt();
    let others = Tensor::arange(batch as i64..(batch + QUEUE) as i64, device);
    queue.push(embeddings / norms, others.clone(), others);
    queue
}

/// The step as the trainer takes it.
pub(crate) struct Whole {
    learner: Learner,
    batch: Batch,
    device: Device,
    rate: f64,
}

impl Whole {
    pub(crate) fn new(config: &Config, runtime: &Runtime, data: &Data) -> Self {
        let mut learner = Learner::new(config, runtime.clone());
        let model = learner.model().clone();
        let queue = full_queue(data.numbers.dims()[0], &runtime.device);
        learner.replace(model, config.optim.init(), Some(queue), 0);
        Self {
            learner,
            batch: Batch {
                views: data.views.clone(),
                indices: data.numbers.clone(),
                labels: data.numbers.clone(),
            },
            device: runtime.device.clone(),
            rate: rate(config),
        }
    }

    /// Milliseconds of one step.
    pub(crate) fn step(&mut self, clock: Clock) -> Outcome<f64> {
        let mut watch = Watch::start(&self.device, clock)?;
        self.learner.step(self.batch.clone(), self.rate)?;
        watch.lap()
    }

    /// Milliseconds of one of several steps: the median, or, on a device that works while it is given the next step, the
    /// mean, for it is not to wait between them.
    pub(crate) fn typical(
        &mut self,
        steps: usize,
        asynchronous: bool,
        clock: Clock,
    ) -> Outcome<f64> {
        if asynchronous {
            return Ok(self.series(steps, clock)?.1);
        }
        let times: Vec<f64> = (0..steps)
            .map(|_| self.step(clock))
            .collect::<Outcome<_>>()?;
        median(&times).ok_or_else(|| "no step was made".into())
    }

    /// Milliseconds for handing over one of `steps` steps, and until it is done: means.
    pub(crate) fn series(&mut self, steps: usize, clock: Clock) -> Outcome<(f64, f64)> {
        let mut watch = Watch::start(&self.device, clock)?;
        let began = clock.now()?;
        for _ in 0..steps {
            self.learner.step(self.batch.clone(), self.rate)?;
        }
        let handed_over = clock.now()? - began;
        let done = watch.lap()?;
        Ok((handed_over / steps as f64, done / steps as f64))
    }
}

/// The same step in its parts.
pub(crate) struct Apart {
    model: Option<SelfClassifier>,
    optimizer: Optimizer,
    queue: Queue,
    loss: Loss,
    runtime: Runtime,
    views: ViewBatch,
    numbers: Tensor<1, Int>,
    rate: f64,
}

impl Apart {
    pub(crate) fn new(config: &Config, runtime: &Runtime, data: &Data) -> Self {
        let device = runtime.device.clone().autodiff();
        Self {
            model: Some(with_weight_layout(
                config.model.init(&device, 0),
                &*runtime.kernels,
            )),
            optimizer: config.optim.init(),
            queue: full_queue(data.numbers.dims()[0], &runtime.device),
            loss: config.loss.init(),
            runtime: runtime.clone(),
            views: data.views.clone(),
            numbers: data.numbers.clone(),
            rate: rate(config),
        }
    }

    /// Milliseconds of each of [`PHASES`].
    pub(crate) fn step(&mut self, clock: Clock) -> Outcome<[f64; PHASES.len()]> {
        let model = self.model.take().ok_or("an earlier step failed")?;
        let kernels = &*self.runtime.kernels;
        let context = Context::training(kernels, Noise::default());
        let mut watch = Watch::start(&self.runtime.device, clock)?;
        let embeddings = model.embed(self.views.clone(), &context);
        let embed = watch.lap()?;

        let (rows, batch) = (embeddings.dims()[0], self.numbers.dims()[0]);
        let first = embeddings.clone().slice(0..batch).without_autodiff();
        let neighbours = self.queue.nearest(first.clone(), self.numbers.clone());
        let numbers = self.numbers.clone();
        self.queue.push(first, numbers.clone(), numbers);
        let rest = embeddings.slice(batch..rows);
        let embeddings = Tensor::cat(vec![neighbours.embeddings.autodiff(), rest], 0);
        let logits: Vec<Tensor<3>> = model
            .logits(embeddings)
            .into_iter()
            .map(|logits| {
                let classes = logits.dims()[1];
                logits.reshape([rows / batch, batch, classes])
            })
            .collect();
        let queue_heads = watch.lap()?;

        // Its gradient is part of it: the backward pass begins at the logits.
        let heads = logits.len() as f64;
        let mut pulls = Vec::new();
        for logits in logits {
            let (_, gradient) = self.loss.value_and_gradient(logits.clone(), GLOBALS)?;
            pulls.push((logits, gradient / heads));
        }
        let forward = watch.lap()?;

        let pull = pulls
            .into_iter()
            .map(|(logits, gradient)| (logits * gradient).sum())
            .reduce(|a, b| a + b);
        let mut grads = pull.ok_or("a network without heads")?.backward();
        let backward = watch.lap()?;

        let updated = self.optimizer.step(self.rate, model, &mut grads, kernels);
        self.model = Some(updated);
        let update = watch.lap()?;
        Ok([embed, queue_heads, forward, backward, update])
    }
}

/// Time since the last lap, once the device has done what it was given.
struct Watch<'a> {
    device: &'a Device,
    clock: Clock,
    last: f64,
}

impl<'a> Watch<'a> {
    fn start(device: &'a Device, clock: Clock) -> Outcome<Self> {
        let mut watch = Self {
            device,
            clock,
            last: 0.0,
        };
        watch.lap()?;
        Ok(watch)
    }

    /// Milliseconds.
    fn lap(&mut self) -> Outcome<f64> {
        self.device
            .sync()
            .map_err(|error| format!("the device failed: {error:?}"))?;
        let now = self.clock.now()?;
        Ok(now - std::mem::replace(&mut self.last, now))
    }
}
