//! Weights beside the file, where protobuf cannot hold them.

use super::ExternalData;
use super::proto::{EXTERNAL, ModelProto, StringStringEntryProto};
use crate::checksum::Checksum;

/// The largest protobuf message that readers accept.
pub(super) const MAX_BYTES: usize = i32::MAX as usize;

/// Weights begin at multiples of it, so that readers can map the file into memory (ONNX's recommendation).
const ALIGNMENT: usize = 4096;
/// Smaller ones stay inside: shapes must, to be known while a file is loaded, and others gain nothing.
const SMALLEST: usize = 1024;

/// Whether the weights of a file that would have `size` bytes with them lie beside it.
pub(super) fn beside(choice: ExternalData, size: usize) -> bool {
    match choice {
        ExternalData::Always => true,
        ExternalData::Auto => size > MAX_BYTES,
        ExternalData::Never => false,
    }
}

/// Takes the large weights out of `model`, which then refers to the file `name` with these contents and no others, and
/// gives that file's bytes.
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
        weight.external_data = entries.map(|(key, value)| entry(key, value)).into();
        weight.data_location = EXTERNAL;
    }
    let mut sum = Checksum::default();
    sum.add(&data);
    let sum = sum.text();
    let weights = model
        .graph
        .iter_mut()
        .flat_map(|graph| &mut graph.initializer);
    for weight in weights.filter(|weight| weight.data_location == EXTERNAL) {
        weight.external_data.push(entry("checksum", sum.clone()));
    }
    data
}

fn entry(key: &str, value: String) -> StringStringEntryProto {
    StringStringEntryProto {
        key: key.to_owned(),
        value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::writer::proto::{GraphProto, TensorProto};

    #[test]
    fn weights_leave_a_file_that_protobuf_would_not_hold() {
        let limit = 2_147_483_647;
        assert!(!beside(ExternalData::Auto, limit));
        assert!(beside(ExternalData::Auto, limit + 1));
        assert!(beside(ExternalData::Always, 0));
        assert!(!beside(ExternalData::Never, usize::MAX));
    }

    #[test]
    fn large_weights_are_taken_out_in_order_and_small_ones_stay() {
        let weight = |name: &str, bytes: usize, value: u8| TensorProto {
            name: name.to_owned(),
            raw_data: vec![value; bytes],
            ..TensorProto::default()
        };
        let mut model = ModelProto {
            graph: Some(GraphProto {
                initializer: vec![
                    weight("a", SMALLEST, 1),
                    weight("b", SMALLEST - 1, 2),
                    weight("c", 2 * ALIGNMENT, 3),
                ],
                ..GraphProto::default()
            }),
            ..ModelProto::default()
        };
        let data = move_out(&mut model, "model.onnx.data");
        assert_eq!(data.len(), 3 * ALIGNMENT);
        assert_eq!((data[SMALLEST - 1], data[SMALLEST]), (1, 0));
        assert_eq!((data[ALIGNMENT - 1], data[ALIGNMENT]), (0, 3));
        let weights = model.graph.expect("a graph").initializer;
        let entries = |weight: &TensorProto| {
            let entries = weight.external_data.iter();
            entries.map(|entry| entry.value.clone()).collect::<Vec<_>>()
        };
        let mut sum = Checksum::default();
        sum.add(&data);
        let sum = sum.text();
        let place = |offset, length| ["model.onnx.data", offset, length, &*sum];
        assert_eq!(entries(&weights[0]), place("0", "1024"));
        assert_eq!(entries(&weights[2]), place("4096", "8192"));
        assert_eq!(weights[1].raw_data.len(), SMALLEST - 1);
        assert!(weights[0].raw_data.is_empty() && entries(&weights[1]).is_empty());
    }
}
