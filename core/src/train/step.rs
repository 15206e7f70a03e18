//! One training step.

use super::ranks::Layout;
use super::recompute;
use crate::collective::Collective;
use crate::config::Config;
use crate::loss::{Groups, Loss};
use crate::loss_scale::LossScale;
use crate::model::{
    Context, Noise, SelfClassifier, ViewBatch, with_state_dict, with_weight_layout,
};
use crate::optim::{Exchange, Optimizer, ParamGradients};
use crate::queue::Queue;
use crate::runtime::Runtime;
use crate::weights::StateDict;
use crate::{Error, Result};
use burn::module::Module;
use burn::tensor::{Int, Tensor};
use std::sync::Arc;

/// Everything that learns: the model, its optimiser and the queue.
#[derive(Debug)]
pub struct Learner {
    /// None only while the optimiser rebuilds it.
    model: Option<SelfClassifier>,
    optimizer: Optimizer,
    queue: Option<Queue>,
    replace: bool,
    loss: Loss,
    /// Samples that the loss compares with each other; 0: all of the batch.
    group: usize,
    /// The ranks that share such a group, where it takes several but not all.
    sharing: Option<Arc<dyn Collective>>,
    loss_scale: Option<LossScale>,
    runtime: Runtime,
    /// Where gradients go among several ranks.
    exchange: Option<Arc<Exchange>>,
    /// Samples of a step over all ranks.
    batch_size: usize,
    recompute: bool,
    seed: u64,
    /// Steps made, from which random layers draw.
    steps: u64,
}

/// A batch of views on the device, or a part of one, or a rank's share of that; without autodiff.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The views.
    pub views: ViewBatch,
    /// Sample indices, `[batch]`.
    pub indices: Tensor<1, Int>,
    /// Labels, `[batch]`; -1 where unknown. They are never trained on.
    pub labels: Tensor<1, Int>,
}

/// What a step found, still on the device. Of several ranks each finds what its samples contribute.
#[derive(Debug)]
pub struct StepOutput {
    /// The loss, `[1]`: the sum over ranks of what is here.
    pub loss: Tensor<1>,
    /// Fraction of neighbours with the sample's own label, `[1]`, once the queue is full: likewise a sum.
    pub neighbour_accuracy: Option<Tensor<1>>,
    /// Class of the first head for the second view of each sample of this rank, `[own batch]`.
    pub assigned: Tensor<1, Int>,
}

/// The value of a one-element tensor, once the device has computed it.
fn scalar(tensor: Tensor<1>) -> Result<f64> {
    tensor
        .try_into_scalar::<f32>()
        .map(f64::from)
        .map_err(|error| Error::Invalid(format!("the device did not return a value: {error:?}")))
}

/// A batch's embeddings after the queue was asked.
struct Met {
    /// `[views, batch, dim]`.
    embeddings: Tensor<3>,
    /// Whether view 0 is that of the neighbours.
    replaced: bool,
    /// Neighbours with the sample's own label as a fraction of the batch, `[1]`, once the queue is full.
    accuracy: Option<Tensor<1>>,
}

