//! Beside PyTorch itself: what `convert` writes, opened by PyTorch and torchvision; and the gradients of half
//! precision, beside those of PyTorch's autocast.
//!
//! Runs where a Python has both: `SELFCLS_PYTHON`, or `python3`.

#![allow(clippy::expect_used, reason = "a failed expectation is a failed test")]
#![cfg(feature = "flex")]

use burn::tensor::{Tensor, TensorData};
use selfcls_backends::{Selection, open};
use selfcls_core::config::{Arch, ModelConfig};
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
    // Full-size networks of torchvision and a small transformer, whose features must be those that PyTorch finds.
    let selection: Selection = "flex".parse().expect("a backend");
    let runtime = Runtime::new(open(&selection).expect("flex runs everywhere").device);
    let small = ModelConfig {
        hidden_dim: 8,
        dim: 4,
        heads: vec![2],
        ..Default::default()
    };
    let configs = [
        ("resnet18", small.clone()),
        (
            "resnet50",
            ModelConfig {
                backbone: Arch::ResNet50,
                ..small.clone()
            },
        ),
        (
            "vit",
            ModelConfig {
                backbone: Arch::VitTiny,
                width: 128,
                depth: 2,
                patch_size: 8,
                position_size: SIZE,
                ..small
            },
        ),
    ];
    let models = configs.map(|(name, config)| {
        let model = config.init(&runtime.device, 5);
        let state = state_dict(&model);
        write(&format!("{name}.pth"), torchvision(&state, Part::Backbone));
        if name != "vit" {
            write(&format!("{name}.pkl"), detectron2(&state));
        }
        (name, model)
    });
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
    let images: Vec<f32> = (0..2 * 3 * SIZE * SIZE)
        .map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0)
        .collect();
    let images = TensorData::new(images, [2, 3, SIZE, SIZE]);
    let images = Tensor::<4>::from_data(images, &runtime.device);
    let context = Context::evaluation(&*runtime.kernels);
    for (name, model) in models {
        let expected = answer["features"][name].clone();
        let expected: Vec<f32> = serde_json::from_value(expected).expect("floats");
        let features = model.backbone.forward(images.clone(), &context).into_data();
        let features: Vec<f32> = features.try_into_vec().expect("floats");
        assert_eq!(features.len(), expected.len(), "{name}");
        // Which the largest of some differences would not tell.
        assert!(features.iter().chain(&expected).all(|x| x.is_finite()));
        let scale = expected.iter().fold(0.0_f32, |a, b| a.max(b.abs()));
        let worst = features
            .iter()
            .zip(&expected)
            .fold(0.0_f32, |worst, (a, b)| worst.max((a - b).abs()));
        assert!(scale > 0.1, "{name}: the features say nothing: {scale}");
        assert!(worst <= 2e-5 * scale, "{name}: {worst} of {scale}");
    }
}

