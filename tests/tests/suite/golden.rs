//! A whole model whose weights and images come from an integer hash, beside what another implementation made of them.
//!
//! A fixture is two files: `NAME.json` names the parameters in the order in which they take from the hash, and may say
//! more; `NAME.safetensors` holds the numbers.

use crate::fixture::{Arrays, arrays, hash_images, hash_weights, json, values};
use crate::parity::{FloatNoise, Tolerance};
use crate::runner::Case;
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Tensor};
use selfcls_core::config::{LossConfig, ModelConfig};
use selfcls_core::model::{Context, NamePath, Noise, SelfClassifier, ViewBatch, with_state_dict};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;

/// What a fixture says in words; `M` is what one kind of fixture says more.
#[derive(Deserialize)]
struct Description<M> {
    params: usize,
    state_dict_keys: Vec<(String, Vec<usize>)>,
    #[serde(flatten)]
    more: M,
}

/// Of a fixture that says no more.
#[derive(Deserialize)]
pub(crate) struct Nothing {}

/// The model on a case's backend, with what is expected of it.
pub(crate) struct Golden<'a, M> {
    pub(crate) case: &'a Case,
    pub(crate) more: M,
    pub(crate) arrays: Arrays,
    pub(crate) noise: FloatNoise,
    /// With autodiff.
    pub(crate) model: SelfClassifier,
    /// With autodiff.
    device: Device,
    batch: usize,
}

/// What a training step gives.
pub(crate) struct Step {
    /// `[views, batch, classes]` of each head.
    pub(crate) logits: Vec<Tensor<3>>,
    /// Of each parameter, by its name in checkpoints.
    pub(crate) gradients: BTreeMap<String, Vec<f32>>,
}

impl<'a, M: DeserializeOwned> Golden<'a, M> {
    /// The fixture `name`, whose images come in batches of `batch`.
    pub(crate) fn new(case: &'a Case, name: &str, batch: usize, config: &ModelConfig) -> Self {
        let description: Description<M> = json(name);
        let device = case.runtime.device.clone().autodiff();
        let weights = hash_weights(&description.state_dict_keys);
        let trained = weights
            .iter()
            .filter(|(name, _)| !name.contains("running_"));
        let parameters: usize = trained.map(|(_, array)| array.data.len()).sum();
        assert_eq!(parameters, description.params);
        Self {
            case,
            more: description.more,
            arrays: arrays(name),
            noise: FloatNoise::of(name),
            model: with_state_dict(config.init(&device, 0), &weights).expect("the same model"),
            device,
            batch,
        }
    }

    /// The images of a view, with autodiff.
    pub(crate) fn view(&self, index: u64, size: usize) -> Tensor<4> {
        hash_images(index, self.batch, size, &self.device)
    }

    /// The images of the first view, without.
    pub(crate) fn images(&self, size: usize) -> Tensor<4> {
        hash_images(0, self.batch, size, &self.case.runtime.device)
    }

    pub(crate) fn training(&self) -> Context<'_> {
        Context::training(&*self.case.runtime.kernels, Noise::default())
    }

    pub(crate) fn evaluation(&self) -> Context<'_> {
        Context::evaluation(&*self.case.runtime.kernels)
    }

    /// Checks that `actual` is the fixture's array `name`.
    #[track_caller]
    pub(crate) fn close<const D: usize>(
        &self,
        name: &str,
        actual: Tensor<D>,
        tolerance: impl Into<Tolerance>,
    ) {
        let expected = &self.arrays.float(name).data;
        self.case.close(name, &values(actual), expected, tolerance);
    }

    /// Checks features, embeddings and logits of the first view at `size`, with running statistics.
    pub(crate) fn evaluate(&self, size: usize) {
        let model = self.model.valid();
        let (context, tolerance) = (self.evaluation(), self.noise.evaluation());
        let features = model.backbone.forward(self.images(size), &context);
        self.close(&format!("backbone.{size}"), features.clone(), tolerance);
        let embeddings = model.mlp_head.forward(features, &context);
        self.close(&format!("embd.{size}"), embeddings.clone(), tolerance);
        for (head, logits) in model.logits(embeddings).into_iter().enumerate() {
            self.close(&format!("logits.{head}.{size}"), logits, tolerance);
        }
    }

    /// A step on two views of the first size and two of the second, of which embeddings and loss are checked.
    pub(crate) fn step(&self, [large, small]: [usize; 2]) -> Step {
        let views = ViewBatch {
            global: Tensor::cat(vec![self.view(0, large), self.view(1, large)], 0),
            local: Some(Tensor::cat(
                vec![self.view(2, small), self.view(3, small)],
                0,
            )),
        };
        let embeddings = self.model.embed(views, &self.training());
        self.close("mv.embds", embeddings.clone(), self.noise.embeddings());
        let logits = self.model.logits(embeddings).into_iter();
        let logits: Vec<Tensor<3>> = logits
            .map(|logits| {
                let classes = logits.dims()[1];
                logits.reshape([4, self.batch, classes])
            })
            .collect();
        let loss = LossConfig::default().init().forward(&logits, 2);
        let loss = loss.expect("a loss");
        let gradients = loss.backward();
        self.close("mv.loss", loss, self.noise.loss());
        Step {
            logits,
            gradients: by_name(&self.model, &gradients),
        }
    }
}

/// The least that an error of a gradient counts against, where `norms` are those of all gradients: a thousandth of the
/// largest. A bias in front of batch normalisation has no gradient but rounding.
pub(crate) fn least_scale(norms: impl Iterator<Item = f64>) -> f64 {
    1e-3 * norms.fold(0.0, f64::max)
}

/// The Euclidean norm.
pub(crate) fn l2(values: &[f32]) -> f64 {
    let squares = values.iter().map(|&x| f64::from(x).powi(2));
    squares.sum::<f64>().sqrt()
}

/// The gradients of a model's parameters under their names in checkpoints.
fn by_name(model: &SelfClassifier, gradients: &Gradients) -> BTreeMap<String, Vec<f32>> {
    struct Collector<'a> {
        path: NamePath,
        gradients: &'a Gradients,
        found: BTreeMap<String, Vec<f32>>,
    }
    impl ModuleVisitor for Collector<'_> {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.path.enter(name, container);
        }
        fn exit_module(&mut self, _name: &str, _container: &str) {
            self.path.exit();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(gradient) = param.val().grad(self.gradients) {
                self.found.insert(self.path.name(), values(gradient));
            }
        }
    }
    let mut collector = Collector {
        path: NamePath::default(),
        gradients,
        found: BTreeMap::new(),
    };
    model.visit(&mut collector);
    collector.found
}
