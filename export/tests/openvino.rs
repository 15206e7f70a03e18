//! ONNX Runtime with OpenVINO as its execution provider, from the library that `SELFCLS_OPENVINO_DYLIB` names
//! (`cargo xtask setup openvino` fetches one).

#![cfg(feature = "openvino")]

mod support;

use selfcls_core::config::Arch;
use selfcls_export::{
    Classifier, EngineChoice, HeadSelection, OpenVinoDevice, Options, Provider, StreamOptions,
};
use std::path::PathBuf;
use support::model::{Example, hashed_images};
use support::{close, file, options, reference};

const VARIABLE: &str = "SELFCLS_OPENVINO_DYLIB";
const PROCESSOR: Provider = Provider::OpenVino(OpenVinoDevice::Cpu);

/// Runs `test` with options for the library, or lists it as not run.
fn with_library(name: &str, test: impl FnOnce(Options)) {
    match std::env::var_os(VARIABLE).filter(|path| !path.is_empty()) {
        Some(path) => test(options(&EngineChoice::OnnxRuntimeAt(PathBuf::from(path)))),
        None => support::not_run(
            &format!("openvino::{name}"),
            "no ONNX Runtime with OpenVINO: `cargo xtask setup openvino` fetches one",
        ),
    }
}

/// In 32 bits, also where the processor has faster instructions for 16: within the same 1e-5 as every engine.
#[test]
fn openvino_agrees_with_the_reference() {
    with_library("openvino_agrees_with_the_reference", |options| {
        let example = Example::golden();
        let bytes = file(&example, HeadSelection::All);
        let open = |options: &Options| {
            Classifier::from_bytes(bytes.clone(), options).expect("an own file opens")
        };
        let processor = open(&options);
        for options in [
            options.clone().provider(PROCESSOR),
            options.clone().provider(PROCESSOR).runs(2),
        ] {
            let classifier = open(&options);
            let runs_on = classifier.runs_on();
            assert!(runs_on.ends_with("with OpenVINO on CPU"), "{runs_on}");
            for batch in [1, 2, 7] {
                let images = hashed_images(batch as u64, batch, 64);
                let expected = reference::forward(&example.model, &example.weights, &images, 64);
                let got = classifier.run(&images).expect("runs");
                close("embedding", &got.embedding, &expected.embedding);
                close(
                    "probabilities",
                    &got.probabilities,
                    &expected.probabilities[0],
                );
                for (head, logits) in expected.logits.iter().enumerate() {
                    let own = got.head(head).expect("every head is exported");
                    close("logits", &own.values, logits);
                }
                // Other sums in another order: it was not ONNX Runtime's own arithmetic.
                let own = processor.run(&images).expect("runs");
                assert_ne!(got.embedding, own.embedding);
            }
        }
    });
}

/// In 16 bits where that was asked for and the processor has them: other numbers, but not by much. What is given by name
/// reaches OpenVINO, which refuses what it does not know (and writes its name, which its error does not have).
#[test]
fn openvino_is_told() {
    with_library("openvino_is_told", |options| {
        let bytes = file(&Example::golden(), HeadSelection::All);
        let open = |options: &Options| Classifier::from_bytes(bytes.clone(), options);
        let images = hashed_images(3, 4, 64);
        let run = |options: &Options| {
            let classifier = open(options).expect("opens");
            classifier.run(&images).expect("runs").probabilities
        };
        let off = |a: &[f32], b: &[f32]| -> f32 {
            assert_eq!(a.len(), b.len());
            let differences = a.iter().zip(b).map(|(a, b)| (a - b).abs());
            // Not `f32::max`, which would swallow a NaN.
            differences.fold(0.0, |a, b| if b > a || b.is_nan() { b } else { a })
        };
        let options = options.provider(PROCESSOR);
        let full = run(&options);
        let half = options.clone().half_precision(true);
        let runs_on = open(&half).expect("opens").runs_on();
        assert!(
            runs_on.ends_with("with OpenVINO on CPU in half precision"),
            "{runs_on}"
        );
        let halved = run(&half);
        assert!(off(&full, &halved) < 0.05, "{full:?} {halved:?}");
        let has_bf16 = std::fs::read_to_string("/proc/cpuinfo")
            .is_ok_and(|info| info.contains("avx512_bf16") || info.contains("amx_bf16"));
        if has_bf16 {
            assert!(off(&full, &halved) > 1e-5, "they are the same");
        }
        // The same, by name.
        let hint = r#"{"CPU":{"INFERENCE_PRECISION_HINT":"bf16"}}"#;
        let by_name = options
            .clone()
            .provider_option("openvino", "load_config", hint);
        assert_eq!(run(&by_name), halved);
        let unknown = options.provider_option("openvino", "no_such_option", "1");
        let message = open(&unknown).expect_err("refused").to_string();
        assert!(message.contains("provider OpenVINO"), "{message}");
    });
}

#[test]
fn openvino_classifies_images() {
    with_library("openvino_classifies_images", |options| {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples");
        let [model, image] = ["shapes.onnx", "disc.png"].map(|name| format!("{folder}/{name}"));
        let own = Classifier::open(&model, &options).expect("opens");
        let options = options.provider(PROCESSOR).many(true);
        let classifier = Classifier::open(&model, &options).expect("opens");
        let expected = own.classify_file(&image).expect("classifies");
        let probabilities: Vec<f64> = expected.probabilities.iter().map(|&p| p.into()).collect();
        let stream = StreamOptions::default().batch(3);
        let images = vec![PathBuf::from(image); 8];
        for (_, answer) in stream.start(&classifier, images).expect("starts") {
            let answer = answer.expect("classifies");
            assert_eq!(answer.class(), expected.class());
            close("probabilities", &answer.probabilities, &probabilities);
        }
    });
}

#[test]
fn openvino_runs_transformers() {
    with_library("openvino_runs_transformers", |options| {
        let bytes = file(&Example::kept(Arch::VitSmall), HeadSelection::All);
        let open =
            |options: &Options| Classifier::from_bytes(bytes.clone(), options).expect("opens");
        let images = hashed_images(1, 3, 16);
        let expected = open(&options).run(&images).expect("runs").embedding;
        let expected: Vec<f64> = expected.into_iter().map(f64::from).collect();
        let got = open(&options.provider(PROCESSOR))
            .run(&images)
            .expect("runs");
        close("embedding", &got.embedding, &expected);
    });
}
