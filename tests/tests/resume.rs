//! A run or a linear evaluation that is interrupted, wherever it is, ends as the undisturbed one does: to the bit, on flex.

#![allow(clippy::expect_used, reason = "a failed expectation is a failed test")]
#![cfg(feature = "flex")]

use burn::tensor::{Device, Int, Tensor};
use selfcls_backends::{Selection, open};
use selfcls_core::Config;
use selfcls_core::Result;
use selfcls_core::checkpoint;
use selfcls_core::config::OptimKind;
use selfcls_core::data::Shapes;
use selfcls_core::eval::linear::{self, CropFeed, Linear, LinearConfig, LinearEvent, Probe, Then};
use selfcls_core::kernels::{
    BatchNormOutput, Kernels, PendingRead, PlainKernels, RunningStatistics,
};
use selfcls_core::runtime::Runtime;
use selfcls_core::train::{Event, Outcome, run};
use selfcls_tests::small_config;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

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

/// On a GPU the loss is read when the next step is under way: events come later, and nothing else changes.
#[test]
fn reading_losses_late_changes_nothing() {
    let mut config = config(OptimKind::AdamW);
    config.checkpoint.every_steps = 3;
    let prompt = tempfile::tempdir().expect("a folder");
    assert!(train_on(prompt.path(), &config, usize::MAX, false).complete);
    let late = tempfile::tempdir().expect("a folder");
    for (heard, made) in [(4, 5), (8, 8), (11, 12)] {
        // 4: the event comes when step 5 is under way, and the run stops behind it. 8 ends an epoch, and
        // 12 is to be saved: there the trainer waits, but the request came with the event before.
        let outcome = train_on(late.path(), &config, heard, true);
        assert_eq!((outcome.complete, outcome.step), (false, made));
    }
    assert!(train_on(late.path(), &config, usize::MAX, true).complete);
    let (expected, journal) = result(prompt.path());
    let (actual, late_journal) = result(late.path());
    assert!(expected == actual, "the checkpoints differ");
    assert_eq!(journal, late_journal);
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

/// A linear evaluation of random crops, stopped after so many batches; `usize::MAX` never.
fn linear(dir: &Path, config: &LinearConfig, until: usize) -> Result<linear::Outcome> {
    let selection: Selection = "flex".parse().expect("a backend");
    let runtime = Runtime::new(open(&selection).expect("flex runs everywhere").device);
    let mut settings = self::config(OptimKind::AdamW);
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

/// Every epoch, some, on other images, on images without labels: the training is the same to the bit.
#[test]
fn the_monitor_looks_and_changes_nothing() {
    let photos = tempfile::tempdir().expect("a folder");
    for index in 0..12 {
        use selfcls_core::data::Source;
        let image = Shapes::new(12, 3, 16).image(index).expect("drawn");
        let path = photos.path().join(format!("{index}.png"));
        selfcls_core::picture::write_png(&path, &image).expect("written");
    }
    let photos = photos.path().display().to_string();
    let without = {
        let mut config = config(OptimKind::AdamW);
        config.monitor.every_epochs = 0;
        let dir = tempfile::tempdir().expect("a folder");
        assert!(train(dir.path(), &config, usize::MAX).complete);
        let (snapshot, journal) = result(dir.path());
        assert!(journal.iter().all(|line| line["kind"] != "monitor"));
        snapshot
    };
    let cases = [
        ("", 1, 1000, vec![1, 2, 3], SAMPLES),
        ("shapes:40:1", 2, 20, vec![2], 20),
        (photos.as_str(), 3, 1000, vec![3], 12),
    ];
    for (data, every, samples, epochs, measured) in cases {
        let mut config = config(OptimKind::AdamW);
        config.monitor.data = data.into();
        config.monitor.every_epochs = every;
        config.monitor.samples = samples;
        config.eval.batch_size = 7;
        let dir = tempfile::tempdir().expect("a folder");
        // Stopped at the end of an epoch that is measured, and in the middle of one.
        for stop in [5, 16] {
            train(dir.path(), &config, stop);
        }
        assert!(train(dir.path(), &config, usize::MAX).complete);
        let (mut snapshot, journal) = result(dir.path());
        snapshot.manifest.config = without.manifest.config.clone();
        assert!(
            snapshot == without,
            "monitoring {data:?} changed the training"
        );
        let rows: Vec<&serde_json::Value> = journal
            .iter()
            .filter(|line| line["kind"] == "monitor")
            .collect();
        let found: Vec<u64> = rows
            .iter()
            .map(|row| row["epoch"].as_u64().expect("a number"))
            .collect();
        assert_eq!(found, epochs, "{data}");
        for row in rows {
            assert_eq!(row["samples"], measured);
            let heads = row["heads"].as_array().expect("heads");
            assert_eq!(heads.len(), 2);
            let labelled = measured != 12;
            for head in heads {
                assert!(head["effective"].as_f64().expect("a number") >= 1.0);
                assert_eq!(head["nmi"].is_number(), labelled, "{head}");
                assert_eq!(head["acc"].is_number(), labelled, "{head}");
            }
            assert_eq!(row["knn"].is_number(), labelled);
            let agreement = row["agreement"].as_f64().expect("two heads");
            assert!((0.0..=1.0).contains(&agreement));
        }
        let report = std::fs::read_to_string(dir.path().join("report.html")).expect("a report");
        assert!(report.contains(&format!("{measured} images")));
    }
}

/// Images that are not there are found before the first step; a monitor that fails later is a warning.
#[test]
fn a_monitor_that_cannot_look_does_not_end_the_training() {
    let photos = tempfile::tempdir().expect("a folder");
    for index in 0..2 {
        use selfcls_core::data::Source;
        let image = Shapes::new(2, 3, 16).image(index).expect("drawn");
        let path = photos.path().join(format!("{index}.png"));
        selfcls_core::picture::write_png(&path, &image).expect("written");
    }
    let mut config = config(OptimKind::AdamW);
    config.monitor.data = photos.path().display().to_string();
    config.data.cache_mib = 0;
    let selection: Selection = "flex".parse().expect("a backend");
    let runtime = Runtime::new(open(&selection).expect("flex runs everywhere").device);
    let dir = tempfile::tempdir().expect("a folder");
    let mut warnings = Vec::new();
    let mut listen = |event: &Event| match event {
        Event::Start { .. } => std::fs::remove_file(photos.path().join("1.png")).expect("removed"),
        Event::Warning(text) => warnings.push(text.clone()),
        _ => {}
    };
    let source = Arc::new(Shapes::new(SAMPLES, 0, 20));
    let never = AtomicBool::new(false);
    let outcome = run(
        dir.path(),
        config.clone(),
        source.clone(),
        runtime.clone(),
        &mut listen,
        &never,
    );
    assert!(outcome.expect("trains").complete);
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    assert!(
        warnings[0].contains("monitor") && warnings[0].contains("1.png"),
        "{warnings:?}"
    );
    config.monitor.data = "/nowhere/at/all".into();
    let other = tempfile::tempdir().expect("a folder");
    let error = run(other.path(), config, source, runtime, &mut |_| {}, &never);
    let error = error.expect_err("refused").to_string();
    assert!(error.contains("/nowhere/at/all"), "{error}");
}

/// Burn's operations, and a journal of what goes to the device, what is computed and what comes back.
#[derive(Debug, Clone, Default)]
struct Watched(Arc<Mutex<Vec<&'static str>>>);

impl Watched {
    fn note(&self, what: &'static str) {
        let mut journal = self.0.lock().expect("a journal");
        // A step has many convolutions.
        if journal.last() != Some(&what) {
            journal.push(what);
        }
    }
}

impl Kernels for Watched {
    fn upload(&self, values: Vec<f32>, device: &Device) -> Tensor<1> {
        self.note("upload");
        PlainKernels.upload(values, device)
    }

    fn upload_ints(&self, values: Vec<i64>, device: &Device) -> Tensor<1, Int> {
        self.note("upload");
        PlainKernels.upload_ints(values, device)
    }

    fn begin_read(&self, numbers: Tensor<1>) -> PendingRead {
        self.note("begin to read");
        let (journal, pending) = (self.clone(), PlainKernels.begin_read(numbers));
        Box::new(move || {
            journal.note("wait");
            pending()
        })
    }

    fn conv2d(
        &self,
        input: Tensor<4>,
        weight: Tensor<4>,
        stride: usize,
        padding: usize,
        groups: usize,
    ) -> Tensor<4> {
        self.note("compute");
        PlainKernels.conv2d(input, weight, stride, padding, groups)
    }

    fn batch_norm_train(
        &self,
        input: Tensor<4>,
        weight: Tensor<1>,
        bias: Tensor<1>,
        running: RunningStatistics,
        momentum: f64,
        eps: f64,
    ) -> BatchNormOutput {
        PlainKernels.batch_norm_train(input, weight, bias, running, momentum, eps)
    }

    fn batch_norm_eval(
        &self,
        input: Tensor<4>,
        weight: Tensor<1>,
        bias: Tensor<1>,
        running: RunningStatistics,
        eps: f64,
    ) -> Tensor<4> {
        PlainKernels.batch_norm_eval(input, weight, bias, running, eps)
    }
}

/// A device that works by itself has the next step to do while the numbers of one are waited for, and these were
/// asked for before it: waiting for them is not waiting for the next step.
#[test]
fn numbers_are_waited_for_when_the_next_step_is_under_way() {
    let mut config = config(OptimKind::Sgd);
    config.train.epochs = 1;
    config.monitor.every_epochs = 0;
    let dir = tempfile::tempdir().expect("a folder");
    let selection: Selection = "flex".parse().expect("a backend");
    let kernels = Watched::default();
    let runtime = Runtime {
        asynchronous: true,
        kernels: Arc::new(kernels.clone()),
        ..Runtime::new(open(&selection).expect("flex runs everywhere").device)
    };
    let source = Arc::new(Shapes::new(SAMPLES, 0, 20));
    let never = AtomicBool::new(false);
    run(dir.path(), config, source, runtime, &mut |_| (), &never).expect("trains");

    let journal = kernels.0.lock().expect("a journal").clone();
    let step = ["upload", "compute", "begin to read"];
    let steps = STEPS / 3;
    let mut expected = step.to_vec();
    for _ in 1..steps {
        expected.extend(step);
        expected.push("wait");
    }
    // The last step of an epoch has none behind it.
    expected.push("wait");
    expected.dedup();
    assert_eq!(journal, expected);
}
