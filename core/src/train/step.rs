//! One training step.

use crate::config::Config;
use crate::loss::Loss;
use crate::loss_scale::LossScale;
use crate::model::{Context, SelfClassifier, ViewBatch, with_weight_layout};
use crate::optim::Optimizer;
use crate::queue::Queue;
use crate::runtime::Runtime;
use crate::{Error, Result};
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Gradients, Int, Tensor};

/// Everything that learns: the model, its optimiser and the queue.
#[derive(Debug)]
pub struct Learner {
    /// None only while the optimiser rebuilds it.
    model: Option<SelfClassifier>,
    optimizer: Optimizer,
    queue: Option<Queue>,
    replace: bool,
    loss: Loss,
    loss_scale: Option<LossScale>,
    runtime: Runtime,
}

/// A batch of views on the device, without autodiff.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The views.
    pub views: ViewBatch,
    /// Sample indices, `[batch]`.
    pub indices: Tensor<1, Int>,
    /// Labels, `[batch]`; -1 where unknown. They are never trained on.
    pub labels: Tensor<1, Int>,
}

/// What a step found, still on the device.
#[derive(Debug)]
pub struct StepOutput {
    /// The loss, `[1]`.
    pub loss: Tensor<1>,
    /// Fraction of neighbours with the sample's own label, `[1]`, once the queue is full.
    pub neighbour_accuracy: Option<Tensor<1>>,
    /// Class of the first head for each sample's second view, `[batch]`.
    pub assigned: Tensor<1, Int>,
}

/// Divides the gradients of `model` by `factor`, and tells whether all of them are finite: the one value
/// that a step in half precision has to wait for.
fn unscale<M: Module>(model: &M, grads: &mut Gradients, factor: f64) -> Result<bool> {
    struct Unscale<'a> {
        grads: &'a mut Gradients,
        factor: f64,
        /// Sum of zero times each gradient: zero, or NaN.
        probe: Option<Tensor<1>>,
    }
    impl ModuleVisitor for Unscale<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let tensor = param.val();
            let Some(grad) = tensor.grad(self.grads) else {
                return;
            };
            let zero = (grad.clone() * 0.0).sum();
            self.probe = Some(match self.probe.take() {
                Some(probe) => probe + zero,
                None => zero,
            });
            tensor.grad_replace(self.grads, grad / self.factor);
        }
    }
    let mut unscale = Unscale {
        grads,
        factor,
        probe: None,
    };
    model.visit(&mut unscale);
    match unscale.probe {
        Some(probe) => Ok(scalar(probe)? == 0.0),
        None => Ok(true),
    }
}

/// The value of a one-element tensor, once the device has computed it.
pub(super) fn scalar(tensor: Tensor<1>) -> Result<f64> {
    tensor
        .try_into_scalar::<f32>()
        .map(f64::from)
        .map_err(|error| Error::Invalid(format!("the device did not return a value: {error:?}")))
}

/// The global views of every sample.
const GLOBALS: usize = 2;

impl Learner {
    /// A learner with initial weights and an empty queue.
    pub fn new(config: &Config, runtime: Runtime) -> Self {
        let model = config
            .model
            .init(&runtime.device.clone().autodiff(), config.train.seed);
        let queue = (config.queue.length > 0)
            .then(|| Queue::new(config.queue.length, config.model.dim, &runtime.device));
        Self {
            model: Some(with_weight_layout(model, &*runtime.kernels)),
            optimizer: config.optim.init(),
            queue,
            replace: config.queue.replace,
            loss: config.loss.init(),
            loss_scale: LossScale::for_precision(runtime.kernels.precision()),
            runtime,
        }
    }

    /// The model, on the autodiff device.
    pub fn model(&self) -> &SelfClassifier {
        // Invariant: `step` puts the model back before it returns.
        self.model
            .as_ref()
            .expect("the model is in its place between steps")
    }

    /// The optimiser.
    pub fn optimizer(&self) -> &Optimizer {
        &self.optimizer
    }

    /// The queue.
    pub fn queue(&self) -> Option<&Queue> {
        self.queue.as_ref()
    }

    /// The factor on the loss, where the precision needs one.
    pub fn loss_scale(&self) -> Option<LossScale> {
        self.loss_scale
    }

    /// Goes on with another factor on the loss.
    pub fn set_loss_scale(&mut self, scale: Option<LossScale>) {
        self.loss_scale = scale;
    }

    /// Replaces model, optimiser history and queue.
    pub fn replace(&mut self, model: SelfClassifier, optimizer: Optimizer, queue: Option<Queue>) {
        self.model = Some(with_weight_layout(model, &*self.runtime.kernels));
        self.optimizer = optimizer;
        self.queue = queue;
    }

