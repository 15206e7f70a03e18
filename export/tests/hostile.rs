//! Files that nobody should open: each must be refused with an error. The engine is tract, whose C
//! interface ends the process where it panics, so a file that slips through fails the whole binary.

mod support;

use selfcls_core::config::{Arch, ModelConfig, Stem};
use selfcls_export::{Classifier, EngineChoice, HeadSelection, Options};
use support::model::{Example, hash, hashed_images};
use support::protobuf::{Message, Value};

const SIDE: usize = 8;

// Fields of onnx.proto.
const MODEL_GRAPH: u64 = 7;
const MODEL_OPSET: u64 = 8;
const MODEL_METADATA: u64 = 14;
const GRAPH_NODE: u64 = 1;
const GRAPH_WEIGHT: u64 = 5;
const GRAPH_INPUT: u64 = 11;
const GRAPH_OUTPUT: u64 = 12;
const NODE_INPUT: u64 = 1;
const NODE_OUTPUT: u64 = 2;
const NODE_NAME: u64 = 3;
const NODE_OP: u64 = 4;
const NODE_ATTRIBUTE: u64 = 5;
const ATTRIBUTE_NAME: u64 = 1;
const ATTRIBUTE_INTS: u64 = 8;
const ATTRIBUTE_TYPE: u64 = 20;
const WEIGHT_DIMS: u64 = 1;
const WEIGHT_TYPE: u64 = 2;
const WEIGHT_NAME: u64 = 8;
const WEIGHT_RAW: u64 = 9;
const WEIGHT_EXTERNAL: u64 = 13;
const WEIGHT_LOCATION: u64 = 14;
const BORDER_TYPE: u64 = 2;

/// A valid file of a few kilobytes, most of them structure.
fn valid() -> Vec<u8> {
    let model = ModelConfig {
        backbone: Arch::ResNet10,
        stem: Stem::CifarStride2,
        width: 1,
        hidden_dim: 2,
        dim: 2,
        heads: vec![2, 3],
        ..ModelConfig::default()
    };
    support::file(&Example::new(model, SIDE), HeadSelection::All)
}

fn open(bytes: Vec<u8>) -> Result<Classifier, String> {
    let options = Options {
        threads: 1,
        ..support::options(&EngineChoice::Tract)
    };
    Classifier::from_bytes(bytes, &options).map_err(|error| error.to_string())
}

/// Opens the valid file with its graph changed.
fn with_graph(change: impl FnOnce(&mut Message)) -> Result<Classifier, String> {
    let mut model = Message::parse(&valid());
    model.edit(MODEL_GRAPH, |_| true, change);
    open(model.encode())
}

fn refused(result: Result<Classifier, String>, said: &str) {
    let message = result.expect_err(said);
    assert!(message.contains(said), "{said:?} is not in: {message}");
}

#[test]
fn what_is_not_onnx() {
    open(valid()).expect("the unchanged file opens");
    let jpeg = [0xff, 0xd8, 0xff, 0xe0, 0, 0x10, b'J', b'F', b'I', b'F', 0];
    let noise: Vec<u8> = (0..5000)
        .map(|i| (hash(7, i) * 256.0) as i32 as u8)
        .collect();
    for bytes in [
        &b""[..],
        b"import onnx\n",
        &jpeg,
        &[0; 100],
        &[0xff; 100],
        &noise,
    ] {
        let message = open(bytes.to_vec()).expect_err("must be refused");
        assert!(message.starts_with("the model: not a"), "{message}");
    }
}

#[test]
fn every_truncation() {
    let bytes = valid();
    let whole = open(bytes.clone()).expect("the unchanged file opens");
    for length in 0..bytes.len() {
        // Without its last entry, which need not be there, it is a file that says the same.
        if let Ok(classifier) = open(bytes[..length].to_vec()) {
            assert_eq!(classifier.metadata(), whole.metadata(), "{length} bytes");
            assert!(length > bytes.len() - 40, "{length} bytes");
        }
    }
}

/// Damaged files may still be valid (a weight changed, a name); then they must run.
#[test]
fn random_damage() {
    let bytes = valid();
    let images = hashed_images(0, 2, SIDE);
    let mut opened = 0;
    for round in 0..1500 {
        let mut damaged = bytes.clone();
        let draw = |i: u64| (hash(round, i) + 0.5) as f64;
        let hits = 1 + (draw(0) * 3.0) as u64;
        for hit in 0..hits {
            let at = (draw(3 * hit + 1) * bytes.len() as f64) as usize;
            damaged[at] = match (draw(3 * hit + 2) * 3.0) as u32 {
                0 => damaged[at] ^ 1 << (draw(3 * hit + 3) * 8.0) as u32,
                1 => 0xff,
                _ => (draw(3 * hit + 3) * 256.0) as u8,
            };
        }
        if let Ok(classifier) = open(damaged) {
            opened += 1;
            // An answer or an error, never a crash.
            let _ = classifier.run(&images);
        }
    }
    assert!((1..1490).contains(&opened), "{opened} of 1500 were opened");
}

