//! Weights that are not what they claim, in the file or beside it.

use super::proto::*;
use super::{SIDE, engine, refused, valid, with_graph};
use crate::support;
use crate::support::model::hashed_images;
use crate::support::protobuf::{Message, Value};
use selfcls_export::{Classifier, Options};

#[test]
fn weights_that_are_not_what_they_claim() {
    let weight = |change: fn(&mut Message)| {
        with_graph(|graph| {
            graph.edit(
                GRAPH_WEIGHT,
                |w| w.has_text(WEIGHT_NAME, "cls_0.weight"),
                change,
            )
        })
    };
    refused(
        weight(|w| w.set(WEIGHT_DIMS, Value::Number(1 << 40))),
        "which are not the values",
    );
    refused(
        weight(|w| w.set(WEIGHT_DIMS, Value::Number(u64::MAX))),
        "impossible shape",
    );
    refused(
        weight(|w| w.set(WEIGHT_DIMS, Value::Number(0))),
        "impossible shape",
    );
    refused(
        weight(|w| {
            w.0.extend([
                (WEIGHT_DIMS, Value::Number(1 << 62)),
                (WEIGHT_DIMS, Value::Number(8)),
            ])
        }),
        "impossible shape",
    );
    refused(
        weight(|w| w.set(WEIGHT_RAW, Value::Bytes(vec![0; 7]))),
        "7 bytes",
    );
    // 16 bits, with the bytes of 32.
    refused(
        weight(|w| w.set(WEIGHT_TYPE, Value::Number(10))),
        "which are not the values",
    );
    // Complex numbers, text, doubles.
    for kind in [14, 8, 11] {
        let result = with_graph(|graph| {
            graph.edit(
                GRAPH_WEIGHT,
                |w| w.has_text(WEIGHT_NAME, "cls_0.weight"),
                |w| w.set(WEIGHT_TYPE, Value::Number(kind)),
            );
        });
        refused(result, &format!("ONNX type {kind}"));
    }
    refused(
        weight(|w| w.set(WEIGHT_LOCATION, Value::Number(1))),
        "there twice",
    );
    refused(
        weight(|w| w.0.push((WEIGHT_EXTERNAL, Value::Bytes(Vec::new())))),
        "names another file",
    );
    refused(
        weight(|w| w.0.push((4, Value::Fixed32([0; 4])))),
        "there twice",
    );
    refused(
        weight(|w| w.0.push((WEIGHT_RAW, Value::Bytes(vec![0; 16])))),
        "in pieces",
    );
    refused(
        weight(|w| w.set(WEIGHT_NAME, Value::Bytes(b"cls_1.weight".into()))),
        "two weights",
    );
    refused(
        weight(|w| w.set(WEIGHT_NAME, Value::Bytes(b"image".into()))),
        "both an input and a weight",
    );
    refused(
        weight(|w| w.set(WEIGHT_NAME, Value::Bytes(b"a\0b".into()))),
        "NUL",
    );
}

type Entries<'a> = &'a [(&'a str, &'a str)];

