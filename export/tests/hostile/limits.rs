//! Small files that ask for much: memory is counted before it is taken.

use super::nested::foreign;
use super::proto::*;
use super::{SIDE, engine, open, open_with, refused, that_resizes, valid, with_graph};
use crate::support;
use crate::support::model::{Example, hashed_images};
use crate::support::protobuf::{Message, Value};
use selfcls_core::config::{Arch, ModelConfig, Transformer};
use selfcls_core::metadata::{InputKind, WeightKind};
use selfcls_core::pixels::Rgb8;
use selfcls_export::inference::check_file;
use selfcls_export::{Classifier, EngineChoice, FileOptions, HeadSelection, OnnxWriter, Output};

/// `[batch, ...]` in a border, its batch now fixed.
fn fix_batch(border: &mut Message, batch: u64) {
    border.edit(
        BORDER_TYPE,
        |_| true,
        |kind| {
            kind.edit(
                1,
                |_| true,
                |tensor| {
                    tensor.edit(
                        2,
                        |_| true,
                        |shape| {
                            let axis = Message(Vec::new()).number(1, batch).encode();
                            let first = shape.0.iter_mut().find(|(field, _)| *field == 1);
                            first.expect("an axis").1 = Value::Bytes(axis);
                        },
                    );
                },
            );
        },
    );
}

/// `file` with a fixed batch.
fn with_batch(file: &[u8], batch: u64) -> Vec<u8> {
    let mut model = Message::parse(file);
    model.edit(
        MODEL_GRAPH,
        |_| true,
        |graph| {
            for (field, value) in &mut graph.0 {
                if let (GRAPH_INPUT | GRAPH_OUTPUT, Value::Bytes(border)) = (*field, value) {
                    let mut message = Message::parse(border);
                    fix_batch(&mut message, batch);
                    *border = message.encode();
                }
            }
        },
    );
    model.encode()
}

/// One image is filled up to a whole batch, of 39 GB here.
#[test]
fn a_fixed_batch_is_not_whatever_a_file_says() {
    let classifier = open(with_batch(&valid(), 3)).expect("opens");
    let images = hashed_images(0, 4, SIDE);
    assert_eq!(classifier.run(&images).expect("runs").batch, 4);

    let large = Example::new(super::example().model, 224);
    let large = support::file(&large, HeadSelection::All);
    let said = "its fixed batch of 65536 images of 224 pixels";
    refused(open(with_batch(&large, 65_536)), said);
    refused(
        open(with_batch(&valid(), 65_537)),
        "its fixed batch of 65537",
    );
    // Another program's, which is tried out when it is opened.
    let mut foreign = Message::parse(&with_batch(&large, 65_536));
    foreign.0.retain(|(field, _)| *field != MODEL_METADATA);
    let preprocess = Example::new(super::example().model, 224)
        .metadata
        .preprocess;
    let options = support::options(&engine()).preprocessing(preprocess);
    refused(open_with(foreign.encode(), &options), said);
}

/// The values between the image and the outputs count for every image of the batch.
#[test]
fn values_in_a_run_are_counted() {
    let limited = |file: Vec<u8>, bytes| {
        let options = support::options(&engine()).max_run_bytes(bytes);
        open_with(file, &options)
    };
    limited(valid(), 1 << 14).expect("opens");
    refused(limited(valid(), 1 << 10), "more than 256 numbers in a run");
    refused(
        limited(with_batch(&valid(), 100), 1 << 14),
        "with a batch of less than 100",
    );
}

/// A matrix that is named again and again takes no more of the file, and each time all of its time.
#[test]
fn multiplications_are_counted() {
    let limited = |file: Vec<u8>, operations| {
        let options = support::options(&engine()).max_operations(operations);
        open_with(file, &options)
    };
    // The first layer alone has 4 x 4 pixels of 3 x 3 x 3 each.
    refused(
        limited(valid(), 100),
        "multiplications are needed for each image, and 100 is the most;",
    );
    let needed = (6..20)
        .map(|bits| 1 << bits)
        .find(|&most| limited(valid(), most).is_ok());
    let needed = needed.expect("a few thousand do");
    limited(with_batch(&valid(), 16), needed).expect("opens");
    refused(
        limited(with_batch(&valid(), 64), needed / 2),
        "in a fixed batch of 64; raise `max_operations`",
    );
    let again = |count: usize| {
        let mut model = Message::parse(&valid());
        let change = |graph: &mut Message| {
            let is_it = |node: &Message| node.has_text(NODE_NAME, "backbone.layer1.0.conv2");
            let mut conv = None;
            graph.edit(GRAPH_NODE, is_it, |node| conv = Some(node.clone()));
            let conv = conv.expect("a convolution");
            for number in 0..count {
                let mut conv = conv.clone();
                for field in [NODE_NAME, NODE_OUTPUT] {
                    conv.set(field, Value::Bytes(format!("again.{number}").into()));
                }
                graph.0.push((GRAPH_NODE, Value::Bytes(conv.encode())));
            }
        };
        model.edit(MODEL_GRAPH, |_| true, change);
        limited(model.encode(), 4 * needed)
    };
    again(1).expect("opens");
    refused(again(1900), "multiplications are needed");
}