/// bf16 and fp16 round the same operations as PyTorch's autocast: with the same weights and images the gradient
/// is as far from f32's. (The two do not agree with each other that closely: a value rounded across zero takes
/// its ReLU, and with it a piece of the gradient, along.)
#[cfg(feature = "tch")]
#[test]
fn half_precision_is_as_close_to_f32_as_autocast() {
    use selfcls_core::Config;
    use selfcls_core::config::{OptimKind, Precision, Stem};
    use selfcls_core::model::ViewBatch;
    use selfcls_core::optim::ParamGradients;
    use selfcls_core::train::{Batch, Learner};

    const BATCH: usize = 16;
    const BATCHES: u64 = 4;
    let Some(python) = python() else {
        return not_run(
            "pytorch::half_precision_is_as_close_to_f32_as_autocast",
            "no Python with torch and torchvision: pip install them, or set SELFCLS_PYTHON",
        );
    };
    let opened = open(&"tch:cpu".parse().expect("a backend")).expect("libtorch has a CPU");
    let mut config = Config::default();
    config.model.backbone = Arch::ResNet10;
    config.model.stem = Stem::CifarStride2;
    config.model.width = 8;
    config.model.hidden_dim = 32;
    config.model.dim = 16;
    config.model.heads = vec![3, 5];
    config.queue.length = 0;
    config.optim.kind = OptimKind::Sgd;
    let learner = |precision| {
        let mut config = config.clone();
        config.train.precision = precision;
        let runtime = opened.runtime(precision).expect("libtorch has them all");
        Learner::new(&config, runtime)
    };
    let images = |stream: u64, count: usize, size: usize| -> Vec<f32> {
        let values = 0..(count * 3 * size * size) as u64;
        values.map(|i| noise((stream << 32) + i)).collect()
    };
    let views = |batch: u64| {
        (
            images(2 * batch, 2 * BATCH, 32),
            images(2 * batch + 1, BATCH, 16),
        )
    };
    let gradient = |precision, batch: u64| -> Vec<f64> {
        let (globals, locals) = views(batch);
        let tensor = |values: Vec<f32>, size: usize| {
            let shape = [values.len() / (3 * size * size), 3, size, size];
            Tensor::<4>::from_data(TensorData::new(values, shape), &opened.device)
        };
        let indices = Tensor::arange(0..BATCH as i64, &opened.device);
        let batch = Batch {
            views: ViewBatch {
                global: tensor(globals, 32),
                local: Some(tensor(locals, 16)),
            },
            indices: indices.clone(),
            labels: indices,
        };
        let (_, grads) = learner(precision).gradients(&[batch]).expect("gradients");
        flat(&grads)
    };
    fn flat(grads: &ParamGradients) -> Vec<f64> {
        let mut names: Vec<&str> = grads.names().collect();
        names.sort_unstable();
        let of = |name| {
            let values = grads.get(name).expect("one").clone().into_data();
            values.try_into_vec::<f32>().expect("floats")
        };
        names.into_iter().flat_map(of).map(f64::from).collect()
    }
    let distance = |a: &[f64], b: &[f64]| -> f64 {
        let of = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
        of(&mut a.iter().zip(b).map(|(a, b)| a - b)) / of(&mut b.iter().copied())
    };

    let folder = tempfile::tempdir().expect("a folder");
    let state = state_dict(learner(Precision::F32).model());
    let weights = safetensors(&state, Part::Whole).expect("converts");
    std::fs::write(folder.path().join("weights.safetensors"), weights).expect("writes");
    for batch in 0..BATCHES {
        let (globals, locals) = views(batch);
        for (name, values) in [("globals", globals), ("locals", locals)] {
            let bytes: Vec<u8> = values.into_iter().flat_map(f32::to_le_bytes).collect();
            std::fs::write(folder.path().join(format!("{name}.{batch}")), bytes).expect("writes");
        }
    }
    let output = Command::new(python)
        .args(["-c", include_str!("pytorch/autocast.py")])
        .arg(folder.path())
        .output()
        .expect("Python starts");
    let talk = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{talk}");
    let theirs: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let list =
        |name: &str| -> Vec<f64> { serde_json::from_value(theirs[name].clone()).expect("numbers") };

    let full: Vec<Vec<f64>> = (0..BATCHES).map(|b| gradient(Precision::F32, b)).collect();
    let parity = distance(&full[0], &list("f32"));
    assert!(parity < 1e-3, "f32 differs from PyTorch's by {parity}");
    for (name, precision) in [("bf16", Precision::Bf16), ("fp16", Precision::Fp16)] {
        let mean = |x: &[f64]| x.iter().sum::<f64>() / x.len() as f64;
        let ours: Vec<f64> = (0..BATCHES)
            .map(|batch| distance(&gradient(precision, batch), &full[batch as usize]))
            .collect();
        let theirs = list(name);
        eprintln!("{name}: off f32 by {ours:.3?}, PyTorch by {theirs:.3?}");
        assert!(
            mean(&ours) <= 1.25 * mean(&theirs),
            "{name}: off by {ours:?}, PyTorch by {theirs:?}"
        );
    }
}

/// Numbers in [-2, 2) from an integer hash (splitmix64).
#[cfg(feature = "tch")]
fn noise(x: u64) -> f32 {
    let mut z = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^= z >> 31;
    ((z >> 40) as f32 / 16_777_216.0 - 0.5) * 4.0
}
