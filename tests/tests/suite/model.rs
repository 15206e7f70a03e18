//! Whole models whose weights and inputs come from an integer hash.
//!
//! Tolerances are eight times the float noise between the authors' own f32 and f64 runs (`noise.json`):
//! batch normalisation over four samples amplifies rounding, in gradients most. The ResNet-50 of width 4
//! is torchvision's (v1.5) under the authors' head; its noise was found by the same comparison.

use crate::fixture::{Arrays, arrays, hash_images, hash_weights, json, values};
use crate::parity::{FloatNoise, Tolerance};
use crate::runner::Case;
use burn::module::Module;
use burn::tensor::{Device, Gradients, Tensor};
use selfcls_core::config::{Arch, LossConfig, ModelConfig};
use selfcls_core::model::{Context, Noise, SelfClassifier, ViewBatch, state_dict, with_state_dict};
use serde::Deserialize;
use std::collections::BTreeMap;

const BATCH: usize = 4;

#[derive(Deserialize)]
struct Description {
    params: usize,
    state_dict_keys: Vec<(String, Vec<usize>)>,
    grad_l2: BTreeMap<String, f64>,
    running_l2_after_mv: BTreeMap<String, f64>,
}

struct Golden<'a> {
    case: &'a Case,
    description: Description,
    arrays: Arrays,
    noise: FloatNoise,
    model: SelfClassifier,
    device: Device,
}

impl<'a> Golden<'a> {
    fn new(case: &'a Case, name: &str, config: &ModelConfig) -> Self {
        let description: Description = json(name);
        let device = case.runtime.device.clone().autodiff();
        let weights = hash_weights(&description.state_dict_keys);
        let model = with_state_dict(config.init(&device, 0), &weights).expect("the same model");
        let parameters: usize = weights
            .iter()
            .filter(|(name, _)| !name.contains("running_"))
            .map(|(_, array)| array.data.len())
            .sum();
        assert_eq!(parameters, description.params);
        Self {
            case,
            description,
            arrays: arrays(name),
            noise: FloatNoise::of(name),
            model,
            device,
        }
    }