/// The valid file with weights in other files, each as its entries describe.
fn outside(weights: &[(&str, Entries<'_>)]) -> Vec<u8> {
    let mut model = Message::parse(&valid());
    for (name, entries) in weights {
        let change = |weight: &mut Message| {
            weight.0.retain(|(field, _)| *field != WEIGHT_RAW);
            weight.0.push((WEIGHT_LOCATION, Value::Number(1)));
            for (key, value) in *entries {
                let entry = Message(Vec::new()).bytes(1, key).bytes(2, value).encode();
                weight.0.push((WEIGHT_EXTERNAL, Value::Bytes(entry)));
            }
        };
        let is_it = |weight: &Message| weight.has_text(WEIGHT_NAME, name);
        let edit = |graph: &mut Message| graph.edit(GRAPH_WEIGHT, is_it, change);
        model.edit(MODEL_GRAPH, |_| true, edit);
    }
    model.encode()
}

/// A folder with the valid file, of which `weights` lie in the files that they name, which there are.
struct Beside {
    folder: tempfile::TempDir,
}

impl Beside {
    fn new(files: &[(&str, usize)]) -> Self {
        let folder = tempfile::tempdir().expect("temporary folder");
        for (name, length) in files {
            std::fs::write(folder.path().join(name), vec![0x3e; *length]).expect("written");
        }
        Self { folder }
    }

    fn open(
        &self,
        weights: &[(&str, Entries<'_>)],
        options: &Options,
    ) -> Result<Classifier, String> {
        let model = self.folder.path().join("model.onnx");
        std::fs::write(&model, outside(weights)).expect("written");
        Classifier::open(&model, options).map_err(|error| error.to_string())
    }
}

/// Each is read as often as it is named, so all that is named counts. `cls_0.weight` has 16 bytes, `cls_1.weight` 24.
#[test]
fn the_same_bytes_again_and_again() {
    let beside = Beside::new(&[("data", 100), ("more", 100)]);
    let options = support::options(&engine());
    let at = |first: Entries<'_>, second: Entries<'_>| {
        let weights = [("cls_0.weight", first), ("cls_1.weight", second)];
        beside.open(&weights, &options)
    };
    let place = |location, offset, length| {
        [
            ("location", location),
            ("offset", offset),
            ("length", length),
        ]
    };
    let first = place("data", "30", "16");
    at(&first, &place("data", "46", "24")).expect("one behind the other");
    at(&first, &place("data", "6", "24")).expect("one before the other");
    at(&first, &place("more", "30", "24")).expect("another file");
    for offset in ["7", "30", "45"] {
        let second = place("data", offset, "24");
        refused(at(&first, &second), "lie on the same bytes of \"data\"");
    }
    // One engine reads to the end of the file, the other as much as the weight has.
    let endless = [("location", "data"), ("offset", "46")];
    refused(at(&first, &endless), "it is said to go on to the end");

    let both: [(&str, Entries<'_>); 2] = [
        ("cls_0.weight", &[("location", "data"), ("length", "16")]),
        ("cls_1.weight", &[("location", "more"), ("length", "24")]),
    ];
    let limited = |bytes| beside.open(&both, &support::options(&engine()).max_data_bytes(bytes));
    limited(40).expect("opens");
    refused(
        limited(39),
        "have 40 bytes, and 39 is the most; raise `max_data_bytes`",
    );
}

/// What was checked is what runs, also where another session is loaded later: the file is not read again.
#[test]
fn a_file_is_read_once() {
    let beside = Beside::new(&[("data", 16)]);
    let options = support::options(&engine()).runs(2);
    let weights: [(&str, Entries<'_>); 1] = [("cls_0.weight", &[("location", "data")])];
    let classifier = beside.open(&weights, &options).expect("opens");
    let images = hashed_images(0, 2, SIDE);
    let one = classifier.run(&images[..images.len() / 2]).expect("runs");
    std::fs::write(beside.folder.path().join("model.onnx"), "another").expect("written");
    let both = classifier.run(&images).expect("runs");
    let first = &both.embedding[..one.embedding.len()];
    let pairs = one.embedding.iter().zip(first);
    assert!(pairs.fold(0.0, |most: f32, (a, b)| most.max((a - b).abs())) < 1e-6);
}

/// A file may name any file of the machine as the place of its weights. `cls_0.weight` is 2 x 2: 16 bytes.
#[test]
fn weights_in_other_files() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = |name: &str| folder.path().join(name);
    std::fs::create_dir(path("models")).expect("created");
    let values: Vec<u8> = [0.5_f32, -0.25, 0.125, 1.0]
        .iter()
        .flat_map(|x| x.to_le_bytes())
        .collect();
    for name in ["secret", "models/weights"] {
        std::fs::write(path(name), &values).expect("written");
    }
    std::fs::write(path("models/longer"), [&[0; 64][..], &values].concat()).expect("written");
    std::fs::create_dir(path("models/folder")).expect("created");
    let open = |entries: &[(&str, &str)]| {
        let model = path("models/model.onnx");
        let weights = outside(&[("cls_0.weight", entries)]);
        std::fs::write(&model, weights).expect("written");
        Classifier::open(&model, &support::options(&engine())).map_err(|error| error.to_string())
    };
    let beside = open(&[("location", "weights")]).expect("opens");
    let images = hashed_images(0, 2, SIDE);
    let found = beside.run(&images).expect("runs");
    let later = open(&[("location", "longer"), ("offset", "64"), ("length", "16")]).expect("opens");
    assert_eq!(later.run(&images).expect("runs"), found);

    let secret = path("secret").display().to_string();
    let missing = "No such file";
    for (entries, said) in [
        (&[("location", "../secret")][..], "beside the model"),
        (&[("location", &secret)], "beside the model"),
        (&[("location", "folder/../weights")], "beside the model"),
        (&[("location", "..\\secret")], "beside the model"),
        (&[("location", "")], "beside the model"),
        (&[("location", "folder")], "not a file"),
        (&[("location", "none")], missing),
        (&[("offset", "0")], "without a name"),
        (
            &[("location", "weights"), ("offset", "1")],
            "the file has 16",
        ),
        (&[("location", "weights"), ("offset", "-1")], "has offset"),
        (
            &[("location", "weights"), ("offset", "18446744073709551615")],
            "the file has 16",
        ),
        (
            &[("location", "weights"), ("length", "8")],
            "8 bytes in another file instead of 16",
        ),
        (
            &[("location", "weights"), ("location", "weights")],
            "two entries",
        ),
    ] {
        let message = open(entries).expect_err(said);
        assert!(message.contains(said), "{entries:?}: {message}");
    }
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(path("secret"), path("models/link")).expect("linked");
        let message = open(&[("location", "link")]).expect_err("refused");
        assert!(message.contains("link"), "{message}");
    }
    // A model in memory has no folder.
    let bytes = outside(&[("cls_0.weight", &[("location", "weights")])]);
    let message = Classifier::from_bytes(bytes, &support::options(&engine()));
    let message = message.expect_err("refused").to_string();
    assert!(message.contains("by its path"), "{message}");
}
