//! Operations that do not fit, in files of ours and of others.

use super::proto::*;
use super::{SIDE, engine, refused, valid, with_graph};
use crate::support;
use crate::support::model::{Example, hashed_images};
use crate::support::protobuf::{Message, Value};
use selfcls_core::config::ModelConfig;
use selfcls_export::{Classifier, EngineChoice};

/// Of files that somebody vouches for only the frame is checked, and the engine may stop in the middle of them:
/// then too there must be an error. tract's comes when they are opened.
#[test]
fn foreign_files_that_no_engine_can_run() {
    let preprocess = Example::new(ModelConfig::default(), SIDE)
        .metadata
        .preprocess;
    let options = support::options(&engine()).preprocessing(preprocess);
    let open = |change: &dyn Fn(&mut Message)| {
        let mut model = Message::parse(&valid());
        model.0.retain(|(field, _)| *field != MODEL_METADATA);
        model.edit(MODEL_GRAPH, |_| true, change);
        let classifier = Classifier::from_bytes(model.encode(), &options);
        let classifier = classifier.map_err(|error| error.to_string())?;
        let answer = classifier.run(&hashed_images(0, 1, SIDE));
        answer.map_err(|error| format!("only when it ran: {error}"))
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
        if engine() == EngineChoice::Tract {
            assert!(message.starts_with("the model: "), "{number}: {message}");
        }
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
}