/// What the heads say of a batch's embeddings.
struct Comparison {
    /// What this rank's samples contribute to the loss, `[1]`.
    loss: Tensor<1>,
    /// Its gradient with respect to the embeddings, `[views, batch, dim]`.
    embeddings: Tensor<3>,
    /// Its gradients with respect to the classifiers.
    classifiers: ParamGradients,
    /// Class of the first head for each sample's second view, `[batch]`.
    assigned: Tensor<1, Int>,
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
        let peers = &runtime.collective;
        let exchange = (peers.world_size() > 1).then(|| {
            let values = config.train.bucket_mib * 1024.0 * 1024.0 / size_of::<f32>() as f64;
            Arc::new(Exchange::new(Arc::clone(peers), values as usize))
        });
        Self {
            model: Some(with_weight_layout(model, &*runtime.kernels)),
            exchange,
            optimizer: config.optim.init(),
            queue,
            replace: config.queue.replace,
            loss: config.loss.init(),
            group: config.loss.group,
            sharing: None,
            loss_scale: LossScale::for_precision(runtime.kernels.precision()),
            runtime,
            batch_size: config.train.batch_size,
            recompute: config.train.recompute,
            seed: config.train.seed,
            steps: 0,
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

    /// Replaces model, optimiser history and queue by those after `steps` steps.
    pub fn replace(
        &mut self,
        model: SelfClassifier,
        optimizer: Optimizer,
        queue: Option<Queue>,
        steps: usize,
    ) {
        self.model = Some(with_weight_layout(model, &*self.runtime.kernels));
        self.optimizer = optimizer;
        self.queue = queue;
        self.steps = steps as u64;
    }

    /// Replaces parameters and running statistics, and nothing else.
    ///
    /// # Errors
    /// If they do not fit the model.
    pub fn set_weights(&mut self, state: &StateDict) -> Result<()> {
        let model = with_state_dict(self.model().clone(), state)?;
        self.model = Some(with_weight_layout(model, &*self.runtime.kernels));
        Ok(())
    }

    /// One step with learning rate `lr` on a batch in one part: embed all views, replace view 0 by its
    /// neighbours, classify, compare, and follow the gradient. Where the loss is scaled and a gradient
    /// overflows, the parameters stay as they are and the scale is lowered.
    ///
    /// # Errors
    /// If the views do not belong together.
    pub fn step(&mut self, batch: Batch, lr: f64) -> Result<StepOutput> {
        self.step_in_parts(&[batch], lr)
    }

    /// One step with learning rate `lr` on a batch in several parts, see [`train`](crate::train). Of several
    /// ranks each brings its share of every part.
    ///
    /// # Errors
    /// If there are no parts, the views do not belong together, or a peer fails.
    pub fn step_in_parts(&mut self, parts: &[Batch], lr: f64) -> Result<StepOutput> {
        let (output, grads) = self.gradients(parts)?;
        self.steps += 1;
        if let Some(scale) = self.loss_scale {
            let finite = match grads.probe(&*self.runtime.kernels) {
                Some(probe) => scalar(probe)? == 0.0,
                None => true,
            };
            self.loss_scale = Some(scale.after(finite));
            if !finite {
                return Ok(output);
            }
        }
        self.apply(grads, lr);
        Ok(output)
    }

    /// The optimiser's part of a step.
    pub fn apply(&mut self, grads: ParamGradients, lr: f64) {
        let (model, kernels) = (self.model.take(), &*self.runtime.kernels);
        self.model = model.map(|model| self.optimizer.apply(lr, model, grads, kernels));
    }

    /// The forward and backward passes of a step, with their effects on running statistics and queue. The
    /// gradients are those of the whole batch, on every rank.
    ///
    /// # Errors
    /// If there are no parts, the views do not belong together, or a peer fails.
    pub fn gradients(&mut self, parts: &[Batch]) -> Result<(StepOutput, ParamGradients)> {
        let peers = Arc::clone(&self.runtime.collective);
        let layout = Layout::new(&peers, self.batch_size, parts)?;
        let groups = layout.groups(self.group, &mut self.sharing)?;
        // Only what goes back through half precision needs the scale, and loses it again right after.
        let scale = self.loss_scale.map(|scale| scale.factor);
        if let Some(exchange) = &self.exchange {
            exchange.begin(self.model(), scale.map(|scale| 1.0 / scale));
            // Of several parts, all but the last leave their gradients unfinished.
            exchange.begin_pass(parts.len() == 1);
        }
        let (mut graph, mut kept) = (None, None);
        let mut embedded = Vec::with_capacity(parts.len());
        if let ([only], true) = (parts, self.recompute) {
            let context = self.context(self.noise(0, &layout));
            let model = self.model().valid();
            let (embeddings, inputs) = recompute::embed(&model, only.views.clone(), &context);
            embedded.push(embeddings);
            kept = Some(inputs);
        } else if let [only] = parts {
            let embeddings = self.embed(self.model(), only, self.noise(0, &layout));
            embedded.push(embeddings.clone().without_autodiff());
            graph = Some(embeddings);
        } else {
            // Its running statistics are its own: those of the model wait for the second pass.
            let model = self.model().valid();
            let pass = |(index, part)| self.embed(&model, part, self.noise(index, &layout));
            embedded.extend(parts.iter().enumerate().map(pass));
        }
        let embeddings = join(embedded, parts)?;
        let ints = |of: fn(&Batch) -> &Tensor<1, Int>| {
            Tensor::cat(parts.iter().map(|part| of(part).clone()).collect(), 0)
        };
        let (indices, labels) = (ints(|part| &part.indices), ints(|part| &part.labels));
        let met = self.with_neighbours(embeddings, indices, labels, &layout)?;

        let compared = self.compare(met.embeddings, &groups)?;
        let mut grads = ParamGradients::default();
        match &self.exchange {
            Some(exchange) => exchange.send(compared.classifiers),
            None => grads = compared.classifiers,
        }
        let [views, batch, dim] = compared.embeddings.dims();
        let mut gradients = compared.embeddings;
        if met.replaced {
            // Neighbours are constants: what pulls at them does not pull at view 0.
            let zero = Tensor::zeros([1, batch, dim], &gradients.device());
            gradients = gradients.slice_assign([0..1, 0..batch, 0..dim], zero);
        }
        let mut start = 0;
        for (index, part) in parts.iter().enumerate() {
            let end = start + part.indices.dims()[0];
            let gradient = gradients.clone().slice([0..views, start..end]);
            let gradient = gradient.reshape([views * (end - start), dim]);
            let gradient = match scale {
                Some(scale) => gradient * scale,
                None => gradient,
            };
            let noise = self.noise(index, &layout);
            let mut of_part = if let Some(kept) = kept.take() {
                recompute::backward(self.model(), kept, gradient, &self.context(noise))
            } else {
                let embeddings = match graph.take() {
                    Some(embeddings) => embeddings,
                    None => {
                        if let Some(exchange) = &self.exchange {
                            exchange.begin_pass(index + 1 == parts.len());
                        }
                        self.embed(self.model(), part, noise)
                    }
                };
                let mut grads = (embeddings * gradient).sum().backward();
                ParamGradients::take(self.model(), &mut grads)
            };
            if let Some(scale) = scale {
                let one = Tensor::ones([1], &self.runtime.device);
                of_part.scale(one.mul_scalar(1.0 / scale), &*self.runtime.kernels);
            }
            grads.add(of_part);
            start = end;
        }
        if let Some(exchange) = &self.exchange {
            grads = exchange.finish(grads)?;
        }
        // What failed in the middle of a pass could not say so there.
        peers.check()?;
        let output = StepOutput {
            loss: compared.loss,
            neighbour_accuracy: met.accuracy,
            assigned: compared.assigned,
        };
        Ok((output, grads))
    }

    /// Unit embeddings of all views of a part by `model`, `[views * part, dim]`, in training mode.
    fn embed(&self, model: &SelfClassifier, part: &Batch, noise: Noise) -> Tensor<2> {
        model.embed(part.views.clone(), &self.context(noise))
    }

    fn context(&self, noise: Noise) -> Context<'_> {
        Context::training(&*self.runtime.kernels, noise).with_exchange(self.exchange.as_ref())
    }

