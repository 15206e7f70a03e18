//! Weights beside the file, where protobuf cannot hold them.

use super::proto::{EXTERNAL, ModelProto, StringStringEntryProto};

/// Weights begin at multiples of it, so that readers can map the file into memory (ONNX's recommendation).
const ALIGNMENT: usize = 4096;
/// Smaller ones stay inside: shapes must, to be known while a file is loaded, and others gain nothing.
const SMALLEST: usize = 1024;

/// Takes the large weights out of `model`, which then refers to the file `name`, and gives that file's bytes.
pub(super) fn move_out(model: &mut ModelProto, name: &str) -> Vec<u8> {
    let mut data = Vec::new();
    let weights = model
        .graph
        .iter_mut()
        .flat_map(|graph| &mut graph.initializer);
    for weight in weights.filter(|weight| weight.raw_data.len() >= SMALLEST) {
        data.resize(data.len().next_multiple_of(ALIGNMENT), 0);
        let entries = [
            ("location", name.to_owned()),
            ("offset", data.len().to_string()),
            ("length", weight.raw_data.len().to_string()),
        ];
        data.append(&mut weight.raw_data);
        weight.external_data = entries
            .into_iter()
            .map(|(key, value)| StringStringEntryProto {
                key: key.to_owned(),
                value,
            })
            .collect();
        weight.data_location = EXTERNAL;
    }
    data
}
