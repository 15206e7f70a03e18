//! The optimisers, parameter by parameter over five steps.

use crate::fixture::{Arrays, arrays, json, values};
use crate::parity::Tolerance;
use crate::runner::Case;
use burn::module::{Module, Param};
use burn::tensor::{Device, Gradients, Tensor};
use selfcls_core::config::{OptimConfig, OptimKind};
use serde::Deserialize;

#[derive(Module, Debug)]
struct Layer {
    weight: Param<Tensor<2>>,
    bias: Param<Tensor<1>>,
}

#[derive(Module, Debug)]
struct TwoLayers {
    l1: Layer,
    l2: Layer,
}

const NAMES: [&str; 4] = ["l1.weight", "l1.bias", "l2.weight", "l2.bias"];

impl TwoLayers {
    fn new(fixture: &Arrays, device: &Device) -> Self {
        let layer = |name: &str| Layer {
            weight: Param::from_tensor(fixture.tensor(&format!("p0.{name}.weight"), device)),
            bias: Param::from_tensor(fixture.tensor(&format!("p0.{name}.bias"), device)),
        };
        Self {
            l1: layer("l1"),
            l2: layer("l2"),
        }
    }

    /// Gradients equal to given arrays: those of sum(p * g).
    fn gradients(&self, fixture: &Arrays, step: usize, device: &Device) -> Gradients {
        let weight = |p: &Param<Tensor<2>>, name: &str| -> Tensor<1> {
            (p.val() * fixture.tensor(&format!("g{step}.{name}.weight"), device)).sum()
        };
        let bias = |p: &Param<Tensor<1>>, name: &str| -> Tensor<1> {
            (p.val() * fixture.tensor(&format!("g{step}.{name}.bias"), device)).sum()
        };
        let loss = weight(&self.l1.weight, "l1")
            + bias(&self.l1.bias, "l1")
            + weight(&self.l2.weight, "l2")
            + bias(&self.l2.bias, "l2");
        loss.backward()
    }

    fn values(&self) -> [Vec<f32>; 4] {
        [
            values(self.l1.weight.val()),
            values(self.l1.bias.val()),
            values(self.l2.weight.val()),
            values(self.l2.bias.val()),
        ]
    }
}

#[derive(Deserialize)]
struct Rates {
    lr_per_step: Vec<f64>,
    lr_overrides: std::collections::BTreeMap<String, Vec<f64>>,
    momentum: f64,
    trust: f64,
}

fn check(case: &Case, run: &str, rates: impl Fn(&Rates) -> &[f64], config: OptimConfig) {
    let device = case.runtime.device.clone().autodiff();
    let (fixture, given): (_, Rates) = (arrays("optim"), json("optim"));
    let config = OptimConfig {
        momentum: given.momentum,
        trust: given.trust,
        ..config
    };
    let kernels = &*case.runtime.kernels;
    let mut optimizer = config.init();
    let mut model = TwoLayers::new(&fixture, &device);
    for (step, &lr) in rates(&given).iter().enumerate() {
        let mut grads = model.gradients(&fixture, step, &device);
        model = optimizer.step(lr, model, &mut grads, kernels);
        for (name, actual) in NAMES.iter().zip(model.values()) {
            let expected = &fixture.float(&format!("{run}.step{step}.{name}")).data;
            case.close(
                &format!("{run} step {step} {name}"),
                &actual,
                expected,
                Tolerance::beside(2e-6, "optimizer"),
            );
        }
        // Halfway the history goes out to plain data and back, as in a checkpoint.
        if step == 2 {
            let state = optimizer.state();
            optimizer = config.init();
            optimizer.restore(state, &device).expect("the same history");
        }
    }
}

/// The step whose gradients the clipping fixture was made from: some exceed the limits, some do not.
const CLIPPED_STEP: usize = 2;

fn config(kind: OptimKind, weight_decay: f64) -> OptimConfig {
    OptimConfig {
        kind,
        weight_decay,
        ..Default::default()
    }
}

/// PyTorch's SGD with momentum.
pub(crate) fn sgd(case: &Case) {
    check(
        case,
        "sgd_wd1e-6",
        |r| &r.lr_per_step,
        config(OptimKind::Sgd, 1e-6),
    );
    check(
        case,
        "sgd_wd0.1",
        |r| &r.lr_overrides["sgd_wd0.1"],
        config(OptimKind::Sgd, 0.1),
    );
}

/// LARC around SGD, a parameter with an all-zero gradient included.
pub(crate) fn larc(case: &Case) {
    check(
        case,
        "larc_sgd_wd1e-6",
        |r| &r.lr_per_step,
        config(OptimKind::Larc, 1e-6),
    );
    check(
        case,
        "larc_sgd_wd0.1",
        |r| &r.lr_per_step,
        config(OptimKind::Larc, 0.1),
    );
}

