//! Files that nobody should open: each must be refused with an error, in either engine. A file that slips through and
//! ends the process fails the whole binary.

#[path = "../support/mod.rs"]
mod support;

mod borders;
mod files;
mod foreign;
mod limits;
mod nested;
mod operations;
mod proto;
mod quantised;
mod weights;

use selfcls_core::config::{Arch, ModelConfig, Stem};
use selfcls_core::metadata::InputKind;
use selfcls_export::{Classifier, EngineChoice, FileOptions, HeadSelection, OnnxWriter, Options};
use support::model::Example;
use support::protobuf::Message;
use support::tested_engine as engine;

use proto::MODEL_GRAPH;

const SIDE: usize = 8;

/// All of these tests once more.
#[test]
fn again_in_onnxruntime() {
    if engine() != EngineChoice::Tract {
        return;
    }
    support::again_in_onnxruntime("hostile::again_in_onnxruntime");
}

/// A model of a few kilobytes.
fn example() -> Example {
    let model = ModelConfig {
        backbone: Arch::ResNet10,
        stem: Stem::CifarStride2,
        width: 1,
        hidden_dim: 2,
        dim: 2,
        heads: vec![2, 3],
        ..ModelConfig::default()
    };
    Example::new(model, SIDE)
}

/// A valid file, most of it structure.
fn valid() -> Vec<u8> {
    support::file(&example(), HeadSelection::All)
}

/// A valid file that takes images of any size.
fn that_resizes() -> Vec<u8> {
    let example = example();
    let writer = OnnxWriter::new(&example.model, &example.weights, example.metadata);
    let options = FileOptions {
        input: InputKind::Any,
        ..FileOptions::default()
    };
    writer.options(options).to_bytes().expect("writes")
}

fn open(bytes: Vec<u8>) -> Result<Classifier, String> {
    let options = Options {
        threads: 1,
        ..support::options(&engine())
    };
    open_with(bytes, &options)
}

fn open_with(bytes: Vec<u8>, options: &Options) -> Result<Classifier, String> {
    Classifier::from_bytes(bytes, options).map_err(|error| error.to_string())
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