#[test]
fn too_large() {
    let options = Options {
        max_file_bytes: 1000,
        ..support::options(&EngineChoice::Tract)
    };
    let message = Classifier::from_bytes(valid(), &options)
        .expect_err("refused")
        .to_string();
    assert!(message.contains("larger than 1000 bytes"), "{message}");

    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("large.onnx");
    std::fs::write(&path, valid()).expect("written");
    let message = Classifier::open(&path, &options)
        .expect_err("refused")
        .to_string();
    assert!(message.contains("large.onnx: larger than"), "{message}");
    for missing in [folder.path(), &folder.path().join("none.onnx")] {
        let message = Classifier::open(missing, &options)
            .expect_err("refused")
            .to_string();
        assert!(message.contains("cannot read"), "{message}");
    }
}

#[test]
fn borders_and_versions() {
    let mut model = Message::parse(&valid());
    model.edit(
        MODEL_OPSET,
        |_| true,
        |opset| opset.set(2, Value::Number(99)),
    );
    refused(open(model.encode()), "operator set 99");

    let foreign = Message(Vec::new())
        .bytes(1, "com.example")
        .number(2, 1)
        .encode();
    let model = Message::parse(&valid()).bytes(MODEL_OPSET, foreign);
    refused(open(model.encode()), "com.example");

    let mut model = Message::parse(&valid());
    let is_format = |entry: &Message| entry.has_text(1, "selfcls.format");
    model.edit(MODEL_METADATA, is_format, |entry| {
        entry.set(2, Value::Bytes(b"3".into()))
    });
    refused(open(model.encode()), "update selfcls");

    let mut model = Message::parse(&valid());
    model.0.retain(|(field, _)| *field != MODEL_METADATA);
    refused(open(model.encode()), "selfcls.format");

    let model = Message::parse(&valid()).bytes(MODEL_GRAPH, []);
    refused(open(model.encode()), "no single graph");

    for (field, said) in [(GRAPH_INPUT, "one input"), (GRAPH_OUTPUT, "no output")] {
        refused(
            with_graph(|graph| graph.0.retain(|(number, _)| *number != field)),
            said,
        );
    }
    for (field, said) in [
        (GRAPH_INPUT, "one input"),
        (GRAPH_OUTPUT, "no single output"),
    ] {
        // Twice the same.
        refused(
            with_graph(|graph| {
                let border = graph.0.iter().find(|(number, _)| *number == field).cloned();
                graph.0.push(border.expect("a border"));
            }),
            said,
        );
    }
}

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

/// The input as it was not promised: other types, other axes, absurd lengths.
#[test]
fn inputs_that_are_not_what_they_claim() {
    let input = |kind: u64, axes: &[u64]| {
        let axes = axes.iter().fold(Message(Vec::new()), |shape, &axis| {
            shape.bytes(1, Message(Vec::new()).number(1, axis).encode())
        });
        let tensor = Message(Vec::new()).number(1, kind).bytes(2, axes.encode());
        let value = Message(Vec::new()).bytes(1, tensor.encode()).encode();
        with_graph(|graph| {
            graph.edit(
                GRAPH_INPUT,
                |_| true,
                |border| border.set(BORDER_TYPE, Value::Bytes(value)),
            );
        })
    };
    let side = SIDE as u64;
    for (kind, axes) in [
        (2, [0, 3, side, side]),
        (1, [0, side, side, 3]),
        (1, [0, 3, side, side + 1]),
        (1, [0, 3, 1 << 40, 1 << 40]),
        (1, [0, 1, side, side]),
        (1, [1 << 40, 3, side, side]),
        (7, [0, 3, side, side]),
    ] {
        refused(input(kind, &axes), "its input is not");
    }
    refused(input(1, &[0, 3]), "its input is not");
    refused(input(1, &[0; 20]), "too many axes");
}

