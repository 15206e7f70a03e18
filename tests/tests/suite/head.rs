//! The MLP head in all its forms against the authors' `MLPHead`, weights and features from an integer hash.

use crate::fixture::{arrays, hash_tensor, hash_weights, json, values};
use crate::runner::Case;
use burn::tensor::{Tensor, TensorData};
use selfcls_core::config::{Arch, ModelConfig};
use selfcls_core::model::{Context, Noise, state_dict, with_state_dict};
use std::collections::BTreeMap;

/// Every number of layers from 0 to 3, with and without batch normalisation, LeakyReLU and ReLU: names,
/// outputs in training mode, and the gradient of `sum_i i/n y_i` with respect to the features.
///
/// The float noise of so few numbers is 1e-6; batch normalisation over four samples multiplies it.
pub(crate) fn every_form(case: &Case) {
    let expected = arrays("heads");
    let keys: BTreeMap<String, Vec<(String, Vec<usize>)>> = json("heads");
    let device = case.runtime.device.clone().autodiff();
    let context = Context::training(&*case.runtime.kernels, Noise::default());
    for (layers, bn, leaky) in (0..4).flat_map(|layers| {
        [(false, false), (false, true), (true, false), (true, true)]
            .map(|(bn, leaky)| (layers, bn, leaky))
    }) {
        let config = ModelConfig {
            backbone: Arch::ResNet10,
            width: 1,
            head_layers: layers,
            hidden_dim: 5,
            head_bn: bn,
            leaky,
            dim: if layers == 0 { 8 } else { 3 },
            heads: vec![2],
            ..Default::default()
        };
        let form = format!("{layers}{}", if bn { "_bn" } else { "" });
        let model = config.init(&device, 0);
        let mut weights = state_dict(&model);
        weights.retain(|name, _| !name.starts_with("mlp_head."));
        weights.extend(hash_weights(&keys[&form]));
        let model = with_state_dict(model, &weights).expect("the authors' names");

        let features = hash_tensor::<2>(7, [4, 8], &device).require_grad();
        let output = model.mlp_head.forward(features.clone(), &context);
        let count = 4 * config.dim;
        let factors: Vec<f32> = (1..=count).map(|i| i as f32 / count as f32).collect();
        let factors = TensorData::new(factors, [4, config.dim]);
        let factors = Tensor::<2>::from_data(factors, &device);
        let grads = (output.clone() * factors).sum().backward();
        let gradient = features.grad(&grads).expect("a gradient");
        let form = format!("{form}{}", if leaky { "_leaky" } else { "" });
        for (part, actual) in [("y", values(output)), ("dx", values(gradient))] {
            let name = format!("{form}.{part}");
            let expected = &expected.float(&name).data;
            case.close(&name, &actual, expected, 1e-5);
        }
    }
}
