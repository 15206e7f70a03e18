//! Files that onnxruntime's tools have made of ours, with whole numbers for most weights and values.
//!
//! `docs/quantise_int8.py` made them, of the files in `fixtures/roundtrip` and 24 pictures of noise of 6 x 6 pixels
//! enlarged to 64 x 48 (onnxruntime 1.31.1).

use super::model::{Example, hashed_images};
use super::options;
use selfcls_core::config::Arch;
use selfcls_core::pixels::Rgb8;
use selfcls_export::{Classifier, EngineChoice};
use std::path::{Path, PathBuf};

const SIDE: usize = 16;

/// The file called `name`, quantised or, in the other folder, as it was.
fn path(folder: &str, name: &str) -> PathBuf {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    fixtures.join(folder).join(name)
}

/// The bytes of the quantised file called `name`.
pub(crate) fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(path("quantised", name)).expect("the file is kept")
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// They open, say what the files said that they were made of, and give nearly the same embeddings.
pub(crate) fn opens_quantised_files(choice: &EngineChoice) {
    for (name, backbone, least) in [
        ("resnet.onnx", Arch::ResNet10, 0.99),
        ("vit.onnx", Arch::VitSmall, 0.9),
    ] {
        let open = |folder: &str| {
            let classifier = Classifier::open(path(folder, name), &options(choice));
            classifier.expect("opens")
        };
        let (quantised, floats) = (open("quantised"), open("roundtrip"));
        assert_eq!(quantised.metadata(), floats.metadata());
        assert_eq!(quantised.metadata(), &Example::kept(backbone).metadata);
        let images = hashed_images(3, 5, SIDE);
        let found = quantised.run(&images).expect("runs");
        let expected = floats.run(&images).expect("runs");
        let width = found.embedding.len() / 5;
        let pairs = found.embedding.chunks(width);
        for (found, expected) in pairs.zip(expected.embedding.chunks(width)) {
            let cosine = cosine(found, expected);
            assert!(cosine > least, "{name}: {cosine}");
        }
        assert_ne!(found.embedding, expected.embedding, "{name}");
        let image = Rgb8::new(20, 18, (0..3 * 20 * 18).map(|i| i as u8).collect());
        let answer = quantised.classify(&image.expect("an image"));
        let sum: f32 = answer.expect("classifies").probabilities.iter().sum();
        assert!((sum - 1.0).abs() < 1e-5, "{sum}");
    }
}
