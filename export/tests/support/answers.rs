//! What a classifier is asked: streams, heads, files of other programs.

use super::model::{Example, hash};
use super::protobuf::{Message, Value};
use super::{close, file, options};
use selfcls_core::config::{Arch, Interpolation, ModelConfig, Stem};
use selfcls_core::pixels::Rgb8;
use selfcls_core::preprocess::Preprocess;
use selfcls_export::inference::Picture;
use selfcls_export::{
    Classifier, Decoding, EngineChoice, Error, HeadSelection, Options, StreamOptions, decode,
    decode_reduced,
};
use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const SIDE: usize = 8;

const MODEL_METADATA: u64 = 14;
const MODEL_GRAPH: u64 = 7;
const GRAPH_OUTPUT: u64 = 12;
const BORDER_NAME: u64 = 1;

/// A network of two heads that runs in no time.
fn small() -> Example {
    let model = ModelConfig {
        backbone: Arch::ResNet10,
        stem: Stem::CifarStride2,
        width: 2,
        hidden_dim: 4,
        dim: 4,
        heads: vec![3, 5],
        ..ModelConfig::default()
    };
    Example::new(model, SIDE)
}

fn open(options: &Options) -> Result<Classifier, Error> {
    Classifier::from_bytes(file(&small(), HeadSelection::All), options)
}

fn image(number: usize) -> Rgb8 {
    let (width, height) = (5 + number % 7, 4 + number % 5);
    let bytes = (0..3 * width * height)
        .map(|i| ((hash(number as u64, i as u64) + 0.5) * 255.0) as u8)
        .collect();
    Rgb8::new(width, height, bytes).expect("an image")
}

/// A picture of a stream.
enum Given {
    Image(Rgb8),
    Broken,
    Panics,
}

impl Picture for Given {
    fn pixels(&self, _: Decoding, _: usize) -> selfcls_core::Result<Cow<'_, Rgb8>> {
        match self {
            Self::Image(image) => Ok(Cow::Borrowed(image)),
            Self::Broken => Err(selfcls_core::Error::Data("it is broken".into())),
            Self::Panics => panic!("a test's"),
        }
    }

    fn name(&self) -> &Path {
        Path::new("given.jpg")
    }
}

/// Answers come in order, whatever the batch, and are those of single images; bad pictures are errors in
/// their places.
pub(crate) fn streams_in_order(choice: &EngineChoice) {
    let classifier = open(&options(choice)).expect("opens");
    let given = |number: usize| match number {
        7 | 8 | 9 | 30 => Given::Broken,
        20 => Given::Panics,
        _ => Given::Image(image(number)),
    };
    for (batch, ahead, decoders) in [(0, 0, 0), (1, 1, 1), (3, 3, 4), (16, 1, 2), (100, 0, 3)] {
        let stream = StreamOptions {
            batch,
            ahead,
            decoders,
            ..StreamOptions::default()
        };
        let stream = stream
            .start(&classifier, (0..50).map(given))
            .expect("starts");
        let mut count = 0;
        for (number, (given, answer)) in stream.enumerate() {
            count += 1;
            match (given, answer) {
                (Given::Image(picture), Ok(answer)) => {
                    assert_eq!(picture, image(number));
                    let alone = classifier.classify(&picture).expect("classifies");
                    let expected: Vec<f64> =
                        alone.probabilities.iter().map(|&p| p.into()).collect();
                    close("a streamed image", &answer.probabilities, &expected);
                }
                (Given::Broken, Err(error)) => assert!(error.to_string().contains("broken")),
                (Given::Panics, Err(error)) => {
                    let said = "given.jpg: its decoder has failed";
                    assert!(error.to_string().contains(said), "{error}");
                }
                (_, answer) => panic!("{number}: {answer:?}"),
            }
        }
        assert_eq!(count, 50, "batch {batch}, ahead {ahead}");
    }
    let nothing = classifier.stream(Vec::<Rgb8>::new()).expect("starts");
    assert_eq!(nothing.count(), 0);
}

/// A source without end is taken from only as far as was agreed, and let go.
pub(crate) fn streams_without_end(choice: &EngineChoice) {
    const AHEAD: usize = 5;
    let classifier = open(&options(choice)).expect("opens");
    let taken = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&taken);
    let endless = (0..).map(move |number| {
        counter.fetch_add(1, Ordering::SeqCst);
        image(number % 50)
    });
    let options = StreamOptions::default().batch(2).ahead(AHEAD).decoders(3);
    let mut stream = options.start(&classifier, endless).expect("starts");
    for answered in 1..=40 {
        let (_, answer) = stream.next().expect("there is always one more");
        answer.expect("classifies");
        let taken = taken.load(Ordering::SeqCst);
        assert!(
            taken <= answered + AHEAD,
            "{taken} taken, {answered} answered"
        );
    }
    // Would not return if anybody still waited.
    drop(stream);
    assert_eq!(
        Arc::strong_count(&taken),
        1,
        "somebody still has the source"
    );
}

