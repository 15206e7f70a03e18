//! What `convert` writes, opened by PyTorch and torchvision themselves.
//!
//! Runs where a Python has both: `SELFCLS_PYTHON`, or `python3`.

#![allow(clippy::expect_used, reason = "a failed expectation is a failed test")]
#![cfg(feature = "flex")]

use burn::tensor::{Tensor, TensorData};
use selfcls_backends::{Selection, open};
use selfcls_core::config::ModelConfig;
use selfcls_core::model::{Context, state_dict};
use selfcls_core::pretrained::{Part, detectron2, read, safetensors, torchvision};
use selfcls_core::runtime::Runtime;
use selfcls_tests::not_run;
use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

const SIZE: usize = 32;

/// A Python that can import PyTorch and torchvision.
fn python() -> Option<OsString> {
    let program = std::env::var_os("SELFCLS_PYTHON").unwrap_or_else(|| "python3".into());
    let import = Command::new(&program)
        .args(["-c", "import torch, torchvision, numpy"])
        .output()
        .ok()?;
    import.status.success().then_some(program)
}

#[test]
fn pytorch_opens_what_is_converted() {
    let Some(python) = python() else {
        return not_run(
            "pytorch::pytorch_opens_what_is_converted",
            "no Python with torch and torchvision: pip install them, or set SELFCLS_PYTHON",
        );
    };
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, bytes: selfcls_core::Result<Vec<u8>>| {
        let path = folder.path().join(name);
        std::fs::write(path, bytes.expect("converts")).expect("writes");
    };
    // A full-size ResNet-18, whose features must be those of torchvision's.
    let selection: Selection = "flex".parse().expect("a backend");
    let runtime = Runtime::new(open(&selection).expect("flex runs everywhere").device);
    let config = ModelConfig {
        hidden_dim: 8,
        dim: 4,
        heads: vec![2],
        ..Default::default()
    };
    let model = config.init(&runtime.device, 5);
    let state = state_dict(&model);
    write("backbone.pth", torchvision(&state, Part::Backbone));
    write("detectron2.pkl", detectron2(&state));
    // The authors' whole model.
    let checkpoint =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/authors_checkpoint.pth.tar");
    let authors = read(&checkpoint, &[]).expect("reads").state;
    write("whole.pth", torchvision(&authors, Part::Whole));
    write("whole.safetensors", safetensors(&authors, Part::Whole));

    let output = Command::new(python)
        .args(["-c", include_str!("pytorch/verify.py")])
        .arg(folder.path())
        .arg(&checkpoint)
        .output()
        .expect("Python starts");
    let talk = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{talk}");
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let expected: Vec<f32> = serde_json::from_value(answer["features"].clone()).expect("floats");

    let images: Vec<f32> = (0..2 * 3 * SIZE * SIZE)
        .map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0)
        .collect();
    let images = TensorData::new(images, [2, 3, SIZE, SIZE]);
    let images = Tensor::<4>::from_data(images, &runtime.device);
    let context = Context::evaluation(&*runtime.kernels);
    let features = model.backbone.forward(images, &context).into_data();
    let features: Vec<f32> = features.try_into_vec().expect("floats");
    assert_eq!(features.len(), expected.len());
    let scale = expected.iter().fold(0.0_f32, |a, b| a.max(b.abs()));
    let worst = features
        .iter()
        .zip(&expected)
        .fold(0.0_f32, |worst, (a, b)| worst.max((a - b).abs()));
    assert!(scale > 0.1, "the features say nothing: {scale}");
    assert!(worst <= 2e-5 * scale, "{worst} of {scale}");
}
