//! What another program's file keeps inside its operations: an engine would read the files that constants there name.

use super::proto::*;
use super::{SIDE, engine, open_with, valid};
use crate::support;
use crate::support::model::Example;
use crate::support::protobuf::{Message, Value};
use selfcls_core::config::ModelConfig;
use selfcls_export::Classifier;

const NODE_CONSTANT: u64 = 5;
const NODE_GRAPH: u64 = 6;
const NODE_SPARSE: u64 = 22;
const GRAPH_SPARSE: u64 = 15;
const MODEL_FUNCTION: u64 = 25;
const FUNCTION_NODE: u64 = 7;

/// The valid file as another program's, changed.
pub(super) fn foreign(change: impl FnOnce(&mut Message)) -> Result<Classifier, String> {
    let mut model = Message::parse(&valid());
    model.0.retain(|(field, _)| *field != MODEL_METADATA);
    change(&mut model);
    let example = Example::new(ModelConfig::default(), SIDE);
    let options = support::options(&engine()).preprocessing(example.metadata.preprocess);
    open_with(model.encode(), &options)
}

/// A constant of 4 bytes in a file of the system.
fn outside() -> Message {
    let place = Message(Vec::new())
        .bytes(1, "location")
        .bytes(2, "../../etc/passwd");
    Message(Vec::new())
        .number(WEIGHT_DIMS, 1)
        .number(WEIGHT_TYPE, 1)
        .bytes(WEIGHT_NAME, "secret")
        .bytes(WEIGHT_EXTERNAL, place.encode())
        .number(WEIGHT_LOCATION, 1)
}

/// An operation with `content` in the field `field` of its one setting.
fn operation(field: u64, content: &Message) -> Message {
    let setting = Message(Vec::new())
        .bytes(ATTRIBUTE_NAME, "value")
        .bytes(field, content.encode());
    Message(Vec::new())
        .bytes(NODE_OUTPUT, "unread")
        .bytes(NODE_OP, "Constant")
        .bytes(NODE_ATTRIBUTE, setting.encode())
}

fn graph_of(operation: &Message) -> Message {
    Message(Vec::new()).bytes(GRAPH_NODE, operation.encode())
}

#[test]
fn constants_in_operations_lie_in_the_file() {
    foreign(|_| ()).expect("the unchanged file opens");
    let constant = operation(NODE_CONSTANT, &outside());
    let branch = operation(NODE_GRAPH, &graph_of(&constant));
    let weight = Message(Vec::new()).bytes(GRAPH_WEIGHT, outside().encode());
    let sparse = Message(Vec::new()).bytes(1, outside().encode());
    for inside in [
        &constant,
        &branch,
        &operation(NODE_GRAPH, &graph_of(&branch)),
        &operation(NODE_GRAPH, &weight),
        &operation(NODE_SPARSE, &sparse),
    ] {
        let message = foreign(|model| {
            let edit = |graph: &mut Message| {
                graph.0.push((GRAPH_NODE, Value::Bytes(inside.encode())));
            };
            model.edit(MODEL_GRAPH, |_| true, edit);
        });
        said(message);
    }
    said(foreign(|model| {
        let edit = |graph: &mut Message| {
            graph.0.push((GRAPH_SPARSE, Value::Bytes(sparse.encode())));
        };
        model.edit(MODEL_GRAPH, |_| true, edit);
    }));
    said(foreign(|model| {
        let function = Message(Vec::new()).bytes(FUNCTION_NODE, constant.encode());
        model
            .0
            .push((MODEL_FUNCTION, Value::Bytes(function.encode())));
    }));
}

fn said(result: Result<Classifier, String>) {
    super::refused(
        result,
        "inside its operations or functions lies in another file",
    );
}

#[test]
fn graphs_within_graphs_end_somewhere() {
    let mut inner = Message(Vec::new()).bytes(NODE_OP, "Identity");
    for _ in 0..17 {
        inner = operation(NODE_GRAPH, &graph_of(&inner));
    }
    let result = foreign(|model| {
        let edit = |graph: &mut Message| {
            graph.0.push((GRAPH_NODE, Value::Bytes(inner.encode())));
        };
        model.edit(MODEL_GRAPH, |_| true, edit);
    });
    super::refused(result, "more than 16 graphs in each other");
}