/// Everything that the network says comes in the same order.
pub(crate) fn streams_outputs(choice: &EngineChoice) {
    let classifier = open(&options(choice)).expect("opens");
    let images: Vec<Rgb8> = (0..23).map(image).collect();
    let expected = classifier.outputs(&images).expect("runs");
    let stream = StreamOptions::default().batch(4);
    let stream = stream.start_outputs(&classifier, images).expect("starts");
    let mut count = 0;
    for (number, (picture, outputs)) in stream.enumerate() {
        assert_eq!(picture, image(number));
        let outputs = outputs.expect("runs");
        let alone = expected.image(number);
        assert_eq!((outputs.batch, outputs.logits.len()), (1, 2));
        for (found, expected) in outputs.logits.iter().zip(&alone.logits) {
            let expected: Vec<f64> = expected.values.iter().map(|&x| x.into()).collect();
            assert_eq!(found.values.len(), found.classes);
            close("logits", &found.values, &expected);
        }
        let embedding: Vec<f64> = alone.embedding.iter().map(|&x| x.into()).collect();
        close("embedding", &outputs.embedding, &embedding);
        count += 1;
    }
    assert_eq!(count, 23);
}

/// What is not finite for one image is that image's error, and says which it is; those beside it have their answers.
pub(crate) fn one_image_fails_alone(choice: &EngineChoice) {
    let mut example = small();
    // White makes these infinite in the end; of black the first rectifier leaves nothing.
    for (name, factor) in [
        ("backbone.conv1.weight", 1e28),
        ("mlp_head.mlp.3.weight", 1e15),
    ] {
        let weights = example.weights.get_mut(name).expect("it is there");
        weights.data.fill(factor);
    }
    let file = file(&example, HeadSelection::All);
    let classifier = Classifier::from_bytes(file, &options(choice)).expect("opens");
    let images = |count: usize, white: usize| -> Vec<Rgb8> {
        let images = (0..count).map(|number| if number == white { 255 } else { 0 });
        let images = images.map(|level| Rgb8::new(SIDE, SIDE, vec![level; 3 * SIDE * SIDE]));
        images.map(|image| image.expect("an image")).collect()
    };
    let stream = StreamOptions::default().batch(8);
    let outputs = stream.start_outputs(&classifier, images(20, 11));
    let outputs: Vec<_> = outputs.expect("starts").map(|(_, o)| o.is_ok()).collect();
    let answers = stream.start(&classifier, images(20, 11)).expect("starts");
    let answers: Vec<_> = answers.map(|(_, answer)| answer.is_ok()).collect();
    let expected: Vec<_> = (0..20).map(|number| number != 11).collect();
    assert_eq!((&outputs, &answers), (&expected, &expected));

    let images = images(20, 11);
    let prepared = classifier.prepare(&images);
    for refused in [
        classifier.outputs(&images).map(drop),
        classifier.run(&prepared).map(drop),
        classifier.classify_batch(&images).map(drop),
    ] {
        let message = refused.expect_err("refused").to_string();
        assert!(
            message.contains("for image 11 is not a finite"),
            "{message}"
        );
    }
}

