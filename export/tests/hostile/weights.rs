//! Weights that are not what they claim, in the file or beside it.

use super::proto::*;
use super::{SIDE, refused, valid, with_graph};
use crate::support;
use crate::support::model::hashed_images;
use crate::support::protobuf::{Message, Value};
use selfcls_export::{Classifier, EngineChoice};

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

/// The valid file with one weight in another file, which `entries` describe.
fn outside(entries: &[(&str, &str)]) -> Vec<u8> {
    let mut model = Message::parse(&valid());
    let change = |weight: &mut Message| {
        weight.0.retain(|(field, _)| *field != WEIGHT_RAW);
        weight.0.push((WEIGHT_LOCATION, Value::Number(1)));
        for (key, value) in entries {
            let entry = Message(Vec::new()).bytes(1, key).bytes(2, value).encode();
            weight.0.push((WEIGHT_EXTERNAL, Value::Bytes(entry)));
        }
    };
    model.edit(
        MODEL_GRAPH,
        |_| true,
        |graph| {
            graph.edit(
                GRAPH_WEIGHT,
                |w| w.has_text(WEIGHT_NAME, "cls_0.weight"),
                change,
            )
        },
    );
    model.encode()
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
        std::fs::write(&model, outside(entries)).expect("written");
        Classifier::open(&model, &support::options(&EngineChoice::Tract))
            .map_err(|error| error.to_string())
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
    let bytes = outside(&[("location", "weights")]);
    let message = Classifier::from_bytes(bytes, &support::options(&EngineChoice::Tract));
    let message = message.expect_err("refused").to_string();
    assert!(message.contains("by its path"), "{message}");
}
