//! ONNX Runtime, from `ORT_DYLIB_PATH` or the checkout's `.deps/onnxruntime`.

mod support;

use selfcls_export::{Engine, EngineChoice};

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

#[test]
fn keeps_its_engine() {
    with_library("keeps_its_engine", |choice| {
        let refused = [
            EngineChoice::Tract,
            EngineChoice::OnnxRuntimeAt("another/libonnxruntime.so".into()),
        ];
        support::keeps_its_engine(choice, &refused);
        match selfcls_export::inference::in_use() {
            Some(Engine::OnnxRuntime(library)) => assert!(library.version.starts_with("1.")),
            other => panic!("{other:?}"),
        }
    });
}