/// A file, its bytes and its pixels get one answer; a large photo is decoded at a part of its size.
pub(crate) fn takes_files(choice: &EngineChoice) {
    let folder = tempfile::tempdir().expect("a folder");
    let classifier = open(&options(choice)).expect("opens");
    let mut bytes = std::io::Cursor::new(Vec::new());
    // Blocks of 8 x 8, which stay what they are at an eighth.
    let photo = ::image::RgbImage::from_fn(400, 320, |x, y| {
        ::image::Rgb([(x / 8 * 5) as u8, (y / 8 * 6) as u8, 90])
    });
    photo
        .write_to(&mut bytes, ::image::ImageFormat::Jpeg)
        .expect("encodes");
    let bytes = bytes.into_inner();
    let path = folder.path().join("photo.jpg");
    std::fs::write(&path, &bytes).expect("written");
    let reduced = decode_reduced(&bytes, &path, 2 * SIDE).expect("decodes");
    assert_eq!((reduced.width(), reduced.height()), (50, 40));
    let exact = decode(&bytes, &path).expect("decodes");
    let of = |pixels| classifier.classify(pixels).expect("classifies");
    let [reduced, exact] = [&reduced, &exact].map(of);
    assert_ne!(reduced, exact);
    // Whoever is given the file decodes it alike: as the classifier was told, and in full where it was told nothing.
    let plain = options(choice);
    for (options, expected) in [
        (plain.clone().decoding(Decoding::Reduced), &reduced),
        (plain.clone().decoding(Decoding::Exact), &exact),
        (plain, &exact),
    ] {
        let classifier = open(&options).expect("opens");
        let first = |stream: &StreamOptions| {
            let of_bytes = stream.start(&classifier, [bytes.clone()]).expect("starts");
            let of_files = stream.start(&classifier, [path.clone()]).expect("starts");
            let of_bytes = of_bytes.map(|(_, answer)| answer);
            let mut answers = of_bytes.chain(of_files.map(|(_, answer)| answer));
            [(); 2].map(|()| answers.next().expect("an answer").expect("classifies"))
        };
        let file = classifier.classify_file(&path).expect("classifies");
        let of_bytes = classifier.classify_bytes(&bytes).expect("classifies");
        let streamed = first(&StreamOptions::default());
        for answer in [file, of_bytes].into_iter().chain(streamed) {
            assert_eq!(&answer, expected, "{:?}", options.decoding);
        }
        // A stream may be told otherwise.
        for (decoding, expected) in [(Decoding::Reduced, &reduced), (Decoding::Exact, &exact)] {
            for answer in first(&StreamOptions::default().decoding(decoding)) {
                assert_eq!(&answer, expected, "{decoding:?}");
            }
        }
        // The limit is for the full size, however it is decoded.
        let full = 400 * 320 * 3;
        let within = |limit| open(&options.clone().max_image_bytes(limit)).expect("opens");
        let answer = within(full).classify_bytes(&bytes).expect("classifies");
        assert_eq!(&answer, expected, "{:?}", options.decoding);
        let narrow = within(full - 1);
        for refused in [narrow.classify_bytes(&bytes), narrow.classify_file(&path)] {
            let refused = refused.expect_err("too large");
            assert!(matches!(refused, Error::Core(_)), "{refused}");
            assert!(
                refused.to_string().contains("400 x 320 pixels"),
                "{refused}"
            );
        }
    }
    let missing = classifier.classify_file(folder.path().join("none.jpg"));
    let missing = missing.expect_err("refused").to_string();
    assert!(missing.contains("none.jpg"), "{missing}");
    let text = classifier.classify_bytes(b"text").expect_err("refused");
    assert!(matches!(text, Error::Core(_)), "{text}");
    assert!(text.to_string().starts_with("the image: "), "{text}");
}

/// Whatever holds a picture is one.
pub(crate) fn takes_what_holds_pictures(choice: &EngineChoice) {
    let classifier = open(&options(choice)).expect("opens");
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/disc.png");
    let expected = classifier.classify_file(path).expect("classifies");
    let bytes: &'static [u8] = include_bytes!("../../../examples/disc.png");
    let pixels = Arc::new(decode(bytes, Path::new(path)).expect("decodes"));
    let pictures: Vec<Box<dyn Picture>> = vec![
        Box::new(bytes),
        Box::new(Arc::<[u8]>::from(bytes)),
        Box::new(Box::<[u8]>::from(bytes)),
        Box::new(Path::new(path)),
        Box::new(Arc::<Path>::from(Path::new(path))),
        Box::new(Arc::clone(&pixels)),
        Box::new(Arc::unwrap_or_clone(pixels)),
    ];
    let named: Vec<bool> = pictures
        .iter()
        .map(|one| one.name() == Path::new(path))
        .collect();
    assert_eq!(named, [false, false, false, true, true, false, false]);
    let mut count = 0;
    for (_, answer) in classifier.stream(pictures).expect("starts") {
        let expected: Vec<f64> = expected.probabilities.iter().map(|&p| p.into()).collect();
        let answer = answer.expect("classifies");
        close("a picture that is held", &answer.probabilities, &expected);
        count += 1;
    }
    assert_eq!(count, 7);
}

/// The head that answers can be chosen.
pub(crate) fn chooses_a_head(choice: &EngineChoice) {
    let first = open(&options(choice)).expect("opens");
    let second = open(&options(choice).head(1)).expect("opens");
    assert_eq!((first.head(), second.head()), (Some(0), Some(1)));
    let picture = image(3);
    let outputs = first.outputs(std::slice::from_ref(&picture)).expect("runs");
    for (head, classifier) in [&first, &second].into_iter().enumerate() {
        let answer = classifier.classify(&picture).expect("classifies");
        let logits = &outputs.head(head).expect("both are exported").values;
        assert_eq!(
            (answer.head, answer.probabilities.len()),
            (head, logits.len())
        );
        let exponents: Vec<f64> = logits.iter().map(|&x| (f64::from(x) / 0.1).exp()).collect();
        let sum: f64 = exponents.iter().sum();
        let expected: Vec<f64> = exponents.iter().map(|x| x / sum).collect();
        close("probabilities", &answer.probabilities, &expected);
        assert_eq!(answer.embedding, outputs.embedding);
    }
    let message = open(&options(choice).head(2)).expect_err("refused");
    assert!(matches!(message, Error::Request(_)), "{message}");
    assert!(
        message.to_string().contains("no head 2; it has 0, 1"),
        "{message}"
    );
}

