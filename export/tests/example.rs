//! The example says what the crate says, and needs no other crate of this project.

#[allow(dead_code, reason = "its main is for others")]
#[path = "../examples/classify.rs"]
mod example;

use selfcls_export::{Classifier, Options};

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/shapes.onnx");
const IMAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/disc.png");

#[test]
fn the_example_classifies() {
    let lines = example::classify(MODEL, &[IMAGE.to_owned()]).expect("classifies");
    let classifier = Classifier::open(MODEL, &Options::default()).expect("opens");
    let expected = classifier.classify_file(IMAGE).expect("classifies");
    let [line] = &lines[..] else {
        panic!("{lines:?}");
    };
    let best = format!(
        "{} {:.1} %",
        expected.class(),
        100.0 * expected.confidence()
    );
    let best = match expected.name() {
        Some(name) => best.replacen(&expected.class().to_string(), name, 1),
        None => best,
    };
    assert!(line.starts_with(&format!("{IMAGE}: {best}")), "{line}");
    let missing = example::classify(MODEL, &["missing.jpg".to_owned()]).expect_err("refused");
    assert!(missing.to_string().contains("missing.jpg"), "{missing}");
}

#[test]
fn it_needs_this_crate_alone() {
    let source = include_str!("../examples/classify.rs");
    let used = source.lines().filter(|line| line.starts_with("use "));
    for line in used {
        let is_ours = line.starts_with("use selfcls_export::") || line.starts_with("use std::");
        assert!(is_ours, "{line}");
    }
}
