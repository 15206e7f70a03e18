//! Commands that read images, train and classify.

use super::ran::run_in;
use selfcls_core::data::{SHAPES, Shapes, Source};
use selfcls_core::picture::write_png;
use serde_json::Value;
use std::path::Path;

/// Settings that train in seconds.
const TINY: [&str; 24] = [
    "--preset",
    "shapes-demo",
    "--model.width",
    "4",
    "--model.hidden_dim",
    "16",
    "--model.dim",
    "8",
    "--model.heads",
    "10,20",
    "--views.global_size",
    "16",
    "--queue.length",
    "16",
    "--queue.replace",
    "true",
    "--batch-size",
    "16",
    "--train.log_every",
    "1",
    "--data.workers",
    "1",
    "--checkpoint.milestone_epochs",
    "0",
];

fn train<'a>(data: &'a str, out: &'a str) -> Vec<&'a str> {
    train_for("1", data, out)
}

/// Trains a tiny network for so many epochs.
pub(crate) fn train_for<'a>(epochs: &'a str, data: &'a str, out: &'a str) -> Vec<&'a str> {
    let places = ["train", "--data", data, "--out", out, "--epochs", epochs];
    [&places[..], &TINY].concat()
}

/// `count` pictures in a folder per class.
fn pictures(folder: &Path, count: usize) {
    let shapes = Shapes::new(count, 0, 24);
    for index in 0..count {
        let class = folder.join(SHAPES[index % SHAPES.len()]);
        std::fs::create_dir_all(&class).unwrap();
        write_png(
            &class.join(format!("{index}.png")),
            &shapes.image(index).unwrap(),
        )
        .unwrap();
    }
}

#[test]
fn unusable_data_is_named_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    for name in [
        "empty",
        "text",
        "one",
        "texts",
        "split/train",
        "split/test",
        "dangling",
    ] {
        std::fs::create_dir_all(path.join(name)).unwrap();
    }
    std::fs::write(path.join("text/a.jpg"), "not a picture").unwrap();
    std::fs::write(path.join("texts/a.txt"), "not a picture").unwrap();
    std::fs::write(path.join("file.jpg"), "not a picture").unwrap();
    let picture = Shapes::new(1, 0, 24).image(0).unwrap();
    for name in [
        "one/a.png",
        "text/b.png",
        "split/train/a.png",
        "split/test/b.png",
    ] {
        write_png(&path.join(name), &picture).unwrap();
    }
    let cases: [(&str, &[&str]); 8] = [
        ("none", &["cannot open none"]),
        ("empty", &["empty holds no images", "it is empty"]),
        ("texts", &["texts holds no images", ".jpg"]),
        (
            "text",
            &["text/a.jpg: not a readable image", "repair or remove"],
        ),
        ("one", &["1 image, fewer than one batch", "--batch-size"]),
        ("file.jpg", &["file.jpg is a file", "folder"]),
        ("split", &["several parts (test, train)"]),
        ("shapes:x", &["shapes[:COUNT[:SPLIT]]"]),
    ];
    for (data, parts) in cases {
        run_in(path, &train(data, "run")).failed_with_notes(1, parts);
        assert!(!path.join("run/checkpoints").exists(), "{data}");
        assert!(!path.join("run/config.toml").exists(), "{data}");
    }
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("nowhere.jpg", path.join("dangling/a.jpg")).unwrap();
        run_in(path, &train("dangling", "run")).failed_with_notes(1, &["a.jpg"]);
    }
    run_in(path, &["train", "--out", "run"]).failed(2, &["--data"]);
    run_in(
        path,
        &[&train("one", "run")[..], &["--backend", "cuda"]].concat(),
    )
    .failed(2, &["cuda"]);
    run_in(path, &["predict", "none.onnx", "one"]).failed_with_notes(1, &["none.onnx"]);
    run_in(path, &["predict", "one/a.png", "one"]).failed_with_notes(1, &["one/a.png"]);
    run_in(path, &["export", "one", "--out", "a.onnx"]).failed_with_notes(1, &["no checkpoint"]);
    run_in(path, &["eval", "clusters", "none", "--data", "one"])
        .failed_with_notes(1, &["none does not exist"]);
}

