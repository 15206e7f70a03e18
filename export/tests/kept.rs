//! The files that burn's importer has read (see `tests/tests/roundtrip.rs`) are, byte for byte, what the writer
//! writes today.

mod support;

use selfcls_core::config::Arch;
use selfcls_export::{FileOptions, OnnxWriter, Output};
use std::path::Path;
use support::model::Example;

/// With `SELFCLS_BLESS` set, replaces the file instead.
fn is_todays(name: &str, backbone: Arch) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/roundtrip")
        .join(name);
    let example = Example::kept(backbone);
    let options = FileOptions {
        outputs: Some(Output::ALL.into()),
        ..FileOptions::default()
    };
    let bytes = OnnxWriter::new(&example.model, &example.weights, example.metadata.clone())
        .options(options)
        .to_bytes()
        .expect("writable");
    if std::env::var_os("SELFCLS_BLESS").is_some() {
        std::fs::write(&path, &bytes).expect("written");
    }
    let kept = std::fs::read(&path).expect("the file is kept");
    assert!(
        kept == bytes,
        "the writer writes other bytes than {}. If that is meant, run this test with SELFCLS_BLESS=1, then `cargo xtask roundtrip --replace`",
        path.display()
    );
}

#[test]
fn the_residual_network_is_todays() {
    is_todays("resnet.onnx", Arch::ResNet10);
}

#[test]
fn the_vision_transformer_is_todays() {
    is_todays("vit.onnx", Arch::VitSmall);
}