/// Of files that somebody vouches for only the frame is checked, and tract may stop in the middle of them:
/// then too there must be an error.
#[test]
fn foreign_files_that_tract_cannot_run() {
    let preprocess = Example::new(ModelConfig::default(), SIDE)
        .metadata
        .preprocess;
    let options = support::options(&EngineChoice::Tract).preprocessing(preprocess);
    let open = |change: &dyn Fn(&mut Message)| {
        let mut model = Message::parse(&valid());
        model.0.retain(|(field, _)| *field != MODEL_METADATA);
        model.edit(MODEL_GRAPH, |_| true, change);
        Classifier::from_bytes(model.encode(), &options).map_err(|error| error.to_string())
    };
    open(&|_| ()).expect("the unchanged file opens");
    let node = |graph: &mut Message, name: &str, change: fn(&mut Message)| {
        graph.edit(GRAPH_NODE, |n| n.has_text(NODE_NAME, name), change);
    };
    let cases: [&dyn Fn(&mut Message); 4] = [
        &|graph| {
            node(graph, "backbone.relu", |n| {
                n.set(NODE_OP, Value::Bytes(b"NoSuchOperation".into()));
            });
        },
        &|graph| {
            node(graph, "backbone.relu", |n| {
                n.set(NODE_INPUT, Value::Bytes(b"none".into()))
            });
        },
        &|graph| {
            graph.edit(
                GRAPH_WEIGHT,
                |w| w.has_text(WEIGHT_NAME, "backbone.conv1.weight"),
                |w| {
                    // 1 x 3 x 3 x 3, as 27 x 1 x 1 x 1.
                    w.0.retain(|(field, _)| *field != WEIGHT_DIMS);
                    w.0.extend([27, 1, 1, 1].map(|n| (WEIGHT_DIMS, Value::Number(n))));
                },
            );
        },
        &|graph| graph.0.retain(|(field, _)| *field != GRAPH_NODE),
    ];
    for (number, case) in cases.iter().enumerate() {
        let message = open(case).expect_err("must be refused");
        assert!(message.starts_with("the model: "), "{number}: {message}");
    }
}

fn is_called(attribute: &Value, name: &str) -> bool {
    matches!(attribute, Value::Bytes(bytes) if Message::parse(bytes).has_text(ATTRIBUTE_NAME, name))
}

#[test]
fn operations_that_do_not_fit() {
    let node = |name: &'static str, change: fn(&mut Message)| {
        with_graph(|graph| graph.edit(GRAPH_NODE, |n| n.has_text(NODE_NAME, name), change))
    };
    // An operation that would allocate whatever it is told to.
    refused(
        node("backbone.relu", |n| {
            n.set(NODE_OP, Value::Bytes(b"Tile".into()))
        }),
        "`Tile` with 1 inputs",
    );
    refused(
        node("backbone.relu", |n| {
            n.set(NODE_INPUT, Value::Bytes(b"logits.0".into()))
        }),
        "before it is computed",
    );
    refused(
        node("backbone.relu", |n| {
            n.set(NODE_OUTPUT, Value::Bytes(b"image".into()))
        }),
        "computed twice",
    );
    refused(
        node("backbone.relu", |n| {
            n.0.push((NODE_OUTPUT, Value::Bytes(b"x".into())))
        }),
        "2 outputs",
    );
    refused(
        node("backbone.relu", |n| {
            n.0.push((7, Value::Bytes(b"com.example".into())))
        }),
        "ONNX's own",
    );
    refused(
        node("backbone.layer2.0.add", |n| {
            n.set(NODE_INPUT, Value::Bytes(b"backbone.layer2.0.conv2".into()));
            n.0.push((NODE_INPUT, Value::Bytes(b"backbone.relu".into())));
        }),
        "adds",
    );
    let attribute = |name: &str, ints: &[u64]| {
        let mut message = Message(Vec::new())
            .bytes(ATTRIBUTE_NAME, name)
            .number(ATTRIBUTE_TYPE, 7);
        message
            .0
            .extend(ints.iter().map(|&i| (ATTRIBUTE_INTS, Value::Number(i))));
        message.encode()
    };
    for (name, ints, said) in [
        (
            "pads",
            &[1 << 40, 1 << 40, 1 << 40, 1 << 40][..],
            "has pads",
        ),
        ("pads", &[u64::MAX; 4], "has pads"),
        ("strides", &[0, 0], "impossible length"),
        ("strides", &[1], "has strides"),
        ("kernel_shape", &[5, 5], "declares the window"),
        ("dilations", &[9, 9], "`dilations`, which is not supported"),
    ] {
        let attribute = attribute(name, ints);
        let result = with_graph(|graph| {
            graph.edit(
                GRAPH_NODE,
                |n| n.has_text(NODE_NAME, "backbone.conv1"),
                |n| {
                    n.0.retain(|(field, value)| {
                        *field != NODE_ATTRIBUTE || !is_called(value, name)
                    });
                    n.0.push((NODE_ATTRIBUTE, Value::Bytes(attribute)));
                },
            );
        });
        refused(result, said);
    }
    refused(
        with_graph(|graph| {
            let relu = Message(Vec::new()).bytes(NODE_OP, "Relu").encode();
            graph
                .0
                .extend((0..20_001).map(|_| (GRAPH_NODE, Value::Bytes(relu.clone()))));
        }),
        "more than 20000 operations",
    );
}