/// What ended a run is in its log; a folder that is no run's stays as it was.
#[test]
fn errors_go_into_the_log_of_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let train = train_for("1", "shapes:64", "run");
    assert_eq!(run_in(path, &train).code, Some(0));
    let ran = run_in(
        path,
        &[&train[..], &["--loss.row_temperature", "0.2"]].concat(),
    );
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    let log = std::fs::read_to_string(path.join("run/log.txt")).unwrap();
    let said = ran.stderr.lines().find(|line| line.starts_with("error: "));
    assert!(log.contains(said.unwrap()), "{}\n{log}", ran.stderr);

    pictures(&path.join("photos"), 2);
    let ran = run_in(path, &train_for("1", "shapes:64", "photos"));
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert!(!path.join("photos/log.txt").exists());
}

#[test]
fn from_pictures_to_answers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    pictures(&path.join("photos"), 40);
    let ran = run_in(path, &train("photos", "run"));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(ran.stdout, "run/checkpoints/step-00000002\n");
    for name in ["config.toml", "metrics.jsonl", "report.html", "log.txt"] {
        assert!(path.join("run").join(name).is_file(), "{name}");
    }
    // All done: the same command has nothing left to do.
    let again = run_in(path, &train("photos", "run"));
    assert_eq!((again.code, again.stdout), (Some(0), ran.stdout));

    let quiet = |args: &[&str]| run_in(path, &[&["--quiet"], args].concat()).succeeded();
    let json = |args: &[&str]| -> Value { serde_json::from_str(&quiet(args)).unwrap() };
    quiet(&["export", "run", "--out", "model.onnx", "--head", "all"]);
    for model in ["run", "model.onnx"] {
        let clusters = json(&[
            "eval",
            "clusters",
            model,
            "--data",
            "photos",
            "--head",
            "1",
            "--json",
            "--picture",
            "classes.png",
        ]);
        assert_eq!(
            (&clusters["samples"], &clusters["classes"]),
            (&40.into(), &8.into())
        );
        assert!(clusters["acc"].as_f64().unwrap() >= 0.1);
        let knn = json(&[
            "eval", "knn", model, "--data", "photos", "--k", "1,5", "--json",
        ]);
        assert_eq!(knn[1]["references"], 39);
    }
    // The checkpoint and the file say the same.
    let clusters = |model| quiet(&["eval", "clusters", model, "--data", "photos"]);
    let (run, model) = (clusters("run"), clusters("model.onnx"));
    // The mean confidence stands last, and is another engine's arithmetic.
    let split = |text: &str| -> (String, f64) {
        let (exact, sure) = text.rsplit_once("sure").unwrap();
        (exact.to_string(), sure.trim().parse().unwrap())
    };
    let ((run, run_sure), (model, model_sure)) = (split(&run), split(&model));
    assert_eq!(run, model);
    assert!(
        (run_sure - model_sure).abs() < 1e-5,
        "{run_sure} {model_sure}"
    );
    run_in(
        path,
        &["eval", "clusters", "run", "--data", "photos", "--head", "2"],
    )
    .failed(2, &["--head 2", "0, 1"]);

    std::fs::write(path.join("photos/bar/broken.jpg"), "no picture").unwrap();
    let ran = run_in(
        path,
        &["predict", "model.onnx", "photos", "--json", "--top", "3"],
    );
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    let lines: Vec<Value> = ran
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 41);
    let (failed, classified): (Vec<&Value>, Vec<&Value>) =
        lines.iter().partition(|line| line["error"].is_string());
    assert!(failed.len() == 1 && failed[0]["file"] == "photos/bar/broken.jpg");
    for line in classified {
        let top = line["top"].as_array().unwrap();
        assert_eq!((top.len(), &top[0]["class"]), (3, &line["class"]));
        assert!(top[0]["probability"].as_f64() >= top[1]["probability"].as_f64());
    }
    let csv = quiet(&["predict", "model.onnx", "photos/disc", "--csv"]);
    assert_eq!(
        csv.lines().next(),
        Some("file,rank,class,name,probability,error")
    );
    assert_eq!(csv.lines().count(), 6);
}

#[test]
fn a_run_is_not_continued_under_other_settings() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let ran = run_in(path, &train("shapes:32", "run"));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    run_in(
        path,
        &[&train("shapes:32", "run")[..], &["--seed", "1"]].concat(),
    )
    .failed_with_notes(1, &["train.seed is 0, now 1", "--out"]);
    std::fs::create_dir(path.join("mine")).unwrap();
    std::fs::write(path.join("mine/thesis.txt"), "years of work").unwrap();
    run_in(path, &train("shapes:32", "mine")).failed_with_notes(1, &["thesis.txt"]);
}
