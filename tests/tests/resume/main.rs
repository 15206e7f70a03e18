//! A run or a linear evaluation that is interrupted, wherever it is, ends as the undisturbed one does: to the bit, on flex.

#![allow(clippy::expect_used, reason = "a failed expectation is a failed test")]
#![cfg(feature = "flex")]

mod evaluation;
mod late;
mod monitor;

use selfcls_backends::{Selection, open};
use selfcls_core::Config;
use selfcls_core::checkpoint;
use selfcls_core::config::OptimKind;
use selfcls_core::data::Shapes;
use selfcls_core::runtime::Runtime;
use selfcls_core::train::{Event, Outcome, run};
use selfcls_tests::small_config;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const SAMPLES: usize = 64;
const STEPS: usize = 3 * 8;

fn config(kind: OptimKind) -> Config {
    let mut config = small_config();
    config.model.heads = vec![10, 20];
    config.queue.length = 24;
    config.optim.kind = kind;
    config.optim.lr = 0.01;
    config.optim.start_lr = 0.001;
    config.optim.warmup_epochs = 1;
    config.train.epochs = 3;
    config.train.batch_size = 8;
    config
}

/// Trains in `dir` until step `until`, as a process that is asked to stop there.
fn train(dir: &Path, config: &Config, until: usize) -> Outcome {
    train_on(dir, config, until, false)
}

/// [`train`], reading losses a step late where the device is said to be asynchronous.
fn train_on(dir: &Path, config: &Config, until: usize, asynchronous: bool) -> Outcome {
    let selection: Selection = "flex".parse().expect("a backend");
    let device = open(&selection).expect("flex runs everywhere").device;
    let runtime = Runtime {
        asynchronous,
        ..Runtime::new(device)
    };
    train_in(dir, config, until, runtime)
}

fn train_in(dir: &Path, config: &Config, until: usize, runtime: Runtime) -> Outcome {
    let stop = AtomicBool::new(false);
    let mut listen = |event: &Event| {
        if let Event::Step(step) = event
            && step.step == until
        {
            stop.store(true, Ordering::Relaxed);
        }
    };
    let source = Arc::new(Shapes::new(SAMPLES, 0, 20));
    run(dir, config.clone(), source, runtime, &mut listen, &stop).expect("trains")
}

/// Every array and number of the newest checkpoint, and the journal without its clock times.
fn result(dir: &Path) -> (checkpoint::Snapshot, Vec<serde_json::Value>) {
    let path = checkpoint::find(dir).expect("a checkpoint");
    let text = std::fs::read_to_string(dir.join("metrics.jsonl")).expect("a journal");
    let journal = text
        .lines()
        .map(|line| {
            let mut line: serde_json::Value = serde_json::from_str(line).expect("JSON");
            let fields = line.as_object_mut().expect("an object");
            // Means over this process's part of an epoch, and clock times.
            for name in ["seconds", "images_per_second", "neighbour_accuracy"] {
                fields.remove(name);
            }
            line
        })
        .collect();
    (checkpoint::load(&path).expect("loads"), journal)
}

fn interrupted_equals_undisturbed(config: Config, stops: &[usize]) {
    let undisturbed = tempfile::tempdir().expect("a folder");
    assert!(train(undisturbed.path(), &config, usize::MAX).complete);
    let interrupted = tempfile::tempdir().expect("a folder");
    for &stop in stops {
        let outcome = train(interrupted.path(), &config, stop);
        assert!(!outcome.complete);
        assert_eq!(outcome.step, stop);
    }
    assert!(train(interrupted.path(), &config, usize::MAX).complete);
    let (expected, journal) = result(undisturbed.path());
    assert_eq!(expected.manifest.position.step, STEPS);
    assert!(expected.queue.as_ref().is_some_and(|queue| queue.full));
    let (actual, resumed_journal) = result(interrupted.path());
    // Compared piece by piece: a difference in the whole would print everything.
    for (name, array) in &expected.model {
        assert_eq!(array, &actual.model[name], "{name}");
    }
    for (name, array) in &expected.optimizer.moments {
        assert_eq!(array, &actual.optimizer.moments[name], "{name}");
    }
    assert!(expected == actual, "manifests or queues differ");
    assert_eq!(journal, resumed_journal);
}

