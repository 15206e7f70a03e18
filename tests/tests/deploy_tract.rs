//! Exported files in tract, the built-in engine.

#![allow(clippy::expect_used, reason = "a failed expectation is a failed test")]
#![cfg(feature = "flex")]

mod deploy;

use selfcls_export::{EngineChoice, Options};

#[test]
fn exports_agree_with_burn() {
    let options = Options {
        engine: EngineChoice::Tract,
        ..Options::default()
    };
    deploy::agrees_with_burn(&options, "tract");
}

#[test]
fn every_form_agrees_with_burn() {
    deploy::forms_agree_with_burn(&EngineChoice::Tract, &[]);
}

/// As a program runs such a file that gives tract images of one size.
#[test]
fn resizing_in_the_file_agrees_with_our_own() {
    deploy::resizing_agrees(&EngineChoice::Tract, &deploy::photos());
}

#[test]
fn unusual_sizes_agree_with_our_own() {
    deploy::unusual_sizes_agree(&EngineChoice::Tract, &deploy::photos());
}
