//! The loss and its gradients.

use crate::fixture::{arrays, hash_images, hash_tensor, json, values};
use crate::parity::Tolerance;
use crate::runner::Case;
use burn::tensor::Tensor;
use selfcls_core::config::LossConfig;
use selfcls_core::loss::Loss;
use serde::Deserialize;
use std::collections::BTreeMap;

/// A case of the fixture.
#[derive(Deserialize)]
pub(crate) struct Expected {
    pub(crate) globals: usize,
    row_temperature: f64,
    col_temperature: f64,
    eps: f64,
    pub(crate) heads: usize,
    pub(crate) loss: f64,
    #[serde(default = "yes")]
    normalise_targets: bool,
    #[serde(default = "yes")]
    normalise_predictions: bool,
}

fn yes() -> bool {
    true
}

impl Expected {
    /// The loss that the case is about.
    pub(crate) fn loss(&self) -> Loss {
        LossConfig {
            row_temperature: self.row_temperature,
            col_temperature: self.col_temperature,
            eps: self.eps,
            normalise_targets: self.normalise_targets,
            normalise_predictions: self.normalise_predictions,
            ..LossConfig::default()
        }
        .init()
    }

    /// What loss and gradient of the case `name` may be off: a logit of 100 over a temperature of 0.03 is known to
    /// 1e-4 only, and so is its exponential.
    pub(crate) fn tolerances(name: &str) -> [Tolerance; 2] {
        if name.contains("extreme100") {
            [
                Tolerance::beside(5e-5, "extreme_loss"),
                Tolerance::beside(5e-4, "extreme_loss_gradients"),
            ]
        } else {
            [
                Tolerance::beside(1e-6, "loss"),
                Tolerance::beside(1e-5, "loss_gradients"),
            ]
        }
    }
}

/// Loss and gradients with respect to the logits, for random, extreme, equal and collapsed logits, for
/// several heads, other temperatures and eps, and for both losses of the first arXiv version. The
/// expected values are the authors' code in f64; the tolerance is f32's.
pub(crate) fn loss_and_gradients(case: &Case) {
    let device = case.runtime.device.clone().autodiff();
    let fixture = arrays("loss");
    for (name, given) in json::<BTreeMap<String, Expected>>("loss") {
        let loss = given.loss();
        let logits: Vec<Tensor<3>> = (0..given.heads)
            .map(|head| {
                fixture
                    .tensor(&format!("{name}.in.{head}"), &device)
                    .require_grad()
            })
            .collect();
        let result = loss.forward(&logits, given.globals).expect("a loss");
        let grads = result.backward();
        let value = values(result)[0];
        let [loss_tolerance, gradient_tolerance] = Expected::tolerances(&name);
        case.close_scalar(&format!("loss {name}"), value, given.loss, loss_tolerance);
        for (head, logits) in logits.iter().enumerate() {
            let actual = values(logits.grad(&grads).expect("a gradient"));
            let expected = &fixture.float(&format!("{name}.grad.{head}")).data;
            case.close(
                &format!("gradient {name}"),
                &actual,
                expected,
                gradient_tolerance,
            );
            // The gradient as training takes it: of one head, not of the mean.
            let alone = loss.value_and_gradient(logits.clone(), given.globals);
            let (_, gradient) = alone.expect("a gradient");
            case.close(
                &format!("gradient written out, {name}"),
                &values(gradient / given.heads as f64),
                expected,
                gradient_tolerance,
            );
        }
    }
}

