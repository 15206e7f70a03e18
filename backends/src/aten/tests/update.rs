//! Updates of parameters against the plain rule.

use burn::tensor::{Device, Tensor};
use selfcls_core::config::{OptimConfig, OptimKind, Precision};
use selfcls_core::kernels::{Kernels, PlainKernels};
use selfcls_core::optim::rule::ParamUpdate;

use super::{aten, is_channels_last};
use crate::AtenKernels;
use crate::against_burn::{assert_close, tensor, values};
use crate::on_devices::on_devices;

on_devices!(
    a_weights_layout_survives_an_update,
    updates_equal_the_plain_rule,
    updates_spare_what_is_shared,
    gradients_together_equal_the_plain_operations,
);

/// Updates of the optimiser are elementwise: they keep the layout that was chosen once.
fn a_weights_layout_survives_an_update(device: &Device) {
    let weight: Tensor<4> = tensor(30, [8, 4, 3, 3], device);
    let laid_out = aten(device).weight_layout(weight.clone());
    assert!(is_channels_last(&laid_out) && !is_channels_last(&weight));
    assert_eq!(values(laid_out.clone()), values(weight));
    let gradient = aten(device).weight_layout(tensor(31, [8, 4, 3, 3], device));
    let updated = laid_out.clone() - (laid_out * 0.1 + gradient) * 0.5;
    assert!(is_channels_last(&updated));
}

/// Parameters of all shapes, one of them zero, with random gradients, one of them zero, updated three times.
fn three_updates(device: &Device, kernels: &dyn Kernels, config: &OptimConfig) -> Vec<Tensor<4>> {
    let shapes = [[8, 4, 3, 3], [8, 1, 1, 1], [6, 8, 1, 1], [1, 1, 1, 1]];
    let mut params: Vec<(Tensor<4>, Vec<Tensor<4>>)> = (50..)
        .zip(shapes)
        .map(|(seed, shape)| {
            let param = tensor(seed, shape, device);
            let param = if seed == 53 { param * 0.0 } else { param };
            (kernels.weight_layout(param), Vec::new())
        })
        .collect();
    for step in 1..=3 {
        let updates = (0..).zip(params).map(|(index, (param, moments))| {
            let gradient = tensor(60 + 10 * step + index, param.dims(), device);
            ParamUpdate {
                grad: if index == 1 { gradient * 0.0 } else { gradient },
                param,
                moments,
                // Some biases have a group of their own.
                weight_decay: if index == 2 { 0.0 } else { config.weight_decay },
                step: step as usize,
            }
        });
        params = kernels
            .update(config, 0.3, updates.collect())
            .into_iter()
            .map(|updated| (updated.param, updated.moments))
            .collect();
    }
    params
        .into_iter()
        .flat_map(|(param, moments)| std::iter::once(param).chain(moments))
        .collect()
}

/// In place and one by one, in place and together: as the formulas say.
fn updates_equal_the_plain_rule(device: &Device) {
    for kind in [
        OptimKind::Sgd,
        OptimKind::Larc,
        OptimKind::AdamW,
        OptimKind::LarcAdamW,
    ] {
        for (momentum, larc_clip, clip_grad) in
            [(0.9, false, 0.0), (0.0, false, 0.5), (0.9, true, 2.0)]
        {
            let config = OptimConfig {
                kind,
                momentum,
                larc_clip,
                clip_grad,
                weight_decay: 0.1,
                ..Default::default()
            };
            let expected = three_updates(device, &PlainKernels, &config);
            for batched in [false, true] {
                let kernels = AtenKernels::new(Precision::F32, batched);
                let actual = three_updates(device, &kernels, &config);
                assert_eq!(actual.len(), expected.len());
                for (index, (actual, expected)) in actual.into_iter().zip(&expected).enumerate() {
                    let case = format!("{kind:?}, batched: {batched}, {momentum}, tensor {index}");
                    if index == 0 {
                        assert!(is_channels_last(&actual), "{case}");
                    }
                    assert_close(&case, actual, expected.clone(), 2e-6);
                }
            }
        }
    }
}

/// What somebody else still holds is copied, not overwritten.
fn updates_spare_what_is_shared(device: &Device) {
    let config = OptimConfig::default();
    let tensors = [70, 71, 72].map(|seed| tensor::<4>(seed, [4, 2, 1, 1], device));
    let before = tensors.clone().map(values);
    let [param, grad, moment] = tensors.clone();
    let updated = aten(device).update(
        &config,
        0.5,
        vec![ParamUpdate {
            param,
            grad,
            moments: vec![moment],
            weight_decay: 0.1,
            step: 2,
        }],
    );
    assert_ne!(values(updated[0].param.clone()), before[0]);
    assert_eq!(tensors.map(values), before);
}

/// Of all shapes and layouts, with values that are not finite, and none at all.
fn gradients_together_equal_the_plain_operations(device: &Device) {
    let ours = aten(device);
    let shapes = [[8, 4, 3, 3], [8, 1, 1, 1], [6, 8, 1, 1], [1, 1, 1, 1]];
    let gradients = || -> Vec<Tensor<4>> {
        let gradients = (80..)
            .zip(shapes)
            .map(|(seed, shape)| tensor(seed, shape, device));
        gradients
            .map(|gradient| ours.weight_layout(gradient))
            .collect()
    };
    let norm = |kernels: &dyn Kernels| kernels.norm(gradients()).expect("gradients");
    let (actual, expected) = (norm(&ours), norm(&PlainKernels));
    assert_eq!(actual.dims(), [1]);
    assert_close("norm", actual, expected, 1e-6);

    let factor = || tensor::<1>(90, [1], device);
    let shared = gradients();
    let before: Vec<_> = shared.iter().cloned().map(values).collect();
    let scaled = ours.scale(shared.clone(), factor());
    let expected = PlainKernels.scale(gradients(), factor());
    for (actual, expected) in scaled.into_iter().zip(expected) {
        assert_eq!(values(actual), values(expected));
    }
    let after: Vec<_> = shared.into_iter().map(values).collect();
    assert_eq!(after, before, "what somebody else holds");

    for kernels in [&ours as &dyn Kernels, &PlainKernels] {
        let probe = |gradients: Vec<Tensor<4>>| {
            let probe = kernels.probe(gradients).expect("gradients");
            assert_eq!(probe.dims(), [1]);
            values(probe)[0]
        };
        assert_eq!(probe(gradients()), 0.0);
        // Finite, though the sum of their squares is not.
        assert_eq!(
            probe(kernels.scale(gradients(), Tensor::full([1], 1e30, device))),
            0.0
        );
        for spoilt in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for index in 0..shapes.len() {
                let mut gradients = gradients();
                let [rows, ..] = shapes[index];
                gradients[index] = gradients[index]
                    .clone()
                    .slice_fill([rows - 1..rows, 0..1, 0..1, 0..1], spoilt);
                assert!(probe(gradients).is_nan(), "{spoilt} in tensor {index}");
            }
        }
        assert!(kernels.norm(Vec::new()).is_none() && kernels.probe(Vec::new()).is_none());
        assert!(kernels.scale(Vec::new(), factor()).is_empty());
    }
}
