//! The built-in engine.

mod support;

use selfcls_export::{Classifier, EngineChoice, HeadSelection, Provider};

const TRACT: EngineChoice = EngineChoice::Tract;

#[test]
fn the_comparison_can_fail() {
    support::the_comparison_can_fail();
}

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
fn streams_in_order() {
    support::answers::streams_in_order(&TRACT);
}

#[test]
fn streams_without_end() {
    support::answers::streams_without_end(&TRACT);
}

#[test]
fn one_image_fails_alone() {
    support::answers::one_image_fails_alone(&TRACT);
}

#[test]
fn streams_outputs() {
    support::answers::streams_outputs(&TRACT);
}

#[test]
fn takes_what_holds_pictures() {
    support::answers::takes_what_holds_pictures(&TRACT);
}

#[test]
fn takes_files() {
    support::answers::takes_files(&TRACT);
}

#[test]
fn chooses_a_head() {
    support::answers::chooses_a_head(&TRACT);
}

#[test]
fn opens_foreign_files() {
    support::answers::opens_foreign_files(&TRACT);
}

#[test]
fn is_shared() {
    support::answers::is_shared(&TRACT);
}

#[test]
fn runs_side_by_side() {
    support::answers::runs_side_by_side(&TRACT);
}

#[test]
fn has_no_execution_providers() {
    let bytes = support::file(&support::model::Example::golden(), HeadSelection::All);
    let options = support::options(&TRACT).provider(Provider::Cuda(0));
    let message = Classifier::from_bytes(bytes, &options).expect_err("refused");
    let message = message.to_string();
    assert!(message.contains("CUDA device 0 was asked for"), "{message}");
    assert!(message.contains("ORT_DYLIB_PATH"), "{message}");
}

#[test]
fn takes_bytes() {
    support::inputs::takes_bytes(&TRACT);
}

#[test]
fn takes_every_form() {
    support::inputs::takes_every_form(&TRACT);
}

#[test]
fn gives_what_there_is() {
    support::inputs::gives_what_there_is(&TRACT);
}

#[test]
fn reads_external_weights() {
    support::inputs::reads_external_weights(&TRACT);
}

#[test]
fn opens_quantised_files() {
    support::quantised::opens_quantised_files(&TRACT);
}
