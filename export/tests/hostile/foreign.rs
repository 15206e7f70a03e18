//! Files of other programs that are no classifiers, or that no engine can run.

use super::nested::foreign;
use super::proto::*;
use super::refused;
use crate::support::protobuf::{Message, Value};
use selfcls_export::Classifier;

const ATTRIBUTE_INT: u64 = 3;
const BORDER_NAME: u64 = 1;

/// The valid file as another program's, which gives only probabilities, their softmax with these settings.
fn with_softmax(settings: &[Message]) -> Result<Classifier, String> {
    foreign(|model| {
        let change = |graph: &mut Message| {
            graph.0.retain(|(field, value)| {
                let is_kept =
                    |bytes: &[u8]| Message::parse(bytes).has_text(BORDER_NAME, "probabilities");
                *field != GRAPH_OUTPUT || matches!(value, Value::Bytes(bytes) if is_kept(bytes))
            });
            let is_softmax = |node: &Message| node.has_text(NODE_OP, "Softmax");
            graph.edit(GRAPH_NODE, is_softmax, |node| {
                node.0.retain(|(field, _)| *field != NODE_ATTRIBUTE);
                let settings = settings.iter().map(Message::encode).map(Value::Bytes);
                node.0.extend(settings.map(|value| (NODE_ATTRIBUTE, value)));
            });
        };
        model.edit(MODEL_GRAPH, |_| true, change);
    })
}

/// Over the images of a batch, one image has every class for certain.
#[test]
fn a_softmax_over_something_else() {
    let axis = |number: i64| {
        Message(Vec::new())
            .bytes(ATTRIBUTE_NAME, "axis")
            .number(ATTRIBUTE_INT, number as u64)
            .number(ATTRIBUTE_TYPE, 2)
    };
    with_softmax(&[]).expect("opens");
    with_softmax(&[axis(1)]).expect("opens");
    with_softmax(&[axis(-1)]).expect("opens");
    for settings in [&[axis(0)][..], &[axis(-2)], &[axis(0), axis(1)]] {
        refused(
            with_softmax(settings),
            "another axis than the classes of an image",
        );
    }
}

#[test]
fn what_waits_for_itself() {
    let with_nodes = |nodes: &[(&str, &str)]| {
        foreign(|model| {
            let nodes = nodes.iter().map(|(input, output)| {
                let node = Message(Vec::new())
                    .bytes(NODE_INPUT, input)
                    .bytes(NODE_OUTPUT, output)
                    .bytes(NODE_OP, "Relu");
                (GRAPH_NODE, Value::Bytes(node.encode()))
            });
            let change = |graph: &mut Message| graph.0.extend(nodes);
            model.edit(MODEL_GRAPH, |_| true, change);
        })
    };
    with_nodes(&[("backbone.relu", "a"), ("a", "b")]).expect("opens");
    let said = "waits for its own result";
    refused(with_nodes(&[("a", "a")]), said);
    refused(with_nodes(&[("b", "a"), ("a", "b")]), said);
    refused(
        with_nodes(&[("image", "a"), ("image", "a")]),
        "computed twice",
    );
}