fn preprocess(side: usize) -> Preprocess {
    Preprocess {
        resize: side,
        crop: side,
        interpolation: Interpolation::Bilinear,
        mean: small().metadata.preprocess.mean,
        std: small().metadata.preprocess.std,
    }
}

/// The file as another program might have written it: without metadata, with only the output `kept`.
fn foreign(kept: &str) -> Vec<u8> {
    let mut model = Message::parse(&file(&small(), HeadSelection::All));
    model.0.retain(|(field, _)| *field != MODEL_METADATA);
    model.edit(
        MODEL_GRAPH,
        |_| true,
        |graph| {
            graph.0.retain(|(field, value)| {
                let is_kept = |bytes: &[u8]| Message::parse(bytes).has_text(BORDER_NAME, kept);
                *field != GRAPH_OUTPUT || matches!(value, Value::Bytes(bytes) if is_kept(bytes))
            });
        },
    );
    model.encode()
}

/// With a preprocessing, a file of another program is a classifier too.
pub(crate) fn opens_foreign_files(choice: &EngineChoice) {
    let own = open(&options(choice)).expect("opens");
    let given = options(choice).preprocessing(preprocess(SIDE));
    let images: Vec<Rgb8> = (0..5).map(image).collect();
    let expected = own.outputs(&images).expect("runs");
    // Made by a softmax: probabilities as they are.
    let probable = Classifier::from_bytes(foreign("probabilities"), &given).expect("opens");
    // Anything else is a logit.
    let plain = Classifier::from_bytes(foreign("logits.1"), &given).expect("opens");
    assert_eq!(plain.metadata().heads[0].classes, 5);
    for (index, picture) in images.iter().enumerate() {
        let row: Vec<f64> = expected.probabilities[3 * index..3 * index + 3]
            .iter()
            .map(|&p| p.into())
            .collect();
        let answer = probable.classify(picture).expect("classifies");
        close("probabilities", &answer.probabilities, &row);
        assert!(answer.embedding.is_empty() && answer.name().is_none());
        let logits = &expected.logits[1].values[5 * index..5 * index + 5];
        let best = (0..5).max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
        let answer = plain.classify(picture).expect("classifies");
        assert_eq!(Some(answer.class()), best);
    }
    // Not without being told how, and not against what the file says.
    let message =
        Classifier::from_bytes(foreign("logits.0"), &options(choice)).expect_err("refused");
    for part in ["selfcls.format", "Options::preprocessing"] {
        assert!(message.to_string().contains(part), "{message}");
    }
    assert!(matches!(message, Error::Foreign { .. }), "{message:?}");
    let wrong = options(choice).preprocessing(preprocess(SIDE + 1));
    let message = Classifier::from_bytes(foreign("logits.0"), &wrong).expect_err("refused");
    assert!(message.to_string().contains("crop to 8"), "{message}");
    let message = open(&wrong).expect_err("refused");
    assert!(matches!(message, Error::Request(_)), "{message}");
    let mut impossible = preprocess(SIDE);
    impossible.std = [0.0; 3];
    let impossible = options(choice).preprocessing(impossible);
    assert!(Classifier::from_bytes(foreign("logits.0"), &impossible).is_err());
}

/// A clone is the same network, and any thread may use it.
pub(crate) fn is_shared(choice: &EngineChoice) {
    fn shareable<T: Send + Sync + Clone + 'static>(_: &T) {}
    let classifier = open(&options(choice)).expect("opens");
    shareable(&classifier);
    let clone = classifier.clone();
    drop(classifier);
    let thread = std::thread::spawn(move || clone.classify(&image(1)).expect("classifies").class());
    assert!(thread.join().expect("runs") < 3);
}

/// Several runs at a time give what one gives.
pub(crate) fn runs_side_by_side(choice: &EngineChoice) {
    let images: Vec<Rgb8> = (0..30).map(image).collect();
    let embedding = |options: &Options| {
        let classifier = open(options).expect("opens");
        classifier.outputs(&images).expect("runs").embedding
    };
    let one = embedding(&options(choice));
    let expected: Vec<f64> = one.iter().map(|&x| x.into()).collect();
    for options in [options(choice).runs(2), options(choice).many(true)] {
        close("embedding", &embedding(&options), &expected);
    }
}
