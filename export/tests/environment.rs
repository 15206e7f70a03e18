//! The choice of the engine follows `ORT_DYLIB_PATH`. A process chooses once and its environment cannot
//! be changed safely, so each case is this program started again.

#![allow(clippy::print_stdout)]

mod support;

use selfcls_export::{Classifier, EngineChoice, HeadSelection, Provider};
use std::path::Path;
use std::process::{Command, Output};
use support::model::Example;

const CASE: &str = "SELFCLS_TEST_CASE";

/// Does the work of a case; does nothing where no case is asked for.
#[test]
fn child() {
    let Ok(case) = std::env::var(CASE) else {
        return;
    };
    let bytes = support::file(&Example::golden(), HeadSelection::All);
    let open = |choice| Classifier::from_bytes(bytes.clone(), &support::options(&choice));
    match case.as_str() {
        "auto" => match open(EngineChoice::Auto) {
            Ok(classifier) => println!("engine: {}", classifier.engine()),
            Err(error) => println!("error: {error}"),
        },
        // A failed request leaves the process free to choose another engine.
        "recover" => {
            let error = open(EngineChoice::OnnxRuntime).expect_err("the library is bad");
            println!("error: {error}");
            let classifier = open(EngineChoice::Tract).expect("tract needs nothing");
            println!("engine: {}", classifier.engine());
        }
        // Neither does one for what no library can give.
        "provider" => {
            let options = support::options(&EngineChoice::Auto).provider(Provider::CoreMl);
            let error = Classifier::from_bytes(bytes.clone(), &options).expect_err("refused");
            println!("error: {error}");
            let classifier = open(EngineChoice::Tract).expect("tract needs nothing");
            println!("engine: {}", classifier.engine());
        }
        "none" => match open(EngineChoice::OnnxRuntime) {
            Ok(classifier) => println!("engine: {}", classifier.engine()),
            Err(error) => println!("error: {error}"),
        },
        other => panic!("no case {other}"),
    }
}

fn run(case: &str, library: &Path) -> String {
    let Output { status, stdout, .. } =
        Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "child", "--nocapture"])
            .env(CASE, case)
            .env("ORT_DYLIB_PATH", library)
            .output()
            .expect("starts");
    assert!(status.success(), "{case}: {status}");
    String::from_utf8(stdout).expect("text")
}

#[test]
fn a_bad_variable_is_an_error_and_not_a_silent_fallback() {
    let said = run("auto", Path::new("/no/such/libonnxruntime.so"));
    assert!(said.contains("error: ORT_DYLIB_PATH is set, but"), "{said}");
    assert!(said.contains("/no/such/libonnxruntime.so"), "{said}");
}

#[test]
fn another_engine_can_be_chosen_after_an_error() {
    let said = run("recover", Path::new("/no/such/libonnxruntime.so"));
    assert!(said.contains("error: ORT_DYLIB_PATH is set, but"), "{said}");
    assert!(said.contains("engine: tract (built in)"), "{said}");
}

#[test]
fn a_provider_that_cannot_be_had_does_not_choose_an_engine() {
    let said = run("provider", Path::new(""));
    assert!(said.contains("error: CoreML"), "{said}");
    assert!(said.contains("engine: tract (built in)"), "{said}");
}

/// Without a library there is an error that says what was looked for, where, and what to do.
#[test]
fn a_missing_library_is_an_error_with_the_places() {
    let said = run("none", Path::new(""));
    if said.contains("engine: ONNX Runtime") {
        // The system has one.
        return;
    }
    let own = std::env::current_exe().expect("this program");
    let own = own.parent().expect("a folder").display().to_string();
    for part in [
        "error: no ONNX Runtime library found",
        "onnxruntime",
        &own,
        "ORT_DYLIB_PATH",
    ] {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
}

#[test]
fn the_variable_chooses_onnx_runtime() {
    let Some(path) = support::onnxruntime() else {
        return support::not_run(
            "environment::the_variable_chooses_onnx_runtime",
            "no ONNX Runtime library (set ORT_DYLIB_PATH)",
        );
    };
    let said = run("auto", &path);
    assert!(said.contains("engine: ONNX Runtime 1."), "{said}");
}
