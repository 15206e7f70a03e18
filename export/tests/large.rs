//! A file above the 2 GiB that protobuf holds, as it comes to be by itself. It takes 10 GiB of memory, so it is run only
//! when it is asked for: `cargo test -p selfcls-export --test large -- --ignored`.

mod support;

use selfcls_core::config::{Arch, ModelConfig, Stem};
use selfcls_export::{Classifier, EngineChoice, OnnxWriter};
use support::model::{Example, hashed_images};

/// Of 1024 numbers of 4 bytes each: 2.46e9 bytes.
const CLASSES: usize = 600_000;

#[test]
#[ignore = "writes 2.5 GB"]
fn more_than_protobuf_holds_is_kept_beside_the_file() {
    let model = ModelConfig {
        backbone: Arch::ResNet10,
        stem: Stem::CifarStride2,
        width: 1,
        hidden_dim: 2,
        dim: 1024,
        heads: vec![CLASSES],
        ..ModelConfig::default()
    };
    let example = Example::new(model, 8);
    let writer = OnnxWriter::new(&example.model, &example.weights, example.metadata.clone());
    let message = writer.to_bytes().expect_err("too large for one file");
    assert!(message.to_string().contains("protobuf"), "{message}");
    // With a name it can be looked at afterwards.
    let folder = tempfile::tempdir().expect("temporary folder");
    let named = std::env::var_os("SELFCLS_LARGE").map(std::path::PathBuf::from);
    let path = named.unwrap_or_else(|| folder.path().join("large.onnx"));
    writer.write(&path).expect("writes");
    let size = |path: &std::path::Path| path.metadata().expect("a file").len();
    assert!(size(&path) < 1 << 20);
    let mut beside = path.clone().into_os_string();
    beside.push(".data");
    assert!(size(beside.as_ref()) > 1 << 31);
    drop(example);
    let options = support::options(&EngineChoice::Auto);
    let classifier = Classifier::open(&path, &options).expect("opens");
    let outputs = classifier.run(&hashed_images(0, 1, 8)).expect("runs");
    assert_eq!(outputs.probabilities.len(), CLASSES);
    let sum: f64 = outputs.probabilities.iter().map(|&p| f64::from(p)).sum();
    assert!((sum - 1.0).abs() < 1e-3, "{sum}");
}
