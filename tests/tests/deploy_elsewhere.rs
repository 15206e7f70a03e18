//! Exported files in programs that are not ours and not in Rust: ONNX's own checker and reference implementation,
//! and the engine of browsers.

#![allow(clippy::expect_used, reason = "a failed expectation is a failed test")]
#![cfg(feature = "flex")]

mod deploy;

use selfcls_core::data::{Shapes, Source};
use selfcls_core::picture::write_png;
use selfcls_export::{Classifier, FileOptions, Options};
use selfcls_tests::not_run;
use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::OnceLock;

/// The folder with files of every form, and their number. Made once.
fn cases() -> (&'static Path, usize) {
    static CASES: OnceLock<(tempfile::TempDir, usize)> = OnceLock::new();
    let (folder, count) = CASES.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let count = deploy::cases::write(folder.path()).len();
        (folder, count)
    });
    (folder.path(), *count)
}

/// A line for every file, and no complaint.
#[track_caller]
fn succeeded(output: &Output, count: usize) {
    let [said, complaints] =
        [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    assert!(output.status.success(), "{complaints}{said}");
    assert_eq!(said.lines().count(), count, "{said}");
    eprintln!("{said}");
}

#[test]
fn onnx_checks_and_runs_every_form() {
    let python = std::env::var_os("SELFCLS_PYTHON").unwrap_or_else(|| "python3".into());
    let import = Command::new(&python)
        .args(["-c", "import onnx, numpy"])
        .output();
    if !import.is_ok_and(|output| output.status.success()) {
        return not_run(
            "deploy_elsewhere::onnx_checks_and_runs_every_form",
            "no Python with onnx: pip install it, or set SELFCLS_PYTHON",
        );
    }
    let (folder, count) = cases();
    let output = Command::new(python)
        .args(["-c", include_str!("deploy/python/check.py")])
        .arg(folder)
        .output()
        .expect("Python starts");
    succeeded(&output, count);
}

/// The recipe of docs/quantisation.md, followed.
#[test]
fn the_recipe_for_8_bits_keeps_the_embedding() {
    let python = std::env::var_os("SELFCLS_PYTHON").unwrap_or_else(|| "python3".into());
    let imports = "import onnx, numpy, PIL, onnxruntime.quantization";
    let import = Command::new(&python).args(["-c", imports]).output();
    if !import.is_ok_and(|output| output.status.success()) {
        return not_run(
            "deploy_elsewhere::the_recipe_for_8_bits_keeps_the_embedding",
            "no Python with onnx, onnxruntime and Pillow: pip install them, or set SELFCLS_PYTHON",
        );
    }
    let folder = tempfile::tempdir().expect("a folder");
    let images = folder.path().join("images");
    std::fs::create_dir(&images).expect("a folder");
    let shapes = Shapes::new(24, 5, 48);
    for index in 0..shapes.len() {
        let image = shapes.image(index).expect("draws");
        let path = images.join(format!("{index}.png"));
        write_png(&path, &image).expect("writes");
    }
    let [model, quantised] = ["model.onnx", "int8.onnx"].map(|name| folder.path().join(name));
    let network = deploy::models::Model::new(deploy::models::resnet());
    let writer = network.writer(FileOptions::default());
    writer.write(&model).expect("writes");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/quantise_int8.py");
    let output = Command::new(python)
        .arg(script)
        .args([&model, &images, &quantised])
        .output()
        .expect("Python starts");
    let talk = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{talk}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    eprintln!("{report}");
    let number = |key: &str| report[key].as_f64().expect("a number");
    assert_eq!(number("images"), 24.0);
    assert!(number("mean_cosine") > 0.99, "{report}");
    assert!(number("bytes") < 0.5 * number("bytes_before"), "{report}");
    // It opens as the file that it was made from, and says nearly the same.
    let open = |path: &Path| Classifier::open(path, &Options::default()).expect("opens");
    let (floats, quantised) = (open(&model), open(&quantised));
    assert_eq!(quantised.metadata(), floats.metadata());
    let images: Vec<_> = (0..shapes.len())
        .map(|index| shapes.image(index).expect("draws"))
        .collect();
    let embeddings = |classifier: &Classifier| classifier.outputs(&images).expect("runs").embedding;
    let (a, b) = (embeddings(&floats), embeddings(&quantised));
    let cosines: f32 = a.iter().zip(&b).map(|(a, b)| a * b).sum();
    assert!(cosines / images.len() as f32 > 0.99, "{cosines}");
}

#[test]
fn browsers_run_every_form() {
    const TEST: &str = "deploy_elsewhere::browsers_run_every_form";
    let Some(engine) = std::env::var_os("SELFCLS_ONNXRUNTIME_WEB") else {
        let reason = "no ONNX Runtime for the web: `cargo xtask setup onnxruntime-web` fetches it";
        return not_run(TEST, reason);
    };
    let node = OsString::from("node");
    if !Command::new(&node)
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success())
    {
        return not_run(TEST, "no Node.js");
    }
    let (folder, count) = cases();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/deploy/web/run.mjs");
    let output = Command::new(node)
        .arg(script)
        .arg(engine)
        .arg(folder)
        .output()
        .expect("Node.js starts");
    succeeded(&output, count);
}
