//! ONNX Runtime, from `ORT_DYLIB_PATH` or the checkout's `.deps/onnxruntime`.

mod support;

use selfcls_export::{Classifier, Engine, EngineChoice, HeadSelection, Provider};

/// Runs `test` with the library, or lists it as not run.
fn with_library(name: &str, test: impl FnOnce(&EngineChoice)) {
    match support::onnxruntime() {
        Some(path) => test(&EngineChoice::OnnxRuntimeAt(path)),
        None => support::not_run(
            &format!("onnxruntime::{name}"),
            "no ONNX Runtime library (set ORT_DYLIB_PATH)",
        ),
    }
}

#[test]
fn agrees_with_the_reference() {
    with_library(
        "agrees_with_the_reference",
        support::agrees_with_the_reference,
    );
}

#[test]
fn agrees_with_the_authors() {
    with_library("agrees_with_the_authors", support::agrees_with_the_authors);
}

#[test]
fn exports_one_head() {
    with_library("exports_one_head", support::exports_one_head);
}

#[test]
fn classifies_images() {
    with_library("classifies_images", support::classifies_images);
}

#[test]
fn shares_work() {
    with_library("shares_work", support::shares_work);
}

#[test]
fn refuses_wrong_sizes() {
    with_library("refuses_wrong_sizes", support::refuses_wrong_sizes);
}

#[test]
fn refuses_what_is_not_finite() {
    with_library(
        "refuses_what_is_not_finite",
        support::refuses_what_is_not_finite,
    );
}

/// What the loaded library satisfies is accepted, another library refused; tract is there beside it.
#[test]
fn keeps_its_library() {
    with_library("keeps_its_library", |choice| {
        let bytes = support::file(&support::model::Example::golden(), HeadSelection::All);
        let open = |choice: &EngineChoice| {
            Classifier::from_bytes(bytes.clone(), &support::options(choice))
        };
        let first = open(choice).expect("opens");
        let library = selfcls_export::inference::in_use().expect("a classifier is open");
        assert!(library.version.starts_with("1."), "{library:?}");
        let in_use = Engine::OnnxRuntime(library);
        for choice in [choice, &EngineChoice::OnnxRuntime, &EngineChoice::Auto] {
            assert_eq!(open(choice).expect("opens").engine(), &in_use);
        }
        let another = EngineChoice::OnnxRuntimeAt("another/libonnxruntime.so".into());
        let message = open(&another).expect_err("refused").to_string();
        assert!(message.contains("cannot change to"), "{message}");
        assert!(message.contains(&in_use.to_string()), "{message}");

        let tract = open(&EngineChoice::Tract).expect("is always there");
        assert_eq!(tract.engine(), &Engine::Tract);
        let images = support::model::hashed_images(1, 2, 64);
        let both = [first, tract].map(|one| one.run(&images).expect("runs").probabilities);
        let expected: Vec<f64> = both[0].iter().map(|&p| p.into()).collect();
        support::close("probabilities", &both[1], &expected);
    });
}

#[test]
fn streams_in_order() {
    with_library("streams_in_order", support::answers::streams_in_order);
}

#[test]
fn streams_without_end() {
    with_library("streams_without_end", support::answers::streams_without_end);
}

#[test]
fn one_image_fails_alone() {
    with_library(
        "one_image_fails_alone",
        support::answers::one_image_fails_alone,
    );
}

#[test]
fn streams_outputs() {
    with_library("streams_outputs", support::answers::streams_outputs);
}

#[test]
fn takes_files() {
    with_library("takes_files", support::answers::takes_files);
}

#[test]
fn chooses_a_head() {
    with_library("chooses_a_head", support::answers::chooses_a_head);
}

#[test]
fn opens_foreign_files() {
    with_library("opens_foreign_files", support::answers::opens_foreign_files);
}

#[test]
fn is_shared() {
    with_library("is_shared", support::answers::is_shared);
}

#[test]
fn runs_side_by_side() {
    with_library("runs_side_by_side", support::answers::runs_side_by_side);
}

/// Neither a panic nor the processor instead: an error that says what to do.
#[test]
fn a_provider_that_cannot_be_had_is_an_error() {
    with_library("a_provider_that_cannot_be_had_is_an_error", |choice| {
        let bytes = support::file(&support::model::Example::golden(), HeadSelection::All);
        // No library has both, and no machine.
        for provider in [Provider::CoreMl, Provider::DirectMl(0)] {
            if cfg!(any(target_os = "macos", windows)) {
                continue;
            }
            let options = support::options(choice).provider(provider);
            let message = Classifier::from_bytes(bytes.clone(), &options).expect_err("refused");
            let message = message.to_string();
            assert!(message.contains(&provider.to_string()), "{message}");
            assert!(
                message.contains("without") || message.contains("feature"),
                "{message}"
            );
        }
    });
}

#[test]
fn takes_bytes() {
    with_library("takes_bytes", support::inputs::takes_bytes);
}

#[test]
fn takes_every_form() {
    with_library("takes_every_form", support::inputs::takes_every_form);
}

#[test]
fn gives_what_there_is() {
    with_library("gives_what_there_is", support::inputs::gives_what_there_is);
}

#[test]
fn reads_external_weights() {
    with_library(
        "reads_external_weights",
        support::inputs::reads_external_weights,
    );
}

#[test]
fn opens_quantised_files() {
    with_library(
        "opens_quantised_files",
        support::quantised::opens_quantised_files,
    );
}
