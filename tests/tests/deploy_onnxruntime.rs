//! Exported files in ONNX Runtime, where its library is found.

#![allow(clippy::expect_used, reason = "a failed expectation is a failed test")]
#![cfg(feature = "flex")]

mod deploy;

use selfcls_export::inference::{LIBRARY_VARIABLE, Library};
use selfcls_export::{EngineChoice, Options};
use selfcls_tests::not_run;

/// Whether there is a library; notes the test as not run if there is none.
fn has_library(test: &str) -> bool {
    // A path that is given must work; without one there may be none.
    let there = std::env::var_os(LIBRARY_VARIABLE).is_some() || Library::search().0.is_some();
    if !there {
        let reason = "no ONNX Runtime library: `cargo xtask setup onnxruntime` fetches one";
        not_run(&format!("deploy_onnxruntime::{test}"), reason);
    }
    there
}

#[test]
fn exports_agree_with_burn() {
    if !has_library("exports_agree_with_burn") {
        return;
    }
    let options = Options {
        engine: EngineChoice::OnnxRuntime,
        ..Options::default()
    };
    deploy::agrees_with_burn(&options, "ONNX Runtime");
}

#[test]
fn every_form_agrees_with_burn() {
    if has_library("every_form_agrees_with_burn") {
        deploy::forms_agree_with_burn(&EngineChoice::OnnxRuntime, &deploy::photos());
    }
}

#[test]
fn resizing_in_the_file_agrees_with_our_own() {
    if has_library("resizing_in_the_file_agrees_with_our_own") {
        deploy::resizing_agrees(&EngineChoice::OnnxRuntime, &deploy::photos());
    }
}

#[test]
fn unusual_sizes_agree_with_our_own() {
    if has_library("unusual_sizes_agree_with_our_own") {
        deploy::unusual_sizes_agree(&EngineChoice::OnnxRuntime, &deploy::photos());
    }
}
