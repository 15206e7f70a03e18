//! `metrics`: scores of two files of integers.

use super::ran::run_in;
use serde_json::Value;

/// A folder with the given files, a line for each number.
fn folder(files: &[(&str, &[u32])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, numbers) in files {
        let text: String = numbers.iter().map(|number| format!("{number}\n")).collect();
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

const ARGS: [&str; 5] = ["metrics", "--targets", "t.txt", "--predictions", "p.txt"];

fn targets_and_predictions() -> tempfile::TempDir {
    folder(&[
        ("t.txt", &[0, 0, 1, 1, 2, 2, 2, 5]),
        ("p.txt", &[9, 9, 4, 9, 4, 7, 7, 7]),
        ("s.txt", &[0, 0, 1, 1, 1, 1]),
    ])
}

#[test]
fn json_is_one_object_in_full_precision() {
    let folder = targets_and_predictions();
    let text = run_in(folder.path(), &[&ARGS[..], &["--json"]].concat()).succeeded();
    assert_eq!(text.lines().count(), 1, "{text}");
    let object: Value = serde_json::from_str(&text).unwrap();
    let keys: Vec<&String> = object.as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        ["nmi", "ami", "ari", "acc", "samples", "classes", "clusters"]
    );
    // scikit-learn 1.9.1 on the same labels.
    for (key, expected) in [
        ("nmi", 0.5577965290899926),
        ("ami", 0.20118648299711017),
        ("ari", 0.15789473684210525),
        ("acc", 5.0 / 8.0),
        ("samples", 8.0),
        ("classes", 4.0),
        ("clusters", 3.0),
    ] {
        let value = object[key].as_f64().unwrap();
        assert!((value - expected).abs() < 1e-14, "{key}: {value}");
    }
    let with = run_in(
        folder.path(),
        &[&ARGS[..], &["--json", "--superclasses", "s.txt"]].concat(),
    )
    .succeeded();
    let with: Value = serde_json::from_str(&with).unwrap();
    assert_eq!(
        (&with["acc"], &with["nmi"]),
        (&Value::from(7.0 / 8.0), &object["nmi"])
    );
}

#[test]
fn text_is_a_name_and_a_value_per_line() {
    let folder = targets_and_predictions();
    let text = run_in(folder.path(), &ARGS).succeeded();
    let lines: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(lines.len(), 7);
    assert_eq!(lines[3], ["acc", "0.625000"]);
    assert_eq!(lines[6], ["clusters", "3"]);
}

#[test]
fn bad_files_are_named() {
    let good = targets_and_predictions();
    let path = good.path();
    std::fs::write(path.join("short.txt"), "1\n2\n").unwrap();
    std::fs::write(path.join("words.txt"), "1\ntwo\n").unwrap();
    std::fs::write(path.join("negative.txt"), "-1\n").unwrap();
    std::fs::write(path.join("huge.txt"), "1\n99999999999999999999\n").unwrap();
    std::fs::write(path.join("empty.txt"), "").unwrap();
    let with = |predictions: &str| {
        run_in(
            path,
            &[
                "metrics",
                "--json",
                "--targets",
                "t.txt",
                "--predictions",
                predictions,
            ],
        )
    };
    with("short.txt").failed(1, &["t.txt has 8 labels and short.txt has 2", "hint: "]);
    with("words.txt").failed(1, &["words.txt: line 2: \"two\" is not an integer"]);
    with("negative.txt").failed(1, &["negative.txt: line 1: \"-1\" is negative"]);
    with("huge.txt").failed(
        1,
        &["huge.txt: line 2: \"99999999999999999999\" is larger than 4294967295"],
    );
    with("empty.txt").failed(1, &["empty.txt", "holds no labels"]);
    with("none.txt").failed(1, &["cannot read none.txt"]);
    with(".").failed(1, &["folder"]);
    run_in(
        path,
        &[&ARGS[..], &["--superclasses", "words.txt"]].concat(),
    )
    .failed(1, &["words.txt: line 2"]);
    for (file, expected) in [
        ("negative.txt", "negative.txt: line 1: \"-1\" is negative"),
        ("huge.txt", "huge.txt: line 2"),
    ] {
        run_in(path, &[&ARGS[..], &["--superclasses", file]].concat()).failed(1, &[expected]);
    }
    run_in(path, &ARGS[..3]).failed(2, &["--predictions <FILE>"]);
}