/// How many operations `file` has.
fn operations(file: &[u8]) -> usize {
    let mut count = 0;
    Message::parse(file).edit(
        MODEL_GRAPH,
        |_| true,
        |graph| {
            let nodes = graph.0.iter().filter(|(field, _)| *field == GRAPH_NODE);
            count = nodes.count();
        },
    );
    count
}

/// Whatever a configuration may ask for can be written, and read again: 256 blocks, a thousand classifiers, 16 layers before
/// them.
#[test]
fn the_deepest_networks_can_be_read() {
    let folder = tempfile::tempdir().expect("a folder");
    for (backbone, width, depth, least) in [
        (Arch::ResNet152, 1, 0, 2_500),
        (Arch::VitSmall, 8, Transformer::MAX_DEPTH, 11_500),
    ] {
        let model = ModelConfig {
            backbone,
            width,
            depth,
            patch_size: 8,
            position_size: 24,
            hidden_dim: 6,
            head_layers: 16,
            dim: 4,
            heads: vec![2; 1000],
            ..ModelConfig::default()
        };
        let example = Example::new(model, SIDE);
        let options = FileOptions {
            heads: HeadSelection::All,
            weights: WeightKind::F16,
            input: InputKind::Any,
            outputs: Some(Output::ALL.into()),
            ..FileOptions::default()
        };
        let writer = OnnxWriter::new(&example.model, &example.weights, example.metadata);
        let bytes = writer.options(options).to_bytes().expect("writes");
        let count = operations(&bytes);
        // The least that tract is given.
        assert!((least..12_000).contains(&count), "{backbone:?}: {count}");
        let path = folder.path().join("model.onnx");
        std::fs::write(&path, &bytes).expect("writes");
        check_file(&path, &support::options(&engine())).expect("would open");
        // Which takes minutes for these.
        if engine() != EngineChoice::Tract {
            let classifier = open(bytes).expect("opens");
            let outputs = classifier.run(&hashed_images(0, 1, SIDE)).expect("runs");
            assert_eq!(outputs.logits.len(), 1000);
        }
    }
}

/// An engine that takes long for many operations is not given as many as others.
#[test]
fn operations_are_counted() {
    let add = |graph: &mut Message, count: usize| {
        for number in 0..count {
            let node = Message(Vec::new()).bytes(NODE_INPUT, "backbone.relu");
            let node = node.bytes(NODE_OUTPUT, format!("more.{number}"));
            let node = node.bytes(NODE_OP, "Relu").encode();
            graph.0.push((GRAPH_NODE, Value::Bytes(node)));
        }
    };
    let more = |count: usize| with_graph(|graph| add(graph, count));
    let own = operations(&valid());
    more(12_000 - own).expect("opens");
    let above = more(12_001 - own);
    let foreign = foreign(|model| {
        model.edit(MODEL_GRAPH, |_| true, |graph| add(graph, 12_001 - own));
    });
    for above in [above, foreign] {
        match engine() {
            EngineChoice::Tract => refused(above, "it has 12001 operations, and tract"),
            _ => above.map(drop).expect("opens"),
        }
    }
    refused(more(32_161 - own), "more than 32160 operations");
}

/// Each is small, and nothing says when an engine lets go of which.
#[test]
fn a_thousand_values_are_counted_together() {
    let fan = |count: usize| {
        let mut model = Message::parse(&valid());
        model.edit(
            MODEL_GRAPH,
            |_| true,
            |graph| {
                for number in 0..count {
                    let relu = format!("relu.{number}");
                    let before = match number {
                        0 => "backbone.relu".to_owned(),
                        number => format!("sum.{}", number - 1),
                    };
                    let node = |op: &str, inputs: &[&str], output: &str| {
                        let mut node = Message(Vec::new());
                        for input in inputs {
                            node = node.bytes(NODE_INPUT, input);
                        }
                        node.bytes(NODE_OUTPUT, output).bytes(NODE_OP, op).encode()
                    };
                    let relu_node = node("Relu", &["backbone.relu"], &relu);
                    let sum = node("Add", &[&before, &relu], &format!("sum.{number}"));
                    graph
                        .0
                        .extend([relu_node, sum].map(|n| (GRAPH_NODE, Value::Bytes(n))));
                }
            },
        );
        let options = support::options(&engine()).max_run_bytes(1 << 15);
        open_with(model.encode(), &options)
    };
    fan(10).expect("opens");
    refused(fan(900), "numbers in a run");
}