    fn context(&self, training: bool) -> Context<'_> {
        let kernels = &*self.case.runtime.kernels;
        if training {
            Context::training(kernels, Noise::default())
        } else {
            Context::evaluation(kernels)
        }
    }

    fn close<const D: usize>(
        &self,
        name: &str,
        actual: Tensor<D>,
        tolerance: impl Into<Tolerance>,
    ) {
        let expected = &self.arrays.float(name).data;
        self.case.close(name, &values(actual), expected, tolerance);
    }

    fn evaluation(&self) {
        let model = self.model.valid();
        let images = hash_images(0, BATCH, 64, &self.case.runtime.device);
        let context = self.context(false);
        let features = model.backbone.forward(images.clone(), &context);
        self.close("eval.backbone", features, self.noise.evaluation());
        let embeddings = model.embed_images(images, &context);
        self.close("eval.embd", embeddings.clone(), self.noise.evaluation());
        let logits = model.logits(embeddings);
        for (head, logits) in logits.into_iter().enumerate() {
            let name = format!("eval.logits.{head}");
            self.close(&name, logits, self.noise.evaluation());
        }
    }

    fn training(&self) {
        let images = hash_images(0, BATCH, 64, &self.device);
        let embeddings = self.model.embed_images(images, &self.context(true));
        self.close("train.embd", embeddings, self.noise.embeddings());
        let state = state_dict(&self.model);
        for name in self
            .arrays
            .names()
            .filter(|name| name.starts_with("train.after."))
        {
            let actual = &state[name.trim_start_matches("train.after.")].data;
            self.case
                .close(name, actual, &self.arrays.float(name).data, 5e-6);
        }
    }

    /// Two views at 64 pixels, two at 32: embeddings, logits, loss and gradients.
    fn multi_view(&self) {
        let view = |index: u64, size| hash_images(index, BATCH, size, &self.device);
        let views = ViewBatch {
            global: Tensor::cat(vec![view(0, 64), view(1, 64)], 0),
            local: Some(Tensor::cat(vec![view(2, 32), view(3, 32)], 0)),
        };
        let embeddings = self.model.embed(views, &self.context(true));
        self.close("mv.embds", embeddings.clone(), self.noise.embeddings());
        let logits: Vec<Tensor<3>> = self
            .model
            .logits(embeddings)
            .into_iter()
            .map(|logits| {
                let classes = logits.dims()[1];
                logits.reshape([4, BATCH, classes])
            })
            .collect();
        for (head, logits) in logits.iter().enumerate() {
            let name = format!("mv.logits.{head}");
            self.close(&name, logits.clone(), self.noise.logits());
        }
        let loss = LossConfig::default()
            .init()
            .forward(&logits, 2)
            .expect("a loss");
        let grads = loss.backward();
        self.close("mv.loss", loss, self.noise.loss());
        self.gradients(&grads);
        let state = state_dict(&self.model);
        for (name, &expected) in &self.description.running_l2_after_mv {
            let actual = l2(&state[name].data);
            self.case
                .close_scalar(&format!("|{name}|"), actual / expected as f32, 1.0, 1e-5);
        }
    }

    fn gradients(&self, grads: &Gradients) {
        let tolerance = self.noise.gradients();
        let found = gradients_by_name(&self.model, grads);
        assert_eq!(
            found.keys().collect::<Vec<_>>(),
            self.description.grad_l2.keys().collect::<Vec<_>>(),
            "every parameter has a gradient"
        );
        // A bias in front of batch normalisation has no gradient but rounding: below a thousandth of the
        // largest norm the difference counts against that instead of the norm itself.
        let largest = self
            .description
            .grad_l2
            .values()
            .fold(0.0_f64, |a, &b| a.max(b));
        for (name, &norm) in &self.description.grad_l2 {
            let scale = norm.max(1e-3 * largest);
            let difference = (f64::from(l2(&found[name])) - norm) / scale;
            let what = format!("|gradient of {name}|");
            self.case.close_to_zero(&what, difference, tolerance);
        }
        for name in self
            .arrays
            .names()
            .filter(|name| name.starts_with("mv.grad."))
        {
            let expected = &self.arrays.float(name).data;
            // Of a large one every n-th value is kept.
            let parameter = name.trim_start_matches("mv.grad.");
            let (parameter, every) = parameter.split_once(".every").unwrap_or((parameter, "1"));
            let every = every.parse().expect("a number");
            let actual: Vec<f32> = found[parameter].iter().copied().step_by(every).collect();
            assert_eq!(actual.len(), expected.len(), "{name}");
            let difference: Vec<f32> = actual.iter().zip(expected).map(|(a, e)| a - e).collect();
            let relative = l2(&difference) / l2(expected);
            self.case.close_to_zero(name, relative.into(), tolerance);
        }
    }
}

fn l2(values: &[f32]) -> f32 {
    values
        .iter()
        .map(|&x| f64::from(x).powi(2))
        .sum::<f64>()
        .sqrt() as f32
}

/// The gradients of a model's parameters under their checkpoint names.
pub(crate) fn gradients_by_name(
    model: &SelfClassifier,
    grads: &Gradients,
) -> BTreeMap<String, Vec<f32>> {
    use burn::module::{ModuleVisitor, Param};
    use selfcls_core::model::NamePath;
    struct Collector<'a> {
        path: NamePath,
        grads: &'a Gradients,
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
            if let Some(grad) = param.val().grad(self.grads) {
                self.found.insert(self.path.name(), values(grad));
            }
        }
    }
    let mut collector = Collector {
        path: NamePath::default(),
        grads,
        found: BTreeMap::new(),
    };
    model.visit(&mut collector);
    collector.found
}

