//! Every form that a file can have: what `image` takes, which outputs there are, how weights are kept.

use super::model::Example;
use super::{close, options, within};
use selfcls_core::config::{Arch, ModelConfig, Stem};
use selfcls_core::metadata::{InputKind, WeightKind};
use selfcls_core::pixels::Rgb8;
use selfcls_export::{
    Classifier, EngineChoice, Error, ExternalData, FileOptions, HeadSelection, OnnxWriter, Options,
    Output, Outputs,
};
use std::collections::BTreeSet;

fn example() -> Example {
    let model = ModelConfig {
        backbone: Arch::ResNet10,
        stem: Stem::CifarStride2,
        width: 4,
        hidden_dim: 8,
        dim: 4,
        heads: vec![3, 5],
        ..ModelConfig::default()
    };
    let mut example = Example::new(model, 16);
    // So that there is something to resize and to cut off.
    example.metadata.preprocess.resize = 20;
    example
}

fn writer<'a>(example: &'a Example, file: &FileOptions) -> OnnxWriter<'a> {
    OnnxWriter::new(&example.model, &example.weights, example.metadata.clone())
        .options(file.clone())
}

fn open(file: &FileOptions, options: &Options) -> Result<Classifier, Error> {
    let bytes = writer(&example(), file).to_bytes().expect("writes");
    Classifier::from_bytes(bytes, options)
}

/// Smooth images of many sizes: a grey level's difference in the resize shows little.
fn images() -> Vec<Rgb8> {
    [
        (30, 20),
        (20, 20),
        (64, 48),
        (64, 48),
        (21, 50),
        (20, 33),
        (16, 16),
    ]
    .into_iter()
    .enumerate()
    .map(|(number, (width, height))| {
        let bytes = (0..3 * width * height).map(|i| {
            let (pixel, channel) = (i / 3, i % 3);
            let (x, y) = (pixel % width, pixel / width);
            (40 * number + 90 * channel + 80 * x / width + 70 * y / height) as u8 / 2 + 20
        });
        Rgb8::new(width, height, bytes.collect()).expect("an image")
    })
    .collect()
}

/// Fails unless both have the same outputs, all finite and within `tolerance`.
#[track_caller]
fn all_close(what: &str, got: &Outputs, expected: &Outputs, tolerance: f64) {
    assert_eq!(got.batch, expected.batch, "{what}");
    let heads = |outputs: &Outputs| -> Vec<usize> {
        let heads = outputs.logits.iter();
        heads.map(|head| head.head).collect()
    };
    assert_eq!(heads(got), heads(expected), "{what}");
    let pairs = got.logits.iter().zip(&expected.logits);
    let pairs = pairs.map(|(a, b)| (&a.values, &b.values));
    let others = [
        (&got.probabilities, &expected.probabilities),
        (&got.embedding, &expected.embedding),
        (&got.features, &expected.features),
    ];
    let mut compared = 0;
    for (a, b) in pairs.chain(others) {
        // An output that neither has.
        if a.is_empty() && b.is_empty() {
            continue;
        }
        let b: Vec<f64> = b.iter().map(|&x| x.into()).collect();
        within(what, tolerance, a, &b);
        compared += 1;
    }
    assert!(compared > 0, "{what}: nothing to compare");
}

/// Bytes in, cropped or not, give what normalised floats give.
pub(crate) fn takes_bytes(choice: &EngineChoice) {
    let of = |input| {
        let file = FileOptions {
            input,
            outputs: Some(BTreeSet::from(Output::ALL)),
            ..FileOptions::default()
        };
        open(&file, &options(choice)).expect("opens")
    };
    let images = images();
    let float = of(InputKind::Float);
    let expected = float.outputs(&images).expect("runs");
    assert_eq!(expected.features.len(), images.len() * 32);
    let uint8 = of(InputKind::Uint8);
    all_close(
        "uint8",
        &uint8.outputs(&images).expect("runs"),
        &expected,
        1e-5,
    );
    // What evaluation hands over are normalised floats.
    let prepared = uint8.prepare(&images);
    all_close(
        "uint8, run",
        &uint8.run(&prepared).expect("runs"),
        &expected,
        1e-5,
    );
    let mut classifiers = vec![float, uint8];
    let any = FileOptions {
        input: InputKind::Any,
        outputs: Some(BTreeSet::from(Output::ALL)),
        ..FileOptions::default()
    };
    let any = open(&any, &options(choice)).expect("opens");
    assert_eq!(any.metadata().input, InputKind::Any);
    // It is given what our own resize makes, and takes that from others too.
    let found = any.outputs(&images).expect("runs");
    all_close("any", &found, &expected, 1e-5);
    let found = any.run(&prepared).expect("runs");
    all_close("any, run", &found, &expected, 1e-5);
    classifiers.push(any);
    for classifier in classifiers {
        let answers = classifier.classify_batch(&images).expect("classifies");
        let streamed: Vec<_> = classifier
            .stream(images.clone())
            .expect("starts")
            .map(|(_, answer)| answer.expect("classifies"))
            .collect();
        for (streamed, answer) in streamed.iter().zip(&answers) {
            let expected: Vec<f64> = answer.probabilities.iter().map(|&p| p.into()).collect();
            close("streamed", &streamed.probabilities, &expected);
            assert_eq!(answer.features.len(), 32);
        }
    }
}