/// LARC that may only lower the learning rate.
pub(crate) fn larc_with_clip(case: &Case) {
    let config = OptimConfig {
        larc_clip: true,
        ..config(OptimKind::Larc, 0.1)
    };
    check(case, "larc_clip_sgd_wd0.1", |r| &r.lr_per_step, config);
}

/// Biases in a group of their own, without weight decay.
pub(crate) fn larc_without_bias_decay(case: &Case) {
    let config = OptimConfig {
        no_bias_weight_decay: true,
        ..config(OptimKind::Larc, 0.1)
    };
    check(case, "larc_sgd_wd0.1_nobiaswd", |r| &r.lr_per_step, config);
}

/// PyTorch's AdamW.
pub(crate) fn adamw(case: &Case) {
    check(
        case,
        "adamw_wd1e-6",
        |r| &r.lr_overrides["adamw_*"],
        config(OptimKind::AdamW, 1e-6),
    );
    check(
        case,
        "adamw_wd0.1",
        |r| &r.lr_overrides["adamw_*"],
        config(OptimKind::AdamW, 0.1),
    );
}

/// LARC around PyTorch's AdamW: the weight decay is LARC's.
pub(crate) fn larc_around_adamw(case: &Case) {
    for (run, larc_clip) in [("larc_adamw_wd0.1", false), ("larc_clip_adamw_wd0.1", true)] {
        let config = OptimConfig {
            larc_clip,
            ..config(OptimKind::LarcAdamW, 0.1)
        };
        check(case, run, |r| &r.lr_overrides["larc_adamw_*"], config);
    }
}

/// Per-parameter norm clipping, and that of all gradients together: plain SGD at rate 1 moves each parameter by minus its clipped gradient.
pub(crate) fn gradient_clipping(case: &Case) {
    let device = case.runtime.device.clone().autodiff();
    let fixture = arrays("optim");
    let cases = [
        ("clip", "0.3"),
        ("clip", "1.0"),
        ("clip", "3.0"),
        ("clip_global", "1.0"),
        ("clip_global", "10.0"),
        ("clip_global", "100.0"),
    ];
    for (kind, limit) in cases {
        let mut config = config(OptimKind::Sgd, 0.0);
        config.momentum = 0.0;
        let key = match kind {
            "clip" => &mut config.clip_grad,
            _ => &mut config.clip_grad_global,
        };
        *key = limit.parse().expect("a number");
        let model = TwoLayers::new(&fixture, &device);
        let before = model.values();
        let mut grads = model.gradients(&fixture, CLIPPED_STEP, &device);
        let kernels = &*case.runtime.kernels;
        let after = config.init().step(1.0, model, &mut grads, kernels);
        let after = after.values();
        for ((name, before), after) in NAMES.iter().zip(before).zip(after) {
            let clipped: Vec<f32> = before.iter().zip(&after).map(|(b, a)| b - a).collect();
            let expected = &fixture.float(&format!("{kind}{limit}.{name}")).data;
            let tolerance = Tolerance::beside(2e-6, "optimizer");
            case.close(
                &format!("{kind} {limit} {name}"),
                &clipped,
                expected,
                tolerance,
            );
        }
    }
}

/// Which parameter of a ResNet-18 falls into which of the authors' groups. Names only, so it runs once.
#[cfg(feature = "flex")]
pub(crate) fn parameter_groups() {
    use selfcls_core::config::ModelConfig;
    use selfcls_core::model::{is_buffer, state_dict};
    use std::collections::BTreeMap;

    #[derive(Deserialize)]
    struct Group {
        /// The group's weight decay: a number, or "default".
        wd: serde_json::Value,
        names: Vec<String>,
    }
    const DEFAULT: f64 = 1e-6;
    const BACKBONE: f64 = 0.1;
    let selection: selfcls_backends::Selection = "flex".parse().expect("a backend");
    let device = selfcls_backends::open(&selection).expect("opens").device;
    let model = ModelConfig {
        heads: vec![10],
        ..Default::default()
    };
    let state = state_dict(&model.init(&device, 0));
    for (case, groups) in json::<BTreeMap<String, Vec<Group>>>("param_groups") {
        let config = OptimConfig {
            no_bias_weight_decay: case != "bbone_wd",
            backbone_weight_decay: if case == "no_bias_wd" { -1.0 } else { BACKBONE },
            ..config(OptimKind::Larc, DEFAULT)
        };
        let mut seen = 0;
        for group in groups {
            let expected = group.wd.as_f64().unwrap_or(DEFAULT);
            for name in &group.names {
                let dims = state[name].shape.len();
                assert_eq!(
                    config.weight_decay_of(name, dims),
                    expected,
                    "{case} {name}"
                );
                seen += 1;
            }
        }
        let parameters = state.keys().filter(|name| !is_buffer(name)).count();
        assert_eq!(seen, parameters, "{case}");
    }
}
