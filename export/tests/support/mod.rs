//! What every engine must do; each engine's test binary runs it (a process is bound to one engine).

// Each test binary uses a part of it.
#![allow(dead_code, clippy::print_stdout)]

pub(crate) mod answers;
pub(crate) mod inputs;
pub(crate) mod model;
pub(crate) mod protobuf;
pub(crate) mod quantised;
pub(crate) mod reference;

use model::{Example, hashed_images};
use selfcls_core::config::{Arch, ModelConfig, Stem};
use selfcls_core::pixels::Rgb8;
use selfcls_export::{Classifier, EngineChoice, FileOptions, HeadSelection, OnnxWriter, Options};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Largest difference allowed between an engine and the reference.
const TOLERANCE: f64 = 1e-5;

/// Tells the test runner that `test` could not run here.
pub(crate) fn not_run(test: &str, reason: &str) {
    use std::io::Write;
    // To standard error itself: the harness swallows what a passing test prints.
    let _ = writeln!(std::io::stderr(), "NOT RUN: {test}: {reason}");
}

/// Names ONNX Runtime's library where the tests of a binary are to run in that: a process keeps its engine.
const LIBRARY: &str = "SELFCLS_TEST_LIBRARY";

/// The engine that this process tests: tract, unless [`again_in_onnxruntime`] has started it.
pub(crate) fn tested_engine() -> EngineChoice {
    match std::env::var_os(LIBRARY) {
        Some(path) => EngineChoice::OnnxRuntimeAt(path.into()),
        None => EngineChoice::Tract,
    }
}

/// All tests of this binary once more in a process of their own, with ONNX Runtime; `test` says so where there is none.
pub(crate) fn again_in_onnxruntime(test: &str) {
    let Some(path) = onnxruntime() else {
        return not_run(test, "no ONNX Runtime library (set ORT_DYLIB_PATH)");
    };
    let program = std::env::current_exe().expect("this program");
    let output = Command::new(program).env(LIBRARY, path).output();
    let output = output.expect("starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}: {said}", output.status);
}

/// ONNX Runtime's library: from `ORT_DYLIB_PATH`, or from `.deps/onnxruntime` of the checkout.
pub(crate) fn onnxruntime() -> Option<PathBuf> {
    let given = std::env::var_os("ORT_DYLIB_PATH").filter(|path| !path.is_empty());
    given.map(PathBuf::from).or_else(|| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.deps/onnxruntime");
        let files = std::fs::read_dir(folder).ok()?.flatten();
        let mut found = files.map(|entry| entry.path());
        found.find(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.contains("onnxruntime.") && !name.contains("providers")
        })
    })
}

/// Options for `choice` with two threads.
pub(crate) fn options(choice: &EngineChoice) -> Options {
    Options {
        engine: choice.clone(),
        threads: 2,
        ..Options::default()
    }
}

/// The file of `example` with `heads`.
pub(crate) fn file(example: &Example, heads: HeadSelection) -> Vec<u8> {
    let options = FileOptions {
        heads,
        ..FileOptions::default()
    };
    OnnxWriter::new(&example.model, &example.weights, example.metadata.clone())
        .options(options)
        .to_bytes()
        .expect("the example can be written")
}

fn open(choice: &EngineChoice, example: &Example) -> Classifier {
    Classifier::from_bytes(file(example, HeadSelection::All), &options(choice))
        .expect("an own file opens")
}

/// Fails unless all are within the tolerance.
#[track_caller]
pub(crate) fn close(what: &str, got: &[f32], expected: &[f64]) {
    within(what, TOLERANCE, got, expected);
}

/// Fails unless there are as many values as expected, and one or more, all of them finite and within `tolerance`.
#[track_caller]
pub(crate) fn within(what: &str, tolerance: f64, got: &[f32], expected: &[f64]) {
    assert_eq!(got.len(), expected.len(), "{what}");
    assert!(!expected.is_empty(), "{what}: nothing to compare");
    for (place, (&got, &expected)) in got.iter().zip(expected).enumerate() {
        assert!(expected.is_finite(), "{what}: {expected} is expected");
        let difference = (f64::from(got) - expected).abs();
        // False where it is not a number.
        let near = difference <= tolerance;
        assert!(near, "{what}: {got} instead of {expected} at {place}");
    }
}

/// What the comparisons here are worth.
pub(crate) fn the_comparison_can_fail() {
    within("equal", 0.1, &[1.0, 2.0], &[1.05, 2.0]);
    let nan = f32::NAN;
    for (got, expected) in [
        (&[1.2][..], &[1.0][..]),
        (&[nan, 1.0], &[1.0, 1.0]),
        (&[1.0, nan], &[1.0, f64::NAN]),
        (&[f32::INFINITY], &[f64::INFINITY]),
        (&[1.0], &[1.0, 1.0]),
        (&[], &[]),
    ] {
        let compared = std::panic::catch_unwind(|| within("", 0.1, got, expected));
        assert!(compared.is_err(), "{got:?} {expected:?}");
    }
}

