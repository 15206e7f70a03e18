//! From a model in burn to a file in an engine: shared by one test binary per engine, since a process
//! is bound to the first engine it uses.

// Each test binary uses a part of it.
#![allow(dead_code)]

pub(crate) mod cases;
pub(crate) mod forms;
pub(crate) mod models;

use models::Model;
use selfcls_core::data::decode;
use selfcls_core::eval::Network;
use selfcls_core::pixels::Rgb8;
use selfcls_export::inference::raw::RawNetwork;
use selfcls_export::proof::{Tolerance, difference, grey_levels, samples, trials, worse};
use selfcls_export::{Classifier, EngineChoice, FileOptions, Options};
use std::path::Path;
use std::sync::Arc;

const TOLERANCE: f32 = 1e-5;

/// Exports each model and compares logits and embeddings with burn's at batch 1, 2 and 7.
pub(crate) fn agrees_with_burn(options: &Options, engine: &str) {
    let images = models::images();
    for config in models::all() {
        let mut model = Model::new(config);
        let preprocess = model.config.preprocess();
        let batch: Vec<f32> = images
            .iter()
            .flat_map(|image| preprocess.input(image))
            .collect();
        let write = || model.writer(FileOptions::default()).to_bytes();
        let bytes = write().expect("exports");
        assert_eq!(
            bytes,
            write().expect("exports"),
            "the same model gave other bytes"
        );
        let classifier = Classifier::from_bytes(bytes, options).expect("opens");
        assert!(
            classifier.engine().to_string().contains(engine),
            "{}",
            classifier.engine()
        );
        let network: &mut dyn Network = &mut model.network;
        for count in [1, 2, 7] {
            let input = &batch[..count * preprocess.input_len()];
            let difference = classifier.difference(network, input).expect("runs");
            eprintln!("PARITY\texport\t{engine}\tbatch {count}\t{difference:.2e}\t{TOLERANCE:.0e}");
            assert!(
                difference <= TOLERANCE,
                "{engine}, batch {count}: {difference:e} with {:?}",
                model.config
            );
        }
    }
}

/// Every form of file, of both families of networks, output by output; `photos` are tried too.
pub(crate) fn forms_agree_with_burn(choice: &EngineChoice, photos: &[Arc<Rgb8>]) {
    for (config, more) in [
        (models::resnet(), forms::of_residual()),
        (models::vit(), Vec::new()),
    ] {
        let model = Model::new(config);
        for (name, options) in forms::of_all().into_iter().chain(more) {
            let (difference, levels) = form_differs_by(&model, &options, choice, photos);
            let metadata = model.writer(options).metadata().expect("planned");
            let tolerance = Tolerance::of(&metadata);
            let backbone = &metadata.backbone;
            eprintln!("PARITY\tform {name}\t{choice:?}\t{backbone}\t{difference:.2e}\t{levels:.2}");
            assert!(
                difference <= tolerance.outputs && levels <= tolerance.grey_levels,
                "{name} of {backbone}: {difference:e} and {levels} grey levels"
            );
        }
    }
}

/// Files that resize by themselves do it as our own preprocessing does, within a grey level.
pub(crate) fn resizing_agrees(choice: &EngineChoice, photos: &[Arc<Rgb8>]) {
    for config in [models::resnet(), models::cubic(), models::vit()] {
        let filter = config.eval.interpolation;
        let model = Model::new(config);
        for (name, options) in forms::that_resize() {
            let (difference, levels) = form_differs_by(&model, &options, choice, photos);
            eprintln!("PARITY\tform {name}\t{choice:?}\t{filter:?}\t{difference:.2e}\t{levels:.2}");
            assert!(
                difference <= TOLERANCE && levels <= 1.001,
                "{name}, {filter:?}: {difference:e} and {levels} grey levels"
            );
        }
    }
}