    /// One step with learning rate `lr`: embed all views, replace view 0 by its neighbours, classify,
    /// compare, and follow the gradient. Where the loss is scaled and a gradient overflows, the parameters
    /// stay as they are and the scale is lowered.
    ///
    /// # Errors
    /// If the views do not belong together.
    pub fn step(&mut self, batch: Batch, lr: f64) -> Result<StepOutput> {
        let (output, mut grads) = self.gradients(batch)?;
        if let Some(scale) = self.loss_scale {
            let finite = unscale(self.model(), &mut grads, scale.factor)?;
            self.loss_scale = Some(scale.after(finite));
            if !finite {
                return Ok(output);
            }
        }
        let model = self.model.take();
        self.model = model.map(|model| self.optimizer.step(lr, model, &mut grads));
        Ok(output)
    }

    /// The forward and backward pass of a step, with its effects on running statistics and queue. The
    /// gradients are those of the loss times the [`loss_scale`](Self::loss_scale), where there is one.
    ///
    /// # Errors
    /// If the views do not belong together.
    pub fn gradients(&mut self, batch: Batch) -> Result<(StepOutput, Gradients)> {
        let Batch {
            views,
            indices,
            labels,
        } = batch;
        let samples = indices.dims()[0];
        let context = Context {
            kernels: &*self.runtime.kernels,
            training: true,
        };
        let embeddings = self.model().embed(views, &context);
        let rows = embeddings.dims()[0];
        if samples == 0 || !rows.is_multiple_of(samples) {
            return Err(Error::Invalid(format!(
                "{rows} views cannot be shared among {samples} samples"
            )));
        }
        let (embeddings, neighbour_accuracy) = self.with_neighbours(embeddings, indices, labels);

        let logits: Vec<Tensor<3>> = self
            .model()
            .logits(embeddings)
            .into_iter()
            .map(|logits| self.gather_views(logits, rows / samples))
            .collect();
        let assigned = logits[0]
            .clone()
            .without_autodiff()
            .slice(1..2)
            .squeeze_dim::<2>(0)
            .argmax(1)
            .squeeze_dim(1);
        let loss = self.loss.forward(&logits, GLOBALS)?;
        let grads = match self.loss_scale {
            None => loss.backward(),
            Some(scale) => (loss.clone() * scale.factor).backward(),
        };
        let output = StepOutput {
            loss: loss.without_autodiff(),
            neighbour_accuracy,
            assigned,
        };
        Ok((output, grads))
    }

    /// Looks up the neighbours of view 0, puts them in its place, and pushes view 0 into the queue.
    /// The look-up comes first, so a batch never finds itself.
    fn with_neighbours(
        &mut self,
        embeddings: Tensor<2>,
        indices: Tensor<1, Int>,
        labels: Tensor<1, Int>,
    ) -> (Tensor<2>, Option<Tensor<1>>) {
        let Some(queue) = &mut self.queue else {
            return (embeddings, None);
        };
        let (rows, samples) = (embeddings.dims()[0], indices.dims()[0]);
        let first = embeddings.clone().slice(0..samples).without_autodiff();
        let mut accuracy = None;
        let mut result = embeddings;
        if queue.is_full() {
            let neighbours = queue.nearest(first.clone(), indices.clone());
            accuracy = Some(neighbours.labels.equal(labels.clone()).float().mean());
            if self.replace {
                let rest = result.slice(samples..rows);
                result = Tensor::cat(vec![neighbours.embeddings.autodiff(), rest], 0);
            }
        }
        let peers = &self.runtime.collective;
        queue.push(
            peers.all_gather(first),
            peers.all_gather_int(indices),
            peers.all_gather_int(labels),
        );
        (result, accuracy)
    }

    /// `[views * batch, classes]` of this rank to `[views, batch of all ranks, classes]`.
    fn gather_views(&self, logits: Tensor<2>, views: usize) -> Tensor<3> {
        let [rows, classes] = logits.dims();
        let world = self.runtime.collective.world_size();
        let batch = rows / views;
        if world == 1 {
            return logits.reshape([views, batch, classes]);
        }
        self.runtime
            .collective
            .all_gather(logits)
            .reshape([world, views, batch, classes])
            .swap_dims(0, 1)
            .reshape([views, world * batch, classes])
    }

    /// Number of values that training may change.
    pub fn parameters(&self) -> usize {
        crate::model::state_dict(self.model())
            .iter()
            .filter(|(name, _)| !crate::model::is_buffer(name))
            .map(|(_, array)| array.data.len())
            .sum()
    }

    /// The model for inference: without autodiff, running statistics settled.
    pub fn inference_model(&self) -> SelfClassifier {
        self.model().valid()
    }
}