/// Every variant of the model, at several batches, against the reference.
pub(crate) fn agrees_with_the_reference(choice: &EngineChoice) {
    let small = ModelConfig {
        backbone: Arch::ResNet10,
        width: 4,
        hidden_dim: 12,
        dim: 6,
        heads: vec![5],
        ..ModelConfig::default()
    };
    let variants = [
        (
            32,
            ModelConfig {
                heads: vec![3, 7, 4],
                ..small.clone()
            },
        ),
        (
            33,
            ModelConfig {
                stem: Stem::Cifar,
                head_bn: false,
                head_layers: 3,
                ..small.clone()
            },
        ),
        (
            16,
            ModelConfig {
                stem: Stem::CifarStride2,
                leaky: false,
                head_layers: 3,
                ..small.clone()
            },
        ),
        (
            16,
            ModelConfig {
                stem: Stem::Cifar,
                head_layers: 1,
                width: 3,
                ..small.clone()
            },
        ),
        (
            17,
            ModelConfig {
                stem: Stem::CifarStride2,
                head_layers: 0,
                dim: 32,
                ..small.clone()
            },
        ),
        (
            32,
            ModelConfig {
                backbone: Arch::ResNet18,
                ..small.clone()
            },
        ),
        (
            32,
            ModelConfig {
                backbone: Arch::ResNet50,
                width: 2,
                ..small.clone()
            },
        ),
        (
            9,
            ModelConfig {
                backbone: Arch::ResNext50,
                stem: Stem::CifarStride2,
                width: 16,
                ..small
            },
        ),
    ];
    for (side, model) in variants {
        let example = Example::new(model, side);
        let classifier = open(choice, &example);
        for batch in [1, 2, 7] {
            let images = hashed_images(batch as u64, batch, side);
            let expected = reference::forward(&example.model, &example.weights, &images, side);
            let got = classifier.run(&images).expect("runs");
            assert_eq!(got.batch, batch);
            let what = format!("{:?}, batch {batch}", example.model);
            close(
                &format!("embedding of {what}"),
                &got.embedding,
                &expected.embedding,
            );
            for (head, logits) in expected.logits.iter().enumerate() {
                let own = got.head(head).expect("every head is exported");
                close(&format!("logits.{head} of {what}"), &own.values, logits);
            }
            close(
                &format!("probabilities of {what}"),
                &got.probabilities,
                &expected.probabilities[0],
            );
        }
    }
}

/// The authors' own numbers.
pub(crate) fn agrees_with_the_authors(choice: &EngineChoice) {
    let text = include_str!("../fixtures/tiny_rn18w4_eval.json");
    let golden: serde_json::Value = serde_json::from_str(text).expect("the fixture is JSON");
    let values = |key: &str| -> Vec<f64> {
        let rows = golden[key].as_array().expect("rows").iter();
        rows.flat_map(|row| row.as_array().expect("row"))
            .map(|x| x.as_f64().expect("number"))
            .collect()
    };
    let classifier = open(choice, &Example::golden());
    let got = classifier.run(&hashed_images(0, 4, 64)).expect("runs");
    close("embedding", &got.embedding, &values("eval.embd"));
    for head in [0, 1] {
        let own = got.head(head).expect("both heads are exported");
        close(
            "logits",
            &own.values,
            &values(&format!("eval.logits.{head}")),
        );
    }
}

/// One head of several keeps its index and gives the probabilities.
pub(crate) fn exports_one_head(choice: &EngineChoice) {
    let example = Example::golden();
    let bytes = file(&example, HeadSelection::Only(vec![1]));
    let classifier = Classifier::from_bytes(bytes, &options(choice)).expect("opens");
    assert_eq!(classifier.metadata().default_head, 1);
    assert_eq!(classifier.metadata().heads, example.metadata.heads[1..]);
    let images = hashed_images(5, 2, 64);
    let expected = reference::forward(&example.model, &example.weights, &images, 64);
    let got = classifier.run(&images).expect("runs");
    assert!(got.head(0).is_none());
    close(
        "logits.1",
        &got.head(1).expect("exported").values,
        &expected.logits[1],
    );
    close(
        "probabilities",
        &got.probabilities,
        &expected.probabilities[1],
    );
}