/// The same of pictures as large as a camera's and far longer than high.
pub(crate) fn unusual_sizes_agree(choice: &EngineChoice, photos: &[Arc<Rgb8>]) {
    let unusual: Vec<Arc<Rgb8>> = [(4000, 3000), (3000, 24), (20, 1800)]
        .into_iter()
        .zip(photos)
        .map(|((width, height), photo)| Arc::new(enlarged(photo, width, height)))
        .collect();
    let model = Model::new(models::resnet());
    let (name, options) = &forms::that_resize()[0];
    let (difference, levels) = form_differs_by(&model, options, choice, &unusual);
    eprintln!("PARITY\tform {name}, unusual sizes\t{choice:?}\t{difference:.2e}\t{levels:.2}");
    assert!(
        difference <= TOLERANCE && levels <= 1.001,
        "{difference:e} and {levels} grey levels"
    );
}

/// `photo` with its pixels repeated, `width` x `height`.
fn enlarged(photo: &Rgb8, width: usize, height: usize) -> Rgb8 {
    let at = |y: usize, x: usize| {
        let (y, x) = (y * photo.height() / height, x * photo.width() / width);
        &photo.data()[3 * (y * photo.width() + x)..][..3]
    };
    let pixels = (0..height).flat_map(|y| (0..width).map(move |x| (y, x)));
    let bytes = pixels.flat_map(|(y, x)| at(y, x)).copied().collect();
    Rgb8::new(width, height, bytes).expect("a picture")
}

/// The largest differences of outputs and of preprocessing.
fn form_differs_by(
    model: &Model,
    options: &FileOptions,
    choice: &EngineChoice,
    photos: &[Arc<Rgb8>],
) -> (f32, f32) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.onnx");
    let writer = model.writer(options.clone());
    writer.write(&path).expect("writes");
    let metadata = writer.metadata().expect("planned");
    let preprocess = &metadata.preprocess;
    let mut images = samples(preprocess.crop).expect("draws");
    images.extend(photos.iter().cloned());
    let mut network = RawNetwork::load(&path, choice).expect("loads");
    let mut preparing = writer.preprocessing().expect("writes").map(|bytes| {
        let path = folder.path().join("preprocessing.onnx");
        std::fs::write(&path, bytes).expect("writes");
        RawNetwork::load(&path, choice).expect("loads")
    });
    let (mut worst, mut levels) = (0.0_f32, 0.0_f32);
    for trial in trials(options, preprocess, &images) {
        let outputs = network.run(&trial.shape, &trial.image).expect("runs");
        let names: Vec<_> = outputs.iter().map(|output| &*output.name).collect();
        assert_eq!(names, writer.outputs().expect("planned"));
        let mut prepared = trial.prepared;
        if let Some(preparing) = &mut preparing {
            let planes = preparing.run(&trial.shape, &trial.image).expect("runs");
            let planes = &planes[0].values;
            if trial.own_size {
                levels = worse(levels, grey_levels(preprocess, planes, &prepared));
            }
            prepared.clone_from(planes);
        }
        let expected = model.network.trace(prepared, trial.count);
        let difference = difference(&metadata, &outputs, &expected).expect("comparable");
        worst = worse(worst, difference);
    }
    (worst, levels)
}

/// Parts of odd sizes of a picture that is made of photographs.
pub(crate) fn photos() -> Vec<Arc<Rgb8>> {
    let bytes = include_bytes!("../../../docs/images/cifar10-classes.png");
    let picture = decode(bytes, Path::new("classes.png")).expect("a picture");
    let row = picture.width() * 3;
    [
        (0, 0, 333, 222),
        (7, 3, 101, 57),
        (100, 20, 41, 200),
        (33, 44, 64, 65),
        (50, 1, 225, 231),
        (2, 2, 31, 32),
    ]
    .into_iter()
    .map(|(left, top, width, height)| {
        let rows = picture.data().chunks_exact(row).skip(top).take(height);
        let bytes = rows.flat_map(|row| row[left * 3..(left + width) * 3].to_vec());
        Arc::new(Rgb8::new(width, height, bytes.collect()).expect("a part"))
    })
    .collect()
}
