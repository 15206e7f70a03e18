//! The loss and its gradients.

use crate::fixture::{arrays, json, values};
use crate::runner::Case;
use burn::tensor::Tensor;
use selfcls_core::config::LossConfig;
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct Expected {
    globals: usize,
    row_temperature: f64,
    col_temperature: f64,
    eps: f64,
    heads: usize,
    loss: f64,
}

/// Loss and gradients with respect to the logits, for random, extreme, equal and collapsed logits.
/// The expected values are computed in f64; the tolerance is f32's.
pub(crate) fn loss_and_gradients(case: &Case) {
    let device = case.runtime.device.clone().autodiff();
    let fixture = arrays("loss");
    for (name, expected) in json::<BTreeMap<String, Expected>>("loss") {
        let loss = LossConfig {
            row_temperature: expected.row_temperature,
            col_temperature: expected.col_temperature,
            eps: expected.eps,
        }
        .init();
        let logits: Vec<Tensor<3>> = (0..expected.heads)
            .map(|head| {
                fixture
                    .tensor(&format!("{name}.in.{head}"), &device)
                    .require_grad()
            })
            .collect();
        let result = loss.forward(&logits, expected.globals).expect("a loss");
        let grads = result.backward();
        let value = values(result)[0];
        case.close_scalar(&format!("loss {name}"), value, expected.loss, 1e-6);
        for (head, logits) in logits.iter().enumerate() {
            let actual = values(logits.grad(&grads).expect("a gradient"));
            let expected = &fixture.float(&format!("{name}.grad.{head}")).data;
            case.close(&format!("gradient {name}"), &actual, expected, 1e-5);
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