/// Images of any size in, ranked and named classes out; batches equal single images.
pub(crate) fn classifies_images(choice: &EngineChoice) {
    let mut example = Example::golden();
    let names: Vec<String> = (0..10).map(|class| format!("group {class}")).collect();
    example.metadata.heads[0].names = Some(names.clone());
    let classifier = open(choice, &example);
    let images: Vec<Rgb8> = [(64, 64), (200, 90), (1, 1), (3, 500), (65, 64)]
        .into_iter()
        .enumerate()
        .map(|(i, (width, height))| {
            let bytes = (0..width * height * 3)
                .map(|p| (p * (7 + 4 * i)) as u8)
                .collect();
            Rgb8::new(width, height, bytes).expect("an image")
        })
        .collect();
    let together = classifier.classify_batch(&images).expect("classifies");
    assert_eq!(together.len(), images.len());
    for (image, batched) in images.iter().zip(&together) {
        let alone = classifier.classify(image).expect("classifies");
        assert_eq!(alone.class(), batched.class());
        let batched: Vec<f64> = batched.probabilities.iter().map(|&p| p.into()).collect();
        close("probabilities", &alone.probabilities, &batched);
        assert_eq!(alone.name(), Some(names[alone.class()].as_str()));
        let top = alone.top(3);
        assert_eq!((top.len(), top[0].probability), (3, alone.confidence()));
        assert!(top.is_sorted_by(|a, b| a.probability >= b.probability));
    }
    assert!(
        classifier
            .classify_batch::<Rgb8>(&[])
            .expect("no images")
            .is_empty()
    );
}

/// A batch larger than one run of the engine, and several callers at a time, give the same answers.
pub(crate) fn shares_work(choice: &EngineChoice) {
    let model = ModelConfig {
        backbone: Arch::ResNet10,
        stem: Stem::CifarStride2,
        width: 2,
        hidden_dim: 4,
        dim: 4,
        heads: vec![3],
        ..ModelConfig::default()
    };
    let example = Example::new(model, 8);
    let classifier = open(choice, &example);
    let batch = 600;
    let images = hashed_images(0, batch, 8);
    let expected = reference::forward(&example.model, &example.weights, &images, 8);
    close(
        "large batch",
        &classifier.run(&images).expect("runs").embedding,
        &expected.embedding,
    );

    std::thread::scope(|scope| {
        for part in 0..4 {
            let (classifier, images) = (&classifier, &images);
            let expected = &expected.embedding;
            scope.spawn(move || {
                for image in (part * 20)..(part * 20 + 20) {
                    let input = &images[image * 192..(image + 1) * 192];
                    let got = classifier.run(input).expect("runs");
                    close(
                        "concurrent call",
                        &got.embedding,
                        &expected[image * 4..image * 4 + 4],
                    );
                }
            });
        }
    });
}

/// Wrong sizes are errors; nothing is a valid batch.
pub(crate) fn refuses_wrong_sizes(choice: &EngineChoice) {
    let classifier = open(choice, &Example::golden());
    for wrong in [1, 3 * 64 * 64 - 1, 3 * 64 * 64 + 1, 3 * 63 * 63] {
        let message = classifier
            .run(&vec![0.0; wrong])
            .expect_err("refused")
            .to_string();
        assert!(message.contains("3 x 64 x 64"), "{message}");
    }
    let nothing = classifier.run(&[]).expect("an empty batch");
    assert_eq!((nothing.batch, nothing.logits.len()), (0, 2));
}

/// Values that are not finite give an error, not a label, wherever they come from.
pub(crate) fn refuses_what_is_not_finite(choice: &EngineChoice) {
    let mut example = Example::golden();
    let mut images = hashed_images(0, 1, 64);
    images[77] = f32::NAN;
    let message = open(choice, &example)
        .run(&images)
        .expect_err("refused")
        .to_string();
    assert!(message.contains("not finite"), "{message}");

    let last = example
        .weights
        .get_mut("mlp_head.mlp.3.weight")
        .expect("the head's last layer");
    last.data.fill(f32::MAX);
    let image = Rgb8::new(2, 2, vec![200; 12]).expect("an image");
    let classifier = open(choice, &example);
    let classified = classifier.classify(&image).map(drop);
    let computed = classifier.outputs(&[image]).map(drop);
    for refused in [classified, computed] {
        let message = refused.expect_err("refused").to_string();
        assert!(message.contains("not a finite number"), "{message}");
    }
}

/// The process keeps its engine: what it satisfies is accepted, everything else refused.
pub(crate) fn keeps_its_engine(choice: &EngineChoice, refused: &[EngineChoice]) {
    let classifier = open(choice, &Example::golden());
    let in_use = selfcls_export::inference::in_use().expect("a classifier is open");
    assert_eq!(&in_use, classifier.engine());
    assert_eq!(
        open(&EngineChoice::Auto, &Example::golden()).engine(),
        &in_use
    );
    let bytes = file(&Example::golden(), HeadSelection::All);
    for other in refused {
        let message = Classifier::from_bytes(bytes.clone(), &options(other))
            .expect_err("refused")
            .to_string();
        assert!(message.contains("cannot change to"), "{message}");
        assert!(message.contains(&in_use.to_string()), "{message}");
    }
}
