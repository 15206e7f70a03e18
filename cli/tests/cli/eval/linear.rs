//! A linear layer on features, and on a backbone that is trained along.

use super::{eval, models};
use crate::ran::run_in as run;
use serde_json::Value;

/// The numbers of each epoch, less what is known anyway.
fn tops(found: &Value) -> Vec<(f64, f64)> {
    let epochs = found["epochs"].as_array().unwrap().iter();
    epochs
        .map(|epoch| {
            let of = |key: &str| epoch[key].as_f64().unwrap();
            (of("top1"), of("top5"))
        })
        .collect()
}

#[test]
fn a_linear_layer_on_frozen_features() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache").display().to_string();
    let with = |model: &str, more: &[&str]| {
        let args = [
            "--train",
            "shapes:160",
            "--epochs",
            "3",
            "--batch",
            "32",
            "--lr",
            "1",
        ];
        let args = [&args[..], more].concat();
        run(models(), &eval("linear", model, &args))
    };
    let json = |model: &str, more: &[&str]| -> Value {
        let text = with(model, &[more, &["--json"]].concat()).ok();
        serde_json::from_str(&text).unwrap()
    };
    let fresh = json("run0", &[]);
    assert_eq!(
        (&fresh["samples"], &fresh["train_samples"]),
        (&80.into(), &160.into())
    );
    assert_eq!(
        (&fresh["classes"], &fresh["features"]),
        (&8.into(), &"backbone".into())
    );
    let backbone = &fresh["backbone"];
    assert_eq!(backbone["before"], backbone["after"]);
    assert_eq!(backbone["before"].as_str().unwrap().len(), 64);
    let epochs = tops(&fresh);
    assert_eq!(epochs.len(), 3);
    let best = epochs.iter().map(|epoch| epoch.0).fold(0.0, f64::max);
    assert_eq!(fresh["best"]["top1"], best);
    assert!(
        epochs
            .iter()
            .all(|&(top1, top5)| top1 <= top5 && top5 > 0.3),
        "{epochs:?}"
    );
    let lr: Vec<f64> = (0..3)
        .map(|epoch| fresh["epochs"][epoch]["lr"].as_f64().unwrap())
        .collect();
    assert!(
        (lr[0] - 1.0).abs() < 1e-12 && (lr[1] - 0.75).abs() < 1e-12,
        "{lr:?}"
    );

    // Features made once: as many epochs as are trained give what fresh crops give.
    let three = json("run0", &["--fast", "3"]);
    for ((a, _), (b, _)) in tops(&three).into_iter().zip(epochs) {
        assert!((a - b).abs() < 0.03, "{a} {b}");
    }
    assert!(
        three["mode"]
            .as_str()
            .unwrap()
            .contains("3 epochs of random crops")
    );
    let centre = ["--fast", "centre", "--cache", &cache];
    let first = with("run0", &centre).ok();
    assert!(
        first.contains("features of the centre crops") && first.contains("unchanged"),
        "{first}"
    );
    let again = with("run0", &centre);
    assert!(
        again.stderr.contains("160 images from the cache"),
        "{}",
        again.stderr
    );
    assert_eq!(again.ok(), first);
    with("run0", &["--fast", "2", "--cache", &cache]).ok();
    with("run0", &["--fast", "3", "--cache", &cache]).failed_with_notes(
        1,
        &[
            "train-crop-features.safetensors is stale",
            "other preprocessing",
        ],
    );

    // Deployed files and pixels have features too.
    for (model, features) in [("model.onnx", "head"), ("pixels:8", "pixels")] {
        let found = json(model, &["--fast", "centre", "--optimizer", "larc"]);
        assert_eq!(
            (&found["features"], &found["optimizer"]),
            (&features.into(), &"larc".into())
        );
        assert!(found["backbone"]["before"].is_null());
    }
}

#[test]
fn fine_tuning_trains_the_backbone_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("fine").display().to_string();
    let with = |out: &str, more: &[&str]| {
        let args = [
            "--train",
            "shapes:64",
            "--no-freeze",
            "--epochs",
            "2",
            "--lr",
            "0.05",
            "--out",
            out,
        ];
        run(
            models(),
            &eval("linear", "run0", &[&args[..], more].concat()),
        )
    };
    let found: Value = serde_json::from_str(&with(&out, &["--json"]).ok()).unwrap();
    assert_ne!(found["backbone"]["before"], found["backbone"]["after"]);
    assert_eq!(tops(&found).len(), 2);
    let again = with(&out, &["--json"]);
    assert!(
        again.stderr.contains("continuing after 2 epochs"),
        "{}",
        again.stderr
    );
    assert_eq!(serde_json::from_str::<Value>(&again.ok()).unwrap(), found);
    with(&out, &["--seed", "1"])
        .failed_with_notes(1, &["linear-state.safetensors", "other settings"]);
    // What it learned is a file of weights like any other.
    let best = format!("{out}/linear-best.safetensors");
    let knn = run(
        models(),
        &["eval", "knn", &best, "--data", "shapes:40:1", "--k", "5"],
    );
    assert_eq!(knn.ok().lines().count(), 2);
    let refused = |model: &str, more: &[&str], code, parts: &[&str]| {
        let args = [&["--train", "shapes:16"], more].concat();
        run(models(), &eval("linear", model, &args)).failed_with_notes(code, parts);
    };
    refused(
        "model.onnx",
        &["--no-freeze"],
        2,
        &["--no-freeze", "cannot be trained"],
    );
    refused("run0", &["--no-freeze", "--fast", "1"], 2, &["--fast"]);
    refused("run0", &["--fast", "0"], 2, &["centre"]);
    refused("run0", &["--lr", "-1"], 2, &["learning rate -1"]);
    refused("run0", &["--epochs", "0"], 2, &["at least 1"]);
}
