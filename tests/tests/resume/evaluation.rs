//! A linear evaluation that is interrupted.

use selfcls_backends::{Selection, open};
use selfcls_core::Result;
use selfcls_core::config::OptimKind;
use selfcls_core::data::Shapes;
use selfcls_core::eval::linear::{self, CropFeed, Linear, LinearConfig, LinearEvent, Probe, Then};
use selfcls_core::runtime::Runtime;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A linear evaluation of random crops, stopped after so many batches; `usize::MAX` never.
fn linear(dir: &Path, config: &LinearConfig, until: usize) -> Result<linear::Outcome> {
    let selection: Selection = "flex".parse().expect("a backend");
    let runtime = Runtime::new(open(&selection).expect("flex runs everywhere").device);
    let mut settings = super::config(OptimKind::AdamW);
    settings.eval.crop = 16;
    let device = runtime.device.clone().autodiff();
    let backbone = settings.model.init(&device, 3).backbone;
    let mut feed = CropFeed {
        train: Arc::new(Shapes::new(20, 0, 20)),
        preprocess: settings.preprocess(),
        workers: 1,
        seed: 5,
        then: Then::Images(Arc::new(Shapes::new(10, 1, 20))),
    };
    let stop = AtomicBool::new(false);
    let mut batches = 0;
    let mut listen = |event| {
        if let LinearEvent::Progress { .. } = event {
            batches += 1;
            stop.store(batches == until, Ordering::Relaxed);
        }
    };
    let evaluation = Linear {
        config: config.clone(),
        subject: "a model".into(),
        classes: 8,
        folder: Some(dir),
    };
    let probe = Probe::fine_tuning(&runtime, backbone, 32, 8, 0);
    evaluation.run(probe, &runtime, &mut feed, &mut listen, &stop)
}

#[test]
fn linear_evaluation_resumes_to_the_bit() {
    let config = LinearConfig {
        epochs: 3,
        batch_size: 8,
        lr: 0.1,
        ..LinearConfig::default()
    };
    let undisturbed = tempfile::tempdir().expect("a folder");
    let whole = linear(undisturbed.path(), &config, usize::MAX).expect("trains");
    assert!(whole.complete && whole.epochs.len() == 3);
    let interrupted = tempfile::tempdir().expect("a folder");
    // Epochs of three batches: in the first epoch, at the end of the second, in the third.
    for (until, epochs) in [(2, 0), (4, 2), (1, 2)] {
        let part = linear(interrupted.path(), &config, until).expect("trains");
        assert_eq!((part.complete, part.epochs.len()), (false, epochs));
    }
    let resumed = linear(interrupted.path(), &config, usize::MAX).expect("trains");
    assert!(resumed.complete);
    assert_eq!(resumed.epochs, whole.epochs);
    for (name, array) in &whole.weights {
        assert_eq!(array, &resumed.weights[name], "{name}");
    }
    let best = |dir: &Path| std::fs::read(dir.join("linear-best.safetensors")).expect("the best");
    assert_eq!(best(undisturbed.path()), best(interrupted.path()));
    // Nothing is left to do, and nothing else is done in its place.
    let again = linear(interrupted.path(), &config, usize::MAX).expect("trains");
    assert_eq!(again.weights, whole.weights);
    let other = LinearConfig { lr: 0.2, ..config };
    let error = linear(interrupted.path(), &other, usize::MAX)
        .expect_err("refused")
        .to_string();
    assert!(
        error.contains("linear-state.safetensors") && error.contains("other settings"),
        "{error}"
    );
}
