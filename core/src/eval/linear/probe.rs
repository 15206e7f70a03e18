//! A linear layer on a backbone's features, and one step of its training.

use super::LinearConfig;
use super::feed::Batch;
use crate::config::HeadInit;
use crate::model::{Backbone, Context, Init, Linear, state_dict, to_array, with_state_dict};
use crate::optim::Optimizer;
use crate::runtime::Runtime;
use crate::weights::StateDict;
use crate::{Error, Result};
use burn::module::Module;
use burn::tensor::activation::log_softmax;
use burn::tensor::{FloatDType, Tensor, TensorData};

/// What is trained: the layer alone on given features, or the backbone below it too.
#[derive(Module, Debug)]
pub struct Probe {
    /// None where the inputs are features already.
    backbone: Option<Backbone>,
    /// Features to logits, `[classes, width]`.
    fc: Linear,
}

impl Probe {
    /// A layer on features of `width` values, with the authors' initial weights N(0, 0.01^2), bias 0.
    pub fn frozen(runtime: &Runtime, width: usize, classes: usize, seed: u64) -> Self {
        let device = runtime.device.clone().autodiff();
        let mut init = Init::new(&device, seed);
        Self {
            backbone: None,
            fc: Linear {
                weight: init.normal([classes, width], 0.01),
                bias: init.constant([classes], 0.0),
            },
        }
    }

    /// A layer on `backbone`, which is on the autodiff device and is trained with it, with PyTorch's default initial
    /// weights, as the authors' `--no-freeze`.
    pub fn fine_tuning(
        runtime: &Runtime,
        backbone: Backbone,
        width: usize,
        classes: usize,
        seed: u64,
    ) -> Self {
        let device = runtime.device.clone().autodiff();
        let mut init = Init::new(&device, seed);
        Self {
            backbone: Some(backbone),
            fc: Linear::new(&mut init, HeadInit::Uniform, width, classes),
        }
    }

    /// Parameters and buffers, by name: `fc.weight` and, where it is trained, `backbone.conv1.weight`.
    pub fn weights(&self) -> StateDict {
        state_dict(self)
    }

    /// Logits of a batch, `[samples, classes]`. Batch normalisation uses its running statistics in training too (theirs:
    /// `set_bn_eval`), frozen or not.
    fn logits(&self, batch: &Batch, runtime: &Runtime) -> Tensor<2> {
        let context = Context::evaluation(&*runtime.kernels);
        let (samples, values) = (batch.labels.len(), batch.inputs.len());
        let device = &runtime.device;
        let inputs = batch.inputs.clone();
        let features = match &self.backbone {
            None => {
                let data = TensorData::new(inputs, [samples, values / samples]);
                Tensor::<2>::from_data(data, device)
            }
            Some(backbone) => {
                let side = ((values / (3 * samples)) as f64).sqrt() as usize;
                let data = TensorData::new(inputs, [samples, 3, side, side]);
                backbone.forward(Tensor::<4>::from_data(data, device), &context)
            }
        };
        self.fc.forward(features, &context).cast(FloatDType::F32)
    }
}

/// A probe in training.
pub(super) struct Learner {
    /// None only while the optimiser rebuilds it.
    probe: Option<Probe>,
    optimizer: Optimizer,
    runtime: Runtime,
    classes: usize,
}

impl Learner {
    pub(super) fn new(
        config: &LinearConfig,
        probe: Probe,
        runtime: Runtime,
        classes: usize,
    ) -> Self {
        Self {
            probe: Some(probe),
            optimizer: config.optim().init(),
            runtime,
            classes,
        }
    }

    /// Goes on from the arrays of [`weights`](Self::weights) and of the optimiser.
    pub(super) fn restore(
        &mut self,
        weights: &StateDict,
        optimizer: crate::checkpoint::OptimizerState,
    ) -> Result<()> {
        if let Some(probe) = self.probe.take() {
            self.probe = Some(with_state_dict(probe, weights)?);
        }
        self.optimizer.restore(optimizer, &self.runtime.device)
    }

    /// Parameters and buffers, by name.
    pub(super) fn weights(&self) -> StateDict {
        self.probe().weights()
    }

    pub(super) fn optimizer(&self) -> &Optimizer {
        &self.optimizer
    }

    fn probe(&self) -> &Probe {
        // Invariant: `step` puts the probe back before it returns.
        self.probe
            .as_ref()
            .expect("the probe is in its place between steps")
    }

    /// One step of cross-entropy; the loss of before, summed over the samples.
    pub(super) fn step(&mut self, batch: &Batch, lr: f64) -> Result<f64> {
        let samples = batch.labels.len();
        let logits = self.probe().logits(batch, &self.runtime);
        let mut hot = vec![0.0f32; samples * self.classes];
        for (row, &label) in hot.chunks_exact_mut(self.classes).zip(&batch.labels) {
            row[label] = 1.0;
        }
        let hot = TensorData::new(hot, [samples, self.classes]);
        let hot = Tensor::<2>::from_data(hot, &self.runtime.device);
        let loss = -(log_softmax(logits, 1) * hot).sum() / samples as f64;
        let mut grads = loss.backward();
        let value = loss.without_autodiff().try_into_scalar::<f32>();
        let value = value.map_err(|error| {
            Error::Invalid(format!("the device did not return a value: {error:?}"))
        })?;
        if !value.is_finite() {
            return Err(Error::Diverged(format!(
                "the loss became {value} at learning rate {lr}; lower --lr"
            )));
        }
        if let Some(probe) = self.probe.take() {
            let kernels = &*self.runtime.kernels;
            self.probe = Some(self.optimizer.step(lr, probe, &mut grads, kernels));
        }
        Ok(f64::from(value) * samples as f64)
    }

    /// The probe for answers only.
    pub(super) fn frozen(&self) -> Answers<'_> {
        Answers {
            probe: self.probe().valid(),
            runtime: &self.runtime,
        }
    }
}

/// A probe that is asked.
pub(super) struct Answers<'a> {
    probe: Probe,
    runtime: &'a Runtime,
}

impl Answers<'_> {
    /// `[samples, classes]`.
    pub(super) fn logits(&self, batch: &Batch) -> Vec<f32> {
        to_array(self.probe.logits(batch, self.runtime)).data
    }
}
