//! Inputs, outputs and versions that are not what was promised.

use super::proto::*;
use super::{SIDE, open, refused, valid, with_graph};
use crate::support::protobuf::{Message, Value};

#[test]
fn borders_and_versions() {
    let mut model = Message::parse(&valid());
    model.edit(
        MODEL_OPSET,
        |_| true,
        |opset| opset.set(2, Value::Number(99)),
    );
    refused(open(model.encode()), "operator set 99");

    // Sets that no operation is from are no harm.
    let foreign = Message(Vec::new())
        .bytes(1, "com.example")
        .number(2, 1)
        .encode();
    let model = Message::parse(&valid()).bytes(MODEL_OPSET, foreign);
    open(model.encode()).expect("opens");

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
        (7, [0, 3, side, side]),
    ] {
        refused(input(kind, &axes), "its input is not");
    }
    let batch = 1 << 40;
    refused(input(1, &[batch, 3, side, side]), "its fixed batch of");
    refused(input(1, &[0, 3]), "its input is not");
    refused(input(1, &[0; 20]), "too many axes");
}

/// What is called probabilities is made to be some.
#[test]
fn probabilities_that_nothing_makes_so() {
    let result = with_graph(|graph| {
        let is_softmax = |node: &Message| node.has_text(NODE_OP, "Softmax");
        graph.edit(GRAPH_NODE, is_softmax, |node| {
            node.0.retain(|(field, _)| *field != NODE_ATTRIBUTE);
            node.set(NODE_OP, Value::Bytes(b"Relu".into()));
        });
    });
    refused(result, "does not come from a softmax");
}