/// The gradient written out is that of autodiff, for views of all kinds, both factors with and without
/// normalisation, and logits as large as they get. Each is compared at the scale of its own largest value.
pub(crate) fn the_gradient_written_out(case: &Case) {
    let device = case.runtime.device.clone().autodiff();
    let mut k = 0;
    for (globals, [views, batch, classes]) in [
        (1, [2, 6, 5]),
        (2, [2, 3, 9]),
        (2, [8, 7, 4]),
        (3, [3, 5, 6]),
        (3, [5, 4, 6]),
    ] {
        for (normalise_targets, normalise_predictions) in
            [(true, true), (true, false), (false, false), (false, true)]
        {
            // Where everything is saturated, what is left is a difference of nearly equal numbers.
            for (size, tolerance) in [(0.1, 1e-5), (1.0, 1e-5), (50.0, 1e-2)] {
                k += 1;
                let loss = LossConfig {
                    normalise_targets,
                    normalise_predictions,
                    ..Default::default()
                }
                .init();
                let logits = hash_tensor::<3>(k, [views, batch, classes], &device) * size;
                let logits = logits.detach().require_grad();
                let value = loss.head(logits.clone(), globals).expect("a loss");
                let grads = value.backward();
                let expected = values(logits.grad(&grads).expect("a gradient"));
                let (written, gradient) = loss
                    .value_and_gradient(logits, globals)
                    .expect("a gradient");
                assert!(!written.is_autodiff() && !gradient.is_autodiff());
                // Below that is rounding: one-hot targets leave no gradient.
                let scale = expected.iter().fold(1e-3_f32, |s, x| s.max(x.abs()));
                let unit = |x: Vec<f32>| x.into_iter().map(|x| x / scale).collect::<Vec<_>>();
                let what = format!("{globals} global of {views}, logits up to {}", 2.0 * size);
                case.close(&what, &unit(values(gradient)), &unit(expected), tolerance);
                case.close(&what, &values(written), &values(value), 1e-6);
            }
        }
    }
}

/// Two equal heads give the loss of one, each with half its gradient; a single view is refused.
pub(crate) fn several_heads_are_averaged(case: &Case) {
    let device = case.runtime.device.clone().autodiff();
    let fixture = arrays("loss");
    let loss = LossConfig::default().init();
    let logits = || {
        fixture
            .tensor::<3>("v2_b8_c10.in.0", &device)
            .require_grad()
    };
    let (one, a, b) = (logits(), logits(), logits());
    let single = loss.forward(std::slice::from_ref(&one), 2).expect("a loss");
    let double = loss.forward(&[a.clone(), b], 2).expect("a loss");
    let (of_one, of_a) = (
        values(one.grad(&single.backward()).expect("a gradient")),
        values(a.grad(&double.backward()).expect("a gradient") * 2.0),
    );
    case.close("loss", &values(double), &values(single), 1e-6);
    case.close("gradient", &of_a, &of_one, 1e-6);

    let view: Tensor<3> = logits().slice(0..1);
    assert!(loss.forward(&[view], 1).is_err(), "one view was accepted");
    assert!(loss.forward(&[], 2).is_err(), "no head was accepted");
}

/// Logits of magnitude 100 at a temperature of 0.03, for many seeds' worth of shapes: everything stays
/// finite, in both factors and both versions.
pub(crate) fn extreme_logits_stay_finite(case: &Case) {
    let device = case.runtime.device.clone().autodiff();
    for normalise in [true, false] {
        let loss = LossConfig {
            row_temperature: 0.03,
            col_temperature: 0.03,
            normalise_targets: normalise,
            normalise_predictions: normalise,
            ..Default::default()
        }
        .init();
        for (k, [views, batch, classes]) in
            [[2, 4, 50], [4, 64, 3], [3, 7, 7]].into_iter().enumerate()
        {
            // Uniform in [-100, 100); and with a class that all samples flee.
            let images = hash_images(k as u64, views * batch * classes, 1, &device);
            let mut logits = images
                .slice([0..views * batch * classes, 0..1])
                .reshape([views, batch, classes])
                * 50.0;
            let flee = Tensor::<3>::full([views, batch, 1], -100.0, &device);
            logits = logits.slice_assign([0..views, 0..batch, 0..1], flee);
            let logits = logits.require_grad();
            let value = loss.head(logits.clone(), 2).expect("a loss");
            let grads = value.backward();
            let gradient = values(logits.grad(&grads).expect("a gradient"));
            assert!(values(value)[0].is_finite());
            assert!(
                gradient.iter().all(|x| x.is_finite()),
                "{views} {batch} {classes}"
            );
            assert!(gradient.iter().any(|&x| x != 0.0));
        }
    }
}
