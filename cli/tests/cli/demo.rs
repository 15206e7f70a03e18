//! The demonstration, shortened.

use super::ran::{command, run_in};
use serde_json::Value;
use std::fs;

#[test]
fn the_whole_line_leaves_a_classifier_and_a_picture() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let output = command(path, &["demo", "--epochs", "1", "--json"])
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    for fraction in ["nmi", "acc"] {
        let value = found[fraction].as_f64().unwrap();
        assert!((0.0..=1.0).contains(&value), "{found}");
    }
    assert!(found["onnx_max_diff"].as_f64().unwrap() < 1e-4, "{found}");
    assert!(found["seconds"].as_f64().unwrap() > 0.0, "{found}");
    assert!(found["engine"].is_string() && found["head"].is_u64());
    // The choice comes with its reason, whatever so short a training leads to.
    let advice = found["advice"].as_str().unwrap();
    assert!(advice.contains("head"), "{advice}");
    assert!(
        stderr.contains("epoch 1/1") || stderr.contains("epoch 1:"),
        "{stderr}"
    );

    let demo = path.join("runs/demo");
    assert!(
        fs::read(demo.join("classes.png"))
            .unwrap()
            .starts_with(b"\x89PNG")
    );
    // The file stands for itself: only the chosen head, and it classifies.
    let model = demo.join("shapes.onnx");
    let args = [
        "--quiet",
        "predict",
        model.to_str().unwrap(),
        "runs/demo/classes.png",
        "--json",
    ];
    let answer: Value = serde_json::from_str(&run_in(path, &args).succeeded()).unwrap();
    assert!(answer["class"].is_u64(), "{answer}");
}

#[test]
fn what_cannot_be_a_demo_is_refused_before_anything_is_touched() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    run_in(path, &["demo", "--epochs", "0"]).failed(2, &["train.epochs = 0"]);
    run_in(path, &["demo", "--epochs", "few"]).failed(2, &["--epochs", "few"]);
    let run = path.join("mine/run");
    fs::create_dir_all(&run).unwrap();
    fs::write(run.join("config.toml"), "[data]\nsource = \"photos\"\n").unwrap();
    run_in(path, &["demo", "--out", "mine"]).failed(1, &["mine/run holds another run", "--out"]);
    assert!(run.join("config.toml").is_file() && !path.join("mine/shapes.onnx").exists());
    fs::write(path.join("file"), "no folder").unwrap();
    run_in(path, &["demo", "--out", "file"]).failed_with_notes(1, &["file"]);
}