fn tiny() -> ModelConfig {
    ModelConfig {
        width: 4,
        hidden_dim: 16,
        dim: 8,
        heads: vec![10, 20],
        ..Default::default()
    }
}

fn resnet18() -> ModelConfig {
    ModelConfig {
        hidden_dim: 512,
        dim: 128,
        heads: vec![10, 20],
        ..Default::default()
    }
}

fn tiny_resnet50() -> ModelConfig {
    ModelConfig {
        backbone: Arch::ResNet50,
        ..tiny()
    }
}

/// Features, embeddings and logits with running statistics.
pub(crate) fn tiny_resnet_in_evaluation(case: &Case) {
    Golden::new(case, "tiny_rn18w4", &tiny()).evaluation();
}

/// Embeddings with the batch's statistics, and the running statistics afterwards.
pub(crate) fn tiny_resnet_in_training(case: &Case) {
    Golden::new(case, "tiny_rn18w4", &tiny()).training();
}

/// A multi-crop step with all its gradients.
pub(crate) fn tiny_resnet_multi_view_step(case: &Case) {
    Golden::new(case, "tiny_rn18w4", &tiny()).multi_view();
}

/// As the tiny one.
pub(crate) fn resnet18_in_evaluation(case: &Case) {
    Golden::new(case, "resnet18", &resnet18()).evaluation();
}

/// As the tiny one.
pub(crate) fn resnet18_in_training(case: &Case) {
    Golden::new(case, "resnet18", &resnet18()).training();
}

/// As the tiny one.
pub(crate) fn resnet18_multi_view_step(case: &Case) {
    Golden::new(case, "resnet18", &resnet18()).multi_view();
}

/// Bottleneck blocks: as the tiny one.
pub(crate) fn tiny_resnet50_in_evaluation(case: &Case) {
    Golden::new(case, "resnet50w4", &tiny_resnet50()).evaluation();
}

/// As the tiny one.
pub(crate) fn tiny_resnet50_multi_view_step(case: &Case) {
    Golden::new(case, "resnet50w4", &tiny_resnet50()).multi_view();
}

/// Bottleneck blocks in groups: every fourth feature of torchvision's `resnext50_32x4d` at width 32.
pub(crate) fn resnext_in_evaluation(case: &Case) {
    let config = ModelConfig {
        backbone: Arch::ResNext50,
        width: 32,
        hidden_dim: 1,
        dim: 1,
        heads: vec![2],
        ..Default::default()
    };
    let device = &case.runtime.device;
    let model = config.init(device, 0);
    let weights = hash_weights(&names_in_order(&model));
    let model = with_state_dict(model, &weights).expect("the same model");
    let context = Context::evaluation(&*case.runtime.kernels);
    let features = model
        .backbone
        .forward(hash_images(0, 2, 64, device), &context);
    let kept: Vec<f32> = values(features).into_iter().step_by(4).collect();
    let expected = arrays("resnext50w32");
    case.close(
        "features",
        &kept,
        &expected.float("eval.backbone").data,
        5e-6,
    );
}

/// Names and shapes in the order in which PyTorch registers them, batch normalisation's counters included.
fn names_in_order(model: &SelfClassifier) -> Vec<(String, Vec<usize>)> {
    use burn::module::{ModuleVisitor, Param};
    use selfcls_core::model::NamePath;
    #[derive(Default)]
    struct Names {
        path: NamePath,
        found: Vec<(String, Vec<usize>)>,
    }
    impl ModuleVisitor for Names {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.path.enter(name, container);
        }
        fn exit_module(&mut self, _name: &str, _container: &str) {
            self.path.exit();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let name = self.path.name();
            let counter = name
                .strip_suffix("running_var")
                .map(|path| (format!("{path}num_batches_tracked"), Vec::new()));
            self.found.push((name, param.lazy_shape().to_vec()));
            self.found.extend(counter);
        }
    }
    let mut names = Names::default();
    model.visit(&mut names);
    names.found
}