    /// The random numbers of the part with this number: the same in both passes, and whichever rank a
    /// sample is on.
    fn noise(&self, index: usize, layout: &Layout<'_>) -> Noise {
        // Invariant: parts stay far below 2^32.
        let noise = Noise::new(self.seed, self.steps, index as u32);
        match layout.own_share() {
            Some((own, total)) => noise.for_share(&own, total),
            None => noise,
        }
    }

    /// Logits, loss and gradients of all heads, one after the other: the memory is that of the largest.
    fn compare(&self, embeddings: Tensor<3>, groups: &Groups) -> Result<Comparison> {
        let shape @ [views, own, dim] = embeddings.dims();
        let leaf = embeddings
            .reshape([views * own, dim])
            .autodiff()
            .require_grad();
        let heads = self.model().classifiers.len();
        let mut classifiers = ParamGradients::default();
        let mut total: Option<(Tensor<1>, Tensor<2>)> = None;
        let mut assigned = None;
        for (number, classifier) in self.model().classifiers.iter().enumerate() {
            let logits = classifier.forward(leaf.clone());
            let classes = logits.dims()[1];
            let logits = logits.reshape([views, own, classes]);
            if assigned.is_none() {
                let second = logits.clone().without_autodiff().slice(1..2);
                assigned = Some(second.squeeze_dim::<2>(0).argmax(1).squeeze_dim(1));
            }
            let (loss, gradient) =
                self.loss
                    .value_and_gradient_in_groups(logits.clone(), GLOBALS, groups)?;
            let loss = loss / heads as f64;
            let pull = (logits * gradient).sum() / heads as f64;
            let mut grads = pull.backward();
            let path = ["classifiers", &number.to_string()];
            classifiers.add(ParamGradients::take_part(&path, classifier, &mut grads));
            // Invariant: logits depend on the embeddings, so there is a gradient.
            let gradient = leaf.grad_remove(&mut grads).expect("a gradient");
            total = Some(match total {
                Some((sum, gradients)) => (sum + loss, gradients + gradient),
                None => (loss, gradient),
            });
        }
        match (total, assigned) {
            (Some((loss, gradient)), Some(assigned)) => Ok(Comparison {
                loss,
                embeddings: gradient.reshape(shape),
                classifiers,
                assigned,
            }),
            _ => Err(Error::Invalid("the model has no classifier".into())),
        }
    }

