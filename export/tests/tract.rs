//! The built-in engine.

mod support;

use selfcls_export::EngineChoice;

const TRACT: EngineChoice = EngineChoice::Tract;

#[test]
fn agrees_with_the_reference() {
    support::agrees_with_the_reference(&TRACT);
}

#[test]
fn agrees_with_the_authors() {
    support::agrees_with_the_authors(&TRACT);
}

#[test]
fn exports_one_head() {
    support::exports_one_head(&TRACT);
}

#[test]
fn classifies_images() {
    support::classifies_images(&TRACT);
}

#[test]
fn shares_work() {
    support::shares_work(&TRACT);
}

#[test]
fn refuses_wrong_sizes() {
    support::refuses_wrong_sizes(&TRACT);
}

#[test]
fn refuses_what_is_not_finite() {
    support::refuses_what_is_not_finite(&TRACT);
}

#[test]
fn keeps_its_engine() {
    let mut refused = vec![EngineChoice::OnnxRuntime];
    refused.extend(support::onnxruntime().map(EngineChoice::OnnxRuntimeAt));
    support::keeps_its_engine(&TRACT, &refused);
}