/// A fixed batch is filled up, free sides and 16-bit weights change nothing that matters.
pub(crate) fn takes_every_form(choice: &EngineChoice) {
    let images = images();
    let plain = FileOptions::default();
    let expected = open(&plain, &options(choice)).expect("opens");
    let expected = expected.outputs(&images).expect("runs");
    let with = |change: fn(&mut FileOptions)| {
        let mut file = FileOptions::default();
        change(&mut file);
        file
    };
    for (what, file, tolerance) in [
        ("batch 3", with(|file| file.batch = Some(3)), 1e-5),
        ("batch 1", with(|file| file.batch = Some(1)), 1e-5),
        ("free sides", with(|file| file.dynamic_size = true), 1e-5),
        ("f16", with(|file| file.weights = WeightKind::F16), 0.02),
        ("operator set 21", with(|file| file.opset = Some(21)), 1e-5),
    ] {
        let classifier = open(&file, &options(choice)).expect(what);
        all_close(
            what,
            &classifier.outputs(&images).expect(what),
            &expected,
            tolerance,
        );
    }
}

/// Whatever outputs there are: what can be answered is, and the rest is an error.
pub(crate) fn gives_what_there_is(choice: &EngineChoice) {
    let images = images();
    let of = |outputs: &[Output], heads: HeadSelection| {
        let file = FileOptions {
            outputs: Some(outputs.iter().copied().collect()),
            heads,
            ..FileOptions::default()
        };
        open(&file, &options(choice)).expect("opens")
    };
    let all = of(&Output::ALL, HeadSelection::All);
    let expected = all.classify_batch(&images).expect("classifies");
    for outputs in [&[Output::Logits][..], &[Output::Probabilities]] {
        let classifier = of(outputs, HeadSelection::All);
        let answers = classifier.classify_batch(&images).expect("classifies");
        for (answer, expected) in answers.iter().zip(&expected) {
            let expected: Vec<f64> = expected.probabilities.iter().map(|&p| p.into()).collect();
            close("probabilities", &answer.probabilities, &expected);
            assert!(answer.embedding.is_empty() && answer.features.is_empty());
        }
    }
    let second = of(&[Output::Probabilities], HeadSelection::Only(vec![1]));
    assert_eq!((second.head(), second.heads()), (Some(1), vec![(1, 5)]));
    for outputs in [&[Output::Embedding][..], &[Output::Features]] {
        let classifier = of(outputs, HeadSelection::All);
        let found = classifier.outputs(&images).expect("runs");
        assert_ne!(found.embedding.is_empty(), found.features.is_empty());
        assert_eq!(classifier.head(), None);
        let message = classifier.classify(&images[0]).expect_err("refused");
        assert!(message.to_string().contains("no classes"), "{message}");
        assert!(classifier.stream(images.clone()).is_err());
        // Everything but classes can be had of them.
        let stream = classifier.stream_outputs(images.clone()).expect("starts");
        let (mut embedding, mut features) = (Vec::new(), Vec::new());
        for (_, outputs) in stream {
            let outputs = outputs.expect("runs");
            embedding.extend(outputs.embedding);
            features.extend(outputs.features);
        }
        let pairs = [(embedding, &found.embedding), (features, &found.features)];
        // Of the two, the file gives one.
        for (streamed, expected) in pairs.into_iter().filter(|(_, found)| !found.is_empty()) {
            let expected: Vec<f64> = expected.iter().map(|&x| x.into()).collect();
            close("streamed", &streamed, &expected);
        }
    }
}

/// Weights beside the file.
pub(crate) fn reads_external_weights(choice: &EngineChoice) {
    for input in [InputKind::Float, InputKind::Any] {
        reads_weights_beside_a_file_of(choice, input);
    }
}

fn reads_weights_beside_a_file_of(choice: &EngineChoice, input: InputKind) {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("model.onnx");
    let inside = FileOptions {
        input,
        ..FileOptions::default()
    };
    let file = FileOptions {
        external: ExternalData::Always,
        ..inside.clone()
    };
    writer(&example(), &file).write(&path).expect("writes");
    let images = images();
    let expected = open(&inside, &options(choice)).expect("opens");
    let expected = expected.outputs(&images).expect("runs");
    let classifier = Classifier::open(&path, &options(choice)).expect("opens");
    all_close(
        "external",
        &classifier.outputs(&images).expect("runs"),
        &expected,
        1e-6,
    );
    // Whatever happens to it later, also where another run at a time begins only then.
    let runs = options(choice).runs(3);
    let classifier = Classifier::open(&path, &runs).expect("opens");
    let data = folder.path().join("model.onnx.data");
    let bytes = std::fs::read(&data).expect("weights");
    std::fs::remove_file(&data).expect("removed");
    for _ in 0..10 {
        let found = classifier.outputs(&images).expect("runs");
        all_close("external, gone", &found, &expected, 1e-6);
    }
    // Another model's weights have the same sizes, and a damaged copy has them too.
    let mut others = bytes.clone();
    others.reverse();
    let mut damaged = bytes.clone();
    damaged[0] ^= 1;
    for wrong in [others, damaged, [&bytes[..], &[0]].concat()] {
        std::fs::write(&data, wrong).expect("written");
        let message = Classifier::open(&path, &options(choice)).expect_err("refused");
        let said = "it is not what the model was written with";
        assert!(message.to_string().contains(said), "{message}");
    }
    // Shorter than it was.
    std::fs::write(&data, &bytes[..bytes.len() - 1]).expect("written");
    let message = Classifier::open(&path, &options(choice)).expect_err("refused");
    assert!(message.to_string().contains("not complete"), "{message}");
    std::fs::remove_file(&data).expect("removed");
    let message = Classifier::open(&path, &options(choice)).expect_err("refused");
    assert!(
        message.to_string().contains("beside the model"),
        "{message}"
    );
}
