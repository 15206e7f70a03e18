//! Linear evaluation and fine-tuning against PyTorch, and on features that anything separates.

use crate::fixture::{arrays, hash_tensor, hash_weights, values};
use crate::runner::Case;
use selfcls_core::Config;
use selfcls_core::Result;
use selfcls_core::config::{Arch, Stem};
use selfcls_core::eval::features::FeatureTable;
use selfcls_core::eval::linear::{
    Batch, Each, Feed, LabelledFeatures, Linear, LinearConfig, LinearOptimizer, Outcome, Probe,
    TableFeed,
};
use selfcls_core::model::with_state_dict;
use selfcls_core::random::{Draw, Purpose, stream};
use std::sync::atomic::AtomicBool;

const SAMPLES: usize = 10;
const CLASSES: usize = 4;

/// The batches of fixtures/linear.py: in epoch e the samples in their order from the 3e-th on.
struct Rotating {
    inputs: Vec<f32>,
    labels: Vec<usize>,
}

impl Rotating {
    fn batch(&self, rows: impl Iterator<Item = usize>) -> Batch {
        let width = self.inputs.len() / SAMPLES;
        let mut batch = Batch {
            inputs: Vec::new(),
            labels: Vec::new(),
        };
        for row in rows {
            let values = &self.inputs[row * width..(row + 1) * width];
            batch.inputs.extend_from_slice(values);
            batch.labels.push(self.labels[row]);
        }
        batch
    }
}

impl Feed for Rotating {
    fn samples(&self) -> usize {
        SAMPLES
    }

    fn train(&mut self, epoch: usize, first: usize, batch: usize, each: Each<'_>) -> Result<()> {
        for start in (0..SAMPLES).step_by(batch).skip(first) {
            let rows = start..(start + batch).min(SAMPLES);
            let rows = rows.map(|row| (row + 3 * epoch) % SAMPLES);
            if each(self.batch(rows))?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn test(&mut self, _: usize, each: Each<'_>) -> Result<()> {
        each(self.batch(0..SAMPLES)).map(|_| ())
    }
}

/// Trains as the fixture's part `name` and compares with it.
fn compare(
    case: &Case,
    name: &str,
    config: LinearConfig,
    probe: Probe,
    stream: u64,
    shape: &[usize],
) {
    let fixture = arrays("linear");
    let device = &case.runtime.device;
    let inputs = match *shape {
        [width] => values(hash_tensor(stream, [SAMPLES, width], device)),
        [a, b, c] => values(hash_tensor(stream, [SAMPLES, a, b, c], device)),
        _ => panic!("features or images"),
    };
    let labels = fixture.int("labels").iter().map(|&x| x as usize).collect();
    let shapes: Vec<(String, Vec<usize>)> = probe
        .weights()
        .iter()
        .map(|(name, array)| (name.clone(), array.shape.clone()))
        .collect();
    let mut initial = hash_weights(&shapes);
    if name == "larc" {
        let bias = initial.get_mut("fc.bias").expect("a bias");
        bias.data.fill(0.0);
    }
    let probe = with_state_dict(probe, &initial).expect("its own weights");
    let mut feed = Rotating { inputs, labels };
    let outcome = run(case, config, probe, &mut feed);
    let of = |value: fn(&selfcls_core::eval::linear::EpochResult) -> f64| -> Vec<f32> {
        let epochs = outcome.epochs.iter();
        epochs.map(|epoch| value(epoch) as f32).collect()
    };
    let expected = |what: &str| &fixture.float(&format!("{name}.{what}")).data;
    case.close("loss", &of(|epoch| epoch.loss), expected("loss"), 2e-5);
    case.close("top-1", &of(|epoch| epoch.top1), expected("top1"), 1e-6);
    let prefix = format!("{name}.");
    let weights = fixture
        .names()
        .filter_map(|name| name.strip_prefix(&prefix));
    for weight in weights.filter(|weight| weight.contains("weight") || weight.contains("bias")) {
        let actual = &outcome.weights[weight].data;
        case.close(weight, actual, expected(weight), 2e-5);
    }
    for (name, array) in initial.iter().filter(|(name, _)| name.contains("running")) {
        assert_eq!(array, &outcome.weights[name], "{name} moved");
    }
}

fn run(case: &Case, config: LinearConfig, probe: Probe, feed: &mut dyn Feed) -> Outcome {
    let linear = Linear {
        config,
        subject: String::new(),
        classes: CLASSES,
        folder: None,
    };
    let never = AtomicBool::new(false);
    let outcome = linear.run(probe, &case.runtime, feed, &mut |_| {}, &never);
    outcome.expect("trains")
}

/// Three epochs of two batches, the second smaller.
pub(crate) fn three_epochs(case: &Case) {
    let settings = [
        ("sgd", LinearOptimizer::Sgd, 30.0, 0.0),
        ("decayed", LinearOptimizer::Sgd, 0.5, 1e-2),
        ("larc", LinearOptimizer::Larc, 0.8, 1e-4),
    ];
    for (name, optimizer, lr, weight_decay) in settings {
        let config = LinearConfig {
            epochs: 3,
            batch_size: 6,
            lr,
            weight_decay,
            ..LinearConfig::of(optimizer)
        };
        let probe = Probe::frozen(&case.runtime, 6, CLASSES, 0);
        compare(case, name, config, probe, 1_000_000, &[6]);
    }
}

/// The same with a small residual network below, whose batch statistics stay.
pub(crate) fn fine_tuning(case: &Case) {
    let mut settings = Config::default();
    settings.model.backbone = Arch::ResNet10;
    settings.model.stem = Stem::CifarStride2;
    settings.model.width = 4;
    let device = case.runtime.device.clone().autodiff();
    let backbone = settings.model.init(&device, 0).backbone;
    let probe = Probe::fine_tuning(&case.runtime, backbone, 32, CLASSES, 0);
    let config = LinearConfig {
        epochs: 3,
        batch_size: 6,
        lr: 0.05,
        weight_decay: 1e-3,
        ..LinearConfig::default()
    };
    compare(case, "fine", config, probe, 1_000_001, &[3, 16, 16]);
}

/// Four clouds that a plane each cuts off.
pub(crate) fn separable_features(case: &Case) {
    let mut draw = stream(1, Purpose::Evaluation, [9, 9, 9]);
    let mut clouds = |rows: usize| {
        let labels: Vec<usize> = (0..rows).map(|row| row % CLASSES).collect();
        let values = labels.iter().flat_map(|&label| {
            let cloud: Vec<f32> = (0..8)
                .map(|place| {
                    let centre = if place == label { 1.0 } else { 0.0 };
                    centre + draw.uniform(-0.3, 0.3) as f32
                })
                .collect();
            cloud
        });
        LabelledFeatures {
            features: FeatureTable::new(values.collect(), 8).expect("rows of 8"),
            labels,
        }
    };
    let mut feed = TableFeed::new(clouds(128), 1, clouds(64), 0).expect("features");
    let config = LinearConfig {
        epochs: 10,
        batch_size: 32,
        lr: 3.0,
        ..LinearConfig::default()
    };
    let probe = Probe::frozen(&case.runtime, 8, CLASSES, 0);
    let outcome = run(case, config, probe, &mut feed);
    let last = outcome.epochs.last().expect("ten epochs");
    assert_eq!((last.top1, last.top5), (1.0, 1.0), "{:?}", outcome.epochs);
    assert!(last.loss < 0.05, "{last:?}");
}
