//! Whole models whose weights and inputs come from an integer hash.
//!
//! Tolerances are eight times the float noise between the authors' own f32 and f64 runs (`noise.json`):
//! batch normalisation over four samples amplifies rounding, in gradients most. The ResNet-50 of width 4
//! is torchvision's (v1.5) under the authors' head; its noise was found by the same comparison.

use crate::fixture::{arrays, hash_images, hash_weights, values};
use crate::golden::{Golden, l2, least_scale};
use crate::runner::Case;
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;
use selfcls_core::config::{Arch, ModelConfig};
use selfcls_core::model::{Context, NamePath, SelfClassifier, state_dict, with_state_dict};
use serde::Deserialize;
use std::collections::BTreeMap;

/// Norms, of gradients and of what the step leaves of running statistics.
#[derive(Deserialize)]
struct Norms {
    grad_l2: BTreeMap<String, f64>,
    running_l2_after_mv: BTreeMap<String, f64>,
}

fn golden<'a>(case: &'a Case, name: &str, config: &ModelConfig) -> Golden<'a, Norms> {
    Golden::new(case, name, 4, config)
}

fn evaluation(golden: &Golden<'_, Norms>) {
    let model = golden.model.valid();
    let (images, context) = (golden.images(64), golden.evaluation());
    let tolerance = golden.noise.evaluation();
    let features = model.backbone.forward(images.clone(), &context);
    golden.close("eval.backbone", features, tolerance);
    let embeddings = model.embed_images(images, &context);
    golden.close("eval.embd", embeddings.clone(), tolerance);
    for (head, logits) in model.logits(embeddings).into_iter().enumerate() {
        golden.close(&format!("eval.logits.{head}"), logits, tolerance);
    }
}

fn training(golden: &Golden<'_, Norms>) {
    let embeddings = golden
        .model
        .embed_images(golden.view(0, 64), &golden.training());
    golden.close("train.embd", embeddings, golden.noise.embeddings());
    let state = state_dict(&golden.model);
    for name in golden.arrays.names() {
        if let Some(buffer) = name.strip_prefix("train.after.") {
            let expected = &golden.arrays.float(name).data;
            golden.case.close(name, &state[buffer].data, expected, 5e-6);
        }
    }
}

/// Two views at 64 pixels, two at 32: embeddings, logits, loss and gradients.
fn multi_view(golden: &Golden<'_, Norms>) {
    let step = golden.step([64, 32]);
    for (head, logits) in step.logits.into_iter().enumerate() {
        golden.close(&format!("mv.logits.{head}"), logits, golden.noise.logits());
    }
    gradients(golden, &step.gradients);
    let state = state_dict(&golden.model);
    for (name, &expected) in &golden.more.running_l2_after_mv {
        let share = (l2(&state[name].data) / expected) as f32;
        let what = format!("|{name}|");
        golden.case.close_scalar(&what, share, 1.0, 1e-5);
    }
}

fn gradients(golden: &Golden<'_, Norms>, found: &BTreeMap<String, Vec<f32>>) {
    let tolerance = golden.noise.gradients();
    let norms = &golden.more.grad_l2;
    assert!(found.keys().eq(norms.keys()), "every parameter has one");
    let least = least_scale(norms.values().copied());
    for (name, &norm) in norms {
        let difference = (l2(&found[name]) - norm) / norm.max(least);
        let what = format!("|gradient of {name}|");
        golden.case.close_to_zero(&what, difference, tolerance);
    }
    for name in golden.arrays.names() {
        let Some(parameter) = name.strip_prefix("mv.grad.") else {
            continue;
        };
        let expected = &golden.arrays.float(name).data;
        // Of a large one every n-th value is kept.
        let (parameter, every) = parameter.split_once(".every").unwrap_or((parameter, "1"));
        let every = every.parse().expect("a number");
        let actual: Vec<f32> = found[parameter].iter().copied().step_by(every).collect();
        assert_eq!(actual.len(), expected.len(), "{name}");
        let difference: Vec<f32> = actual.iter().zip(expected).map(|(a, e)| a - e).collect();
        let relative = l2(&difference) / l2(expected);
        golden.case.close_to_zero(name, relative, tolerance);
    }
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
    evaluation(&golden(case, "tiny_rn18w4", &tiny()));
}

/// Embeddings with the batch's statistics, and the running statistics afterwards.
pub(crate) fn tiny_resnet_in_training(case: &Case) {
    training(&golden(case, "tiny_rn18w4", &tiny()));
}

/// A multi-crop step with all its gradients.
pub(crate) fn tiny_resnet_multi_view_step(case: &Case) {
    multi_view(&golden(case, "tiny_rn18w4", &tiny()));
}

/// As the tiny one.
pub(crate) fn resnet18_in_evaluation(case: &Case) {
    evaluation(&golden(case, "resnet18", &resnet18()));
}

/// As the tiny one.
pub(crate) fn resnet18_in_training(case: &Case) {
    training(&golden(case, "resnet18", &resnet18()));
}

/// As the tiny one.
pub(crate) fn resnet18_multi_view_step(case: &Case) {
    multi_view(&golden(case, "resnet18", &resnet18()));
}

/// Bottleneck blocks: as the tiny one.
pub(crate) fn tiny_resnet50_in_evaluation(case: &Case) {
    evaluation(&golden(case, "resnet50w4", &tiny_resnet50()));
}

/// As the tiny one.
pub(crate) fn tiny_resnet50_multi_view_step(case: &Case) {
    multi_view(&golden(case, "resnet50w4", &tiny_resnet50()));
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