    /// Looks up the neighbours of view 0 of `[views, batch, dim]`, puts them in its place, and pushes
    /// that of all ranks into the queue. The look-up comes first, so a batch never finds itself.
    fn with_neighbours(
        &mut self,
        embeddings: Tensor<3>,
        indices: Tensor<1, Int>,
        labels: Tensor<1, Int>,
        layout: &Layout<'_>,
    ) -> Result<Met> {
        let mut met = Met {
            embeddings,
            replaced: false,
            accuracy: None,
        };
        let Some(queue) = &mut self.queue else {
            return Ok(met);
        };
        let views = met.embeddings.dims()[0];
        let first = met.embeddings.clone().slice(0..1).squeeze_dim::<2>(0);
        if queue.is_full() {
            let neighbours = queue.nearest(first.clone(), indices.clone());
            let same = neighbours.labels.equal(labels.clone()).float();
            met.accuracy = Some(same.sum() / layout.batch as f64);
            met.replaced = self.replace;
            if self.replace {
                let rest = met.embeddings.slice(1..views);
                met.embeddings = Tensor::cat(vec![neighbours.embeddings.unsqueeze_dim(0), rest], 0);
            }
        }
        let kernels = &*self.runtime.kernels;
        queue.push(
            layout.gather(first, kernels)?,
            layout.gather_int(indices, kernels)?,
            layout.gather_int(labels, kernels)?,
        );
        Ok(met)
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

/// The embeddings of the parts, `[views * part, dim]` each, as `[views, batch, dim]`.
fn join(embedded: Vec<Tensor<2>>, parts: &[Batch]) -> Result<Tensor<3>> {
    let mut joined: Vec<Tensor<3>> = Vec::with_capacity(parts.len());
    for (embeddings, part) in embedded.into_iter().zip(parts) {
        let ([rows, dim], samples) = (embeddings.dims(), part.indices.dims()[0]);
        let views = rows.checked_div(samples).unwrap_or_default();
        let expected = joined.first().map_or(views, |first| first.dims()[0]);
        if samples == 0 || rows != views * samples || views != expected {
            return Err(Error::Invalid(format!(
                "{rows} views cannot be shared among {samples} samples"
            )));
        }
        joined.push(embeddings.reshape([views, samples, dim]));
    }
    Ok(Tensor::cat(joined, 1))
}
