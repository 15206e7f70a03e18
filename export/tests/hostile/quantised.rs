//! Quantised files whose whole numbers do not fit together.

use super::proto::*;
use super::{engine, open, refused};
use crate::support;
use crate::support::protobuf::{Message, Value};
use selfcls_export::{Classifier, Options};

/// Opens the quantised residual network with a part of its graph changed: of `field`, what is called `name`.
fn with(
    (field, named): (u64, u64),
    name: &str,
    change: impl FnOnce(&mut Message),
) -> Result<Classifier, String> {
    let mut model = Message::parse(&support::quantised::bytes("resnet.onnx"));
    let is_it = |part: &Message| part.has_text(named, name);
    model.edit(
        MODEL_GRAPH,
        |_| true,
        |graph| graph.edit(field, is_it, change),
    );
    open(model.encode())
}

fn with_weight(name: &str, change: impl FnOnce(&mut Message)) -> Result<Classifier, String> {
    with((GRAPH_WEIGHT, WEIGHT_NAME), name, change)
}

fn with_node(name: &str, change: impl FnOnce(&mut Message)) -> Result<Classifier, String> {
    with((GRAPH_NODE, NODE_NAME), name, change)
}

const KERNEL: &str = "backbone.conv1.weight_quantized";
const SCALE: &str = "backbone.conv1.weight_scale";
const ZERO: &str = "backbone.conv1.weight_zero_point";
const READING: &str = "backbone.conv1.weight_DequantizeLinear";
const ROUNDING: &str = "backbone.relu_QuantizeLinear";

#[test]
fn weights_of_8_bits_are_held_to_their_shapes() {
    with_weight(KERNEL, |_| ()).expect("the unchanged file opens");
    refused(
        with_weight(KERNEL, |w| w.set(WEIGHT_RAW, Value::Bytes(vec![0; 7]))),
        "7 bytes",
    );
    refused(
        with_weight(KERNEL, |w| w.set(WEIGHT_DIMS, Value::Number(1 << 62))),
        "impossible shape",
    );
    // The bytes of 8 bits, said to be 32.
    refused(
        with_weight(KERNEL, |w| w.set(WEIGHT_TYPE, Value::Number(6))),
        "which are not the values",
    );
    // Numbers in the list of another type, and in two lists.
    refused(
        with_weight(ZERO, |w| w.set(WEIGHT_TYPE, Value::Number(1))),
        "0 bytes",
    );
    refused(
        with_weight(KERNEL, |w| w.0.push((5, Value::Number(1)))),
        "there twice",
    );
    refused(
        with_weight(ZERO, |w| w.0.push((5, Value::Number(1)))),
        "5 bytes",
    );
}

#[test]
fn scales_must_fit_what_they_scale() {
    // 4 scales along the axis of 3, as without the setting.
    refused(
        with_node(READING, |n| {
            n.0.retain(|(field, _)| *field != NODE_ATTRIBUTE);
        }),
        "has scales of shape [4]",
    );
    refused(
        with_weight(SCALE, |w| {
            w.set(WEIGHT_DIMS, Value::Number(2));
            w.set(4, Value::Bytes(vec![63; 8]));
        }),
        "has scales of shape [2]",
    );
    // Signed numbers whose zero is unsigned.
    refused(
        with_weight(ZERO, |w| w.set(WEIGHT_TYPE, Value::Number(2))),
        "whole numbers of one kind",
    );
    // Weights that are not read as floats before they are used.
    refused(
        with_node("backbone.conv1", |n| {
            n.set(
                NODE_INPUT,
                Value::Bytes(b"image_DequantizeLinear_Output".into()),
            );
            n.0.push((NODE_INPUT, Value::Bytes(KERNEL.into())));
            n.0.push((NODE_INPUT, Value::Bytes(b"backbone.conv1.bias".into())));
        }),
        "not of 32-bit floats",
    );
    refused(
        with_node(ROUNDING, |n| {
            n.set(NODE_OP, Value::Bytes(b"DequantizeLinear".into()))
        }),
        "whole numbers of one kind",
    );
    refused(
        with_node(ROUNDING, |n| {
            n.0.push((NODE_OUTPUT, Value::Bytes(b"x".into())))
        }),
        "2 outputs",
    );
}

#[test]
fn size_limits_hold() {
    let bytes = support::quantised::bytes("resnet.onnx");
    let options = Options {
        max_file_bytes: bytes.len() as u64 - 1,
        ..support::options(&engine())
    };
    let message = Classifier::from_bytes(bytes, &options).expect_err("refused");
    assert!(message.to_string().contains("larger than"), "{message}");
}
