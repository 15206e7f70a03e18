//! What may stand for a model, and how its images are prepared.

use super::{eval, models};
use crate::ran::run_in as run;
use serde_json::Value;

/// What it would do to an image is done for it, in every engine, so that it can be given images that are cropped.
#[test]
fn a_file_that_resizes_is_evaluated_as_any_other() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("any.onnx");
    let file = file.to_str().unwrap();
    run(
        models(),
        &["export", "run0", "--out", file, "--input", "any"],
    )
    .ok();
    for part in ["clusters", "knn"] {
        let said = |model| run(models(), &eval(part, model, &[])).ok();
        assert_eq!(said(file), said("model.onnx"), "{part}");
    }
}

#[test]
fn exported_files_run_as_they_are_told() {
    let told = |more: &[&'static str]| run(models(), &eval("clusters", "model.onnx", more));
    let one = told(&["--threads", "1"]).ok();
    assert_eq!(one, told(&[]).ok());
    if !cfg!(target_os = "macos") {
        told(&["--provider", "coreml"]).failed_with_notes(1, &["ONNX Runtime"]);
    }
    told(&["--provider", "gpu"]).failed_with_notes(2, &["--provider", "openvino"]);
}

#[test]
fn weights_without_preprocessing_say_which_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let weights = folder
        .path()
        .join("backbone.safetensors")
        .display()
        .to_string();
    let part = [
        "--to",
        "safetensors",
        "--part",
        "backbone",
        "--out",
        &weights,
    ];
    run(models(), &[&["convert", "run0"], &part[..]].concat()).ok();
    let with =
        |measure: &str, model: &str, more: &[&str]| run(models(), &eval(measure, model, more));
    let knn = ["--k", "5"];
    let few = ["eval", "knn", &weights, "--data", "shapes:4:1", "--k", "2"];
    let plain = run(models(), &few);
    let noted = "the file does not say which";
    assert!(plain.stderr.contains(noted), "{}", plain.stderr);
    plain.ok();
    // In part or in full, the same. (Not the run's own result: a 3 x 3 stem does not tell its stride.)
    let crop = ["--k", "5", "--crop", "16"];
    let given = with("knn", &weights, &crop);
    assert!(
        given.stderr.contains("short side to 16, centre crop of 16"),
        "{}",
        given.stderr
    );
    let mean = ["--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225"];
    let rest = ["--resize", "16", "--interpolation", "bilinear"];
    let full = with("knn", &weights, &[&crop[..], &mean, &rest].concat());
    assert_eq!(given.ok(), full.ok());
    let run0 = with("knn", "run0", &knn);
    assert!(!run0.stderr.contains("preprocessing"), "{}", run0.stderr);
    assert_eq!(run0.ok(), with("knn", "run0", &crop).ok());
    let mean = [
        "--k",
        "5",
        "--crop",
        "16",
        "--mean",
        "0.5,0.5,0.5",
        "--std",
        "0.25,0.25,0.25",
    ];
    let other = with("knn", "run0", &mean);
    assert!(other.code == Some(0), "{}", other.stderr);
    with("knn", "model.onnx", &["--crop", "16"])
        .failed_with_notes(2, &["--crop", "an exported file"]);
    with("kmeans", "pixels", &["--mean", "0,0,0"]).failed_with_notes(2, &["--mean", "pixels"]);
    with("knn", &weights, &["--mean", "0.5"]).failed_with_notes(2, &["--mean needs three numbers"]);
    with("knn", &weights, &["--std", "0,1,1"]).failed_with_notes(2, &["deviations"]);
    with("knn", &weights, &["--crop", "64", "--resize", "32"])
        .failed_with_notes(2, &["resize 32 and crop 64"]);
    // What is exported says what it takes.
    let out = folder.path().join("other.onnx").display().to_string();
    run(models(), &["export", "run0", "--crop", "24", "--out", &out]).ok();
    let usage = ["eval", "clusters", &out, "--data", "shapes:80:1", "--json"];
    let exported = run(models(), &usage).ok();
    let direct = with("clusters", "run0", &["--crop", "24", "--json"]).ok();
    let sizes = |text: &str| serde_json::from_str::<Value>(text).unwrap()["sizes"].clone();
    assert_eq!(sizes(&exported), sizes(&direct));
}

#[test]
fn a_file_of_another_program_is_told_what_can_be_done() {
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = std::fs::read(models().join("model.onnx")).unwrap();
    let key = b"selfcls.format";
    let at = bytes.windows(key.len()).position(|part| part == key);
    bytes[at.unwrap()..][..key.len()].copy_from_slice(b"another.format");
    let file = folder.path().join("other.onnx");
    std::fs::write(&file, bytes).unwrap();
    let ran = run(models(), &eval("clusters", file.to_str().unwrap(), &[]));
    assert!(!ran.stderr.contains("Options::"), "{}", ran.stderr);
    ran.failed_with_notes(1, &["other.onnx", "selfcls.format", "predict --crop"]);
}
