//! A second opinion on the plain residual network: burn-onnx's own exporter wrote it too (see `tests/importer`).

mod support;

use selfcls_export::inference::raw::{Pixels, RawNetwork};
use selfcls_export::{Classifier, EngineChoice};
use std::path::Path;
use support::model::hashed_images;

/// Its features are those of our file, from which it has nothing: normalisations are not folded there.
#[test]
fn burns_own_exporter_says_the_same() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/roundtrip");
    let options = support::options(&EngineChoice::Tract);
    let ours = Classifier::open(folder.join("resnet.onnx"), &options).expect("opens");
    let mut second =
        RawNetwork::load(&folder.join("second.onnx"), &EngineChoice::Tract).expect("loads");

    let images = hashed_images(5, 3, 16);
    let expected = ours.run(&images).expect("runs").features;
    let outputs = second
        .run(&[3, 3, 16, 16], &Pixels::Float(images))
        .expect("runs");
    assert_eq!(outputs[0].shape, [3, 32, 1, 1]);
    let maps = &outputs[0].values;
    assert_eq!(maps.len(), expected.len());
    let scale = expected.iter().fold(1.0_f32, |most, x| most.max(x.abs()));
    for (a, b) in maps.iter().zip(&expected) {
        assert!((a - b).abs() <= 1e-5 * scale, "{a} {b}");
    }
}