/// On libtorch in fp16: the factor on the loss, which an overflow has lowered, goes on where it was.
#[cfg(feature = "tch")]
#[test]
fn the_loss_scale_resumes() {
    use selfcls_core::config::Precision;
    use selfcls_core::loss_scale::LossScale;
    let mut config = config(OptimKind::Sgd);
    config.train.precision = Precision::Fp16;
    config.train.epochs = 1;
    // Neighbours that are equally near would be another matter.
    config.queue.length = 0;
    // Colder than usual, so that the first gradients overflow.
    config.loss.row_temperature = 1e-3;
    config.loss.col_temperature = 1e-3;
    let runtime = || {
        let opened = open(&"tch:cpu".parse().expect("a backend")).expect("libtorch has a CPU");
        opened.runtime(Precision::Fp16).expect("libtorch has fp16")
    };
    let [undisturbed, interrupted] = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
    assert!(train_in(undisturbed.path(), &config, usize::MAX, runtime()).complete);
    assert_eq!(train_in(interrupted.path(), &config, 4, runtime()).step, 4);
    let (stopped, _) = result(interrupted.path());
    let (scale, initial) = (
        stopped.manifest.loss_scale.expect("fp16 scales its loss"),
        LossScale::for_precision(Precision::Fp16).expect("fp16 scales its loss"),
    );
    assert!(
        scale.factor < initial.factor,
        "nothing overflowed: {scale:?}"
    );
    assert!(train_in(interrupted.path(), &config, usize::MAX, runtime()).complete);
    let ((expected, journal), (actual, resumed_journal)) =
        (result(undisturbed.path()), result(interrupted.path()));
    assert_eq!(actual.manifest.loss_scale, expected.manifest.loss_scale);
    for (name, array) in &expected.model {
        assert_eq!(array, &actual.model[name], "{name}");
    }
    assert_eq!(journal, resumed_journal);
}

/// In the middle of epochs, before and after the queue is full, and at the very end of one.
#[test]
fn adamw_resumes_to_the_bit() {
    interrupted_equals_undisturbed(config(OptimKind::AdamW), &[2, 5, 13, 16]);
}

/// LARC has one momentum instead of two moments.
#[test]
fn larc_resumes_to_the_bit() {
    interrupted_equals_undisturbed(config(OptimKind::Larc), &[11]);
}

/// Batches in parts end at the same places.
#[test]
fn accumulation_resumes_to_the_bit() {
    let mut config = config(OptimKind::LarcAdamW);
    config.train.accumulate = 4;
    interrupted_equals_undisturbed(config, &[3, 14]);
}

/// A crash can leave a half-written checkpoint and a line cut off: both are made good.
#[test]
fn remains_of_a_crash_do_no_harm() {
    let config = config(OptimKind::AdamW);
    let dir = tempfile::tempdir().expect("a folder");
    train(dir.path(), &config, 9);
    let partial = dir.path().join("checkpoints/.step-00000010.partial");
    std::fs::create_dir(&partial).expect("creates");
    std::fs::write(partial.join("model.safetensors"), "half").expect("writes");
    let journal = dir.path().join("metrics.jsonl");
    let mut text = std::fs::read_to_string(&journal).expect("a journal");
    text.push_str("{\"kind\":\"step\",\"epoch\":2,\"step\":10,\"loss\":1.0}\n{\"kind\":\"st");
    std::fs::write(&journal, text).expect("writes");
    assert!(train(dir.path(), &config, usize::MAX).complete);
    let (_, lines) = result(dir.path());
    let steps: Vec<u64> = lines
        .iter()
        .filter(|line| line["kind"] == "step")
        .map(|line| line["step"].as_u64().expect("a number"))
        .collect();
    assert_eq!(steps, (1..=STEPS as u64).collect::<Vec<_>>());
}

/// Other settings, other data and a folder that is no run are refused with the reason.
#[test]
fn what_cannot_be_continued_is_refused() {
    let config = config(OptimKind::AdamW);
    let dir = tempfile::tempdir().expect("a folder");
    train(dir.path(), &config, 3);
    let attempt = |dir: &Path, config: &Config, samples: usize| -> String {
        let selection: Selection = "flex".parse().expect("a backend");
        let runtime = Runtime::new(open(&selection).expect("opens").device);
        let source = Arc::new(Shapes::new(samples, 0, 20));
        let stop = AtomicBool::new(false);
        let result = run(dir, config.clone(), source, runtime, &mut |_| (), &stop);
        result.expect_err("refused").to_string()
    };
    let mut other = config.clone();
    other.optim.lr = 0.02;
    let message = attempt(dir.path(), &other, SAMPLES);
    assert!(message.contains("optim.lr is 0.01, now 0.02"), "{message}");
    let message = attempt(dir.path(), &config, SAMPLES + 8);
    assert!(
        message.contains("64 images") && message.contains("72"),
        "{message}"
    );
    // What does not touch the learning may change.
    let mut free = config.clone();
    free.checkpoint.every_steps = 4;
    free.train.log_every = 2;
    free.train.bucket_mib = 2.0;
    assert!(train(dir.path(), &free, usize::MAX).complete);

    let photos = tempfile::tempdir().expect("a folder");
    std::fs::write(photos.path().join("cat.jpg"), "meow").expect("writes");
    let message = attempt(photos.path(), &config, SAMPLES);
    assert!(
        message.contains("not a run directory") && message.contains("cat.jpg"),
        "{message}"
    );
}