/// What it is told to resize to is not what is done: engines never see those operations.
#[test]
fn resizing_to_whatever_a_file_says() {
    let mut model = Message::parse(&that_resizes());
    let mut changed = 0;
    model.edit(
        MODEL_GRAPH,
        |_| true,
        |graph| {
            let weights = graph
                .0
                .iter_mut()
                .filter(|(field, _)| *field == GRAPH_WEIGHT);
            for (_, value) in weights {
                let Value::Bytes(bytes) = value else { continue };
                let mut weight = Message::parse(bytes);
                let is_number = weight.0.iter().any(|(field, value)| {
                    *field == WEIGHT_TYPE && matches!(value, Value::Number(7 | 11))
                });
                let is_part = weight.0.iter().any(|(field, value)| {
                    let is_input = |name: &[u8]| name.starts_with(b"input.");
                    *field == WEIGHT_NAME && matches!(value, Value::Bytes(name) if is_input(name))
                });
                let Some((_, Value::Bytes(raw))) =
                    weight.0.iter_mut().find(|(field, _)| *field == WEIGHT_RAW)
                else {
                    continue;
                };
                if is_number && is_part && raw.len() == 8 {
                    // A million, or a number that is about as large as a double.
                    *raw = 1_000_000_i64.to_le_bytes().to_vec();
                    *bytes = weight.encode();
                    changed += 1;
                }
            }
        },
    );
    assert!(changed > 0, "nothing to resize to");
    let expected = open(that_resizes()).expect("opens");
    let classifier = open(model.encode()).expect("opens");
    for (width, height) in [(30, 20), (1, 65_535), (65_535, 1)] {
        let bytes = (0..3 * width * height).map(|i| i as u8).collect();
        let image = Rgb8::new(width, height, bytes).expect("an image");
        let answer = classifier.classify(&image).expect("classifies");
        assert_eq!(answer, expected.classify(&image).expect("classifies"));
    }
}

/// A list is held to its limit while it is read: each entry takes two bytes of the file.
#[test]
fn lists_without_end() {
    let many = |field: u64, count: usize| {
        with_graph(|graph| {
            let empty = std::iter::repeat_n((field, Value::Bytes(Vec::new())), count);
            graph.0.extend(empty);
        })
    };
    for field in [GRAPH_INPUT, GRAPH_OUTPUT, GRAPH_DECLARED] {
        refused(many(field, 128_641), "more than 128640 weights, inputs");
    }
    let mut model = Message::parse(&valid());
    for number in 0..10_001_u64 {
        let entry = Message(Vec::new()).bytes(1, number.to_string()).encode();
        model.0.push((MODEL_METADATA, Value::Bytes(entry)));
    }
    refused(open(model.encode()), "more than 10000 metadata");

    let node = |change: &dyn Fn(&mut Message)| {
        with_graph(|graph| {
            let is_it = |n: &Message| n.has_text(NODE_NAME, "backbone.conv1");
            graph.edit(GRAPH_NODE, is_it, change);
        })
    };
    for field in [NODE_INPUT, NODE_OUTPUT] {
        let names = std::iter::repeat_n((field, Value::Bytes(Vec::new())), 1025);
        let names: Vec<_> = names.collect();
        refused(
            node(&|n| n.0.extend(names.clone())),
            "more than 1024 inputs",
        );
    }
    let ints = Message(Vec::new()).bytes(ATTRIBUTE_NAME, "pads");
    let ints = ints
        .number(ATTRIBUTE_TYPE, 7)
        .bytes(ATTRIBUTE_INTS, [0; 17]);
    let ints = ints.encode();
    refused(
        node(&|n| n.0.push((NODE_ATTRIBUTE, Value::Bytes(ints.clone())))),
        "`pads` has more than 16 numbers",
    );
    let weight = |change: &dyn Fn(&mut Message)| {
        with_graph(|graph| {
            let is_it = |w: &Message| w.has_text(WEIGHT_NAME, "cls_0.weight");
            graph.edit(GRAPH_WEIGHT, is_it, change);
        })
    };
    refused(
        weight(&|w| w.0.push((WEIGHT_DIMS, Value::Bytes(vec![1; 1000])))),
        "more axes than 8",
    );
    refused(
        weight(&|w| {
            w.0.extend((0..17).map(|number: u64| {
                let entry = Message(Vec::new()).bytes(1, number.to_string());
                (WEIGHT_EXTERNAL, Value::Bytes(entry.encode()))
            }));
        }),
        "more than 16 things",
    );
}

/// A setting with values of two types: readers differ in which they take.
#[test]
fn settings_that_can_be_read_in_two_ways() {
    for second in [
        Message(Vec::new()).number(3, 5),
        Message(Vec::new()).bytes(4, "text"),
        Message(Vec::new()).bytes(5, []),
    ] {
        let result: Result<Classifier, String> = with_graph(|graph| {
            graph.edit(
                GRAPH_NODE,
                |n| n.has_text(NODE_NAME, "backbone.conv1"),
                |n| {
                    n.edit(
                        NODE_ATTRIBUTE,
                        |a| a.has_text(ATTRIBUTE_NAME, "pads"),
                        |a| a.0.extend(second.0.clone()),
                    );
                },
            );
        });
        refused(result, "has `pads` = Other");
    }
}
