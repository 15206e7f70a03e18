//! The round trip: files that the writer wrote, read back into burn by burn's own importer (burn-onnx's `ModelGen`),
//! compiled, and run beside the models that they came from.
//!
//! What the importer made is kept in `fixtures/roundtrip`, since the importer would build burn a second time. The files
//! are kept too, and `selfcls-export`'s test `kept` holds that they are, byte for byte, what the writer writes today.
//! `cargo xtask roundtrip` imports them again.

#![allow(clippy::expect_used, reason = "a failed expectation is a failed test")]
#![cfg(feature = "flex")]

#[path = "../../export/tests/support/model.rs"]
#[allow(dead_code, reason = "the writer's own tests use the rest")]
mod model;

use burn::tensor::{Bytes, Device, Tensor, TensorData};
use model::{Example, hashed_images};
use selfcls_backends::{Selection, open};
use selfcls_core::config::Arch;
use selfcls_core::eval::{Features, ModelNetwork};
use selfcls_core::model::with_state_dict;
use selfcls_core::runtime::Runtime;

#[allow(warnings, clippy::all, reason = "the importer's")]
mod resnet {
    include!("../fixtures/roundtrip/resnet.rs");
}

#[allow(warnings, clippy::all, reason = "the importer's")]
mod vit {
    include!("../fixtures/roundtrip/vit.rs");
}

const SIDE: usize = 16;
const BATCH: usize = 3;
const TOLERANCE: f32 = 1e-5;

#[test]
fn the_residual_network_comes_back() {
    let (runtime, images) = prepared();
    let weights = include_bytes!("../fixtures/roundtrip/resnet.bpk").to_vec();
    let imported = resnet::Model::from_bytes(Bytes::from_bytes_vec(weights), &runtime.device);
    agree(
        imported.forward(images).into(),
        &expected(Arch::ResNet10, runtime),
    );
}

#[test]
fn the_vision_transformer_comes_back() {
    let (runtime, images) = prepared();
    let weights = include_bytes!("../fixtures/roundtrip/vit.bpk").to_vec();
    let imported = vit::Model::from_bytes(Bytes::from_bytes_vec(weights), &runtime.device);
    agree(
        imported.forward(images).into(),
        &expected(Arch::VitSmall, runtime),
    );
}

fn prepared() -> (Runtime, Tensor<4>) {
    let selection: Selection = "flex".parse().expect("a backend");
    let device: Device = open(&selection).expect("opens").device;
    let values = hashed_images(1, BATCH, SIDE);
    let images = Tensor::from_data(TensorData::new(values, [BATCH, 3, SIDE, SIDE]), &device);
    (Runtime::new(device), images)
}

/// What our model says of the images: logits of both heads, probabilities of the first, embedding, features.
fn expected(backbone: Arch, runtime: Runtime) -> [Vec<f32>; 5] {
    let example = Example::kept(backbone);
    let fresh = example.model.init(&runtime.device, 0);
    let model = with_state_dict(fresh, &example.weights).expect("its own weights");
    let network = ModelNetwork::new(model, runtime, Features::Embedding);
    let trace = network.trace(hashed_images(1, BATCH, SIDE), BATCH);
    let [first, second] = trace.logits.try_into().expect("two heads");
    let temperature = example.metadata.row_temperature;
    let probabilities = first.chunks_exact(3).flat_map(|row| {
        let powers: Vec<f32> = row.iter().map(|x| (x / temperature).exp()).collect();
        let sum: f32 = powers.iter().sum();
        powers.into_iter().map(move |power| power / sum)
    });
    let probabilities = probabilities.collect();
    [
        first,
        second,
        probabilities,
        trace.embedding,
        trace.features,
    ]
}

fn agree(imported: [Tensor<2>; 5], expected: &[Vec<f32>; 5]) {
    let names = [
        "logits.0",
        "logits.1",
        "probabilities",
        "embedding",
        "features",
    ];
    for ((output, imported), expected) in names.into_iter().zip(imported).zip(expected) {
        let imported: Vec<f32> = imported.into_data().try_into_vec().expect("floats");
        assert_eq!(imported.len(), expected.len(), "{output}");
        let scale = expected.iter().fold(1.0_f32, |scale, x| scale.max(x.abs()));
        let differences = imported.iter().zip(expected).map(|(a, b)| (a - b).abs());
        // Not `f32::max`, which would swallow a NaN.
        let worst = differences.fold(0.0_f32, |w, d| if d > w || d.is_nan() { d } else { w });
        eprintln!("PARITY\troundtrip\t{output}\t{:.1e}", worst / scale);
        assert!(
            worst / scale <= TOLERANCE,
            "{output} is off by {worst:e} of {scale}"
        );
    }
}
