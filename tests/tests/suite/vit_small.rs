//! A vision transformer small enough for every backend, forwards and backwards, against PyTorch in f64
//! (`fixtures/make_vit_small.py`).
//!
//! Tolerances are eight times the float noise between that script's f32 and f64 (`noise.json`).

use crate::fixture::{Arrays, arrays, hash_images, hash_weights, json, values};
use crate::model::gradients_by_name;
use crate::parity::{FloatNoise, Tolerance};
use crate::runner::Case;
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use selfcls_core::config::{Arch, LossConfig, ModelConfig};
use selfcls_core::model::{Context, Noise, SelfClassifier, ViewBatch, with_state_dict};
use serde::Deserialize;
use std::collections::BTreeMap;

const BATCH: usize = 4;
const MODEL: &str = "vit_small";

#[derive(Deserialize)]
struct Description {
    params: usize,
    state_dict_keys: Vec<(String, Vec<usize>)>,
}

struct Golden<'a> {
    case: &'a Case,
    arrays: Arrays,
    noise: FloatNoise,
    model: SelfClassifier,
    device: Device,
}

impl<'a> Golden<'a> {
    fn new(case: &'a Case) -> Self {
        let config = ModelConfig {
            backbone: Arch::VitTiny,
            width: 16,
            depth: 2,
            patch_size: 8,
            position_size: 16,
            hidden_dim: 24,
            dim: 8,
            heads: vec![5, 7],
            ..Default::default()
        };
        let description: Description = json(MODEL);
        let weights = hash_weights(&description.state_dict_keys);
        let trained = weights
            .iter()
            .filter(|(name, _)| !name.contains("running_"));
        let parameters: usize = trained.map(|(_, array)| array.data.len()).sum();
        assert_eq!(parameters, description.params);
        let device = case.runtime.device.clone().autodiff();
        Self {
            case,
            arrays: arrays(MODEL),
            noise: FloatNoise::of(MODEL),
            model: with_state_dict(config.init(&device, 0), &weights).expect("the same model"),
            device,
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
}

/// The size that positions are laid out for, and a larger one: features, embeddings, logits.
pub(crate) fn evaluation(case: &Case) {
    let golden = Golden::new(case);
    let model = golden.model.valid();
    let context = Context::evaluation(&*case.runtime.kernels);
    let tolerance = golden.noise.evaluation();
    for size in [16, 24] {
        let images = hash_images(0, BATCH, size, &case.runtime.device);
        let features = model.backbone.forward(images, &context);
        golden.close(&format!("backbone.{size}"), features.clone(), tolerance);
        let embeddings = model.mlp_head.forward(features, &context);
        golden.close(&format!("embd.{size}"), embeddings.clone(), tolerance);
        for (head, logits) in model.logits(embeddings).into_iter().enumerate() {
            golden.close(&format!("logits.{head}.{size}"), logits, tolerance);
        }
    }
}

/// Two views at 16 pixels, two at 8: embeddings, loss, and every value of every gradient.
pub(crate) fn multi_view_step(case: &Case) {
    let golden = Golden::new(case);
    let view = |index: u64, size| hash_images(index, BATCH, size, &golden.device);
    let views = ViewBatch {
        global: Tensor::cat(vec![view(0, 16), view(1, 16)], 0),
        local: Some(Tensor::cat(vec![view(2, 8), view(3, 8)], 0)),
    };
    let context = Context::training(&*case.runtime.kernels, Noise::default());
    let embeddings = golden.model.embed(views, &context);
    golden.close("mv.embds", embeddings.clone(), golden.noise.embeddings());
    let logits = golden.model.logits(embeddings).into_iter();
    let logits: Vec<Tensor<3>> = logits
        .map(|logits| {
            let classes = logits.dims()[1];
            logits.reshape([4, BATCH, classes])
        })
        .collect();
    let loss = LossConfig::default().init().forward(&logits, 2);
    let loss = loss.expect("a loss");
    let grads = loss.backward();
    golden.close("mv.loss", loss, golden.noise.loss());

    let found = gradients_by_name(&golden.model, &grads);
    let expected: BTreeMap<&str, &[f32]> = golden
        .arrays
        .names()
        .filter_map(|name| {
            Some((
                name.strip_prefix("grad.")?,
                &*golden.arrays.float(name).data,
            ))
        })
        .collect();
    assert!(
        found
            .keys()
            .map(String::as_str)
            .eq(expected.keys().copied())
    );
    let norm = |values: &[f32]| {
        let squares = values.iter().map(|&x| f64::from(x).powi(2));
        squares.sum::<f64>().sqrt()
    };
    // A bias in front of batch normalisation has no gradient but rounding.
    let largest = expected.values().fold(0.0_f64, |a, b| a.max(norm(b)));
    for (name, expected) in expected {
        let scale = norm(expected).max(1e-3 * largest);
        let pairs = found[name].iter().zip(expected);
        let error = pairs.fold(0.0_f64, |worst, (&a, &e)| {
            worst.max(f64::from(a - e).abs() / scale)
        });
        let what = format!("gradient of {name}");
        case.close_to_zero(&what, error, golden.noise.gradients());
    }
}
