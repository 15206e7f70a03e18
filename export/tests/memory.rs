//! What pictures take while they wait for the network, in both engines: what is allocated is counted.

mod support;

use peak_alloc::PeakAlloc;
use selfcls_core::config::{Arch, ModelConfig, Stem};
use selfcls_core::metadata::InputKind;
use selfcls_core::pixels::Rgb8;
use selfcls_export::inference::Picture;
use selfcls_export::{
    Classifier, Decoding, EngineChoice, FileOptions, OnnxWriter, Options, StreamOptions,
};
use std::borrow::Cow;
use support::model::Example;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// The most that `work` needs beyond what was there, in bytes.
fn peak(work: impl FnOnce()) -> usize {
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    work();
    ALLOCATOR.peak_usage().saturating_sub(before)
}

/// A photo that is decoded when it is wanted.
struct Photo;

const SIDES: (usize, usize) = (1600, 1200);
const BYTES: usize = 3 * SIDES.0 * SIDES.1;

impl Picture for Photo {
    fn pixels(&self, _: Decoding, _: usize) -> selfcls_core::Result<Cow<'_, Rgb8>> {
        let image = Rgb8::new(SIDES.0, SIDES.1, vec![7; BYTES])?;
        Ok(Cow::Owned(image))
    }
}

fn open(input: InputKind, batch: Option<usize>, options: &Options) -> Classifier {
    let model = ModelConfig {
        backbone: Arch::ResNet10,
        stem: Stem::CifarStride2,
        width: 2,
        hidden_dim: 4,
        dim: 4,
        heads: vec![3],
        ..ModelConfig::default()
    };
    let example = Example::new(model, 16);
    let writer = OnnxWriter::new(&example.model, &example.weights, example.metadata);
    let file = FileOptions {
        input,
        batch,
        ..FileOptions::default()
    };
    let bytes = writer.options(file).to_bytes().expect("writes");
    Classifier::from_bytes(bytes, options).expect("opens")
}

#[test]
fn memory_is_bounded() {
    let engine = support::tested_engine();
    bounded(&engine);
    if engine == EngineChoice::Tract {
        support::again_in_onnxruntime("memory::memory_is_bounded");
    }
}

fn bounded(engine: &EngineChoice) {
    for input in [InputKind::Float, InputKind::Uint8, InputKind::Any] {
        let classifier = open(input, None, &support::options(engine).many(true));
        // Whatever is set up once.
        let image = Rgb8::new(4, 4, vec![7; 48]).expect("an image");
        classifier.classify(&image).expect("classifies");
        large_photos_do_not_wait(&classifier, input);
        long_pictures_stay_small(&classifier, input);
    }
}

/// Each decoder has one, and a copy of a part of it; all others are prepared.
fn large_photos_do_not_wait(classifier: &Classifier, input: InputKind) {
    const PHOTOS: usize = 60;
    let options = StreamOptions::default().batch(16).decoders(2);
    let taken = peak(|| {
        let photos = std::iter::repeat_with(|| Photo).take(PHOTOS);
        let stream = options.start(classifier, photos).expect("starts");
        let answers = stream.map(|(_, answer)| answer.expect("classifies"));
        assert_eq!(answers.count(), PHOTOS);
    });
    assert!(
        taken < 6 * BYTES,
        "{input}: {:.1} photos at a time",
        taken as f64 / BYTES as f64
    );
}

/// Resized whole, one of them has 16 x 1,048,560 pixels, 200 MB in floats.
fn long_pictures_stay_small(classifier: &Classifier, input: InputKind) {
    for (width, height) in [(1, 65_535), (65_535, 1)] {
        let image = Rgb8::new(width, height, vec![9; 3 * 65_535]).expect("an image");
        let taken = peak(|| {
            classifier.classify(&image).expect("classifies");
        });
        assert!(
            taken < 8 << 20,
            "{input}: {taken} bytes for {width} x {height}"
        );
    }
}
