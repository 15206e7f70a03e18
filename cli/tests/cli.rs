//! The binary as a user meets it: output, exit codes and messages, in fresh directories.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, Output, Stdio};

/// The binary, in `folder`, without the caller's colour settings.
fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_selfcls-cli"));
    command.current_dir(folder).args(args).stdin(Stdio::null());
    for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"] {
        command.env_remove(name);
    }
    command
}

struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

fn run_in(folder: &Path, args: &[&str]) -> Ran {
    command(folder, args).output().unwrap().into()
}

fn run(args: &[&str]) -> Ran {
    run_in(tempfile::tempdir().unwrap().path(), args)
}

impl Ran {
    /// Exit code 0 and nothing on standard error.
    #[track_caller]
    fn succeeded(self) -> String {
        assert_eq!(
            (self.code, self.stderr.as_str()),
            (Some(0), ""),
            "{}",
            self.stdout
        );
        self.stdout
    }

    /// This exit code, nothing on standard output, and a message with all of `parts`.
    #[track_caller]
    fn failed(self, code: i32, parts: &[&str]) {
        assert_eq!(
            (self.code, self.stdout.as_str()),
            (Some(code), ""),
            "{}",
            self.stderr
        );
        assert!(self.stderr.starts_with("error: "), "{}", self.stderr);
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        for part in parts {
            assert!(
                self.stderr.contains(part),
                "no {part:?} in:\n{}",
                self.stderr
            );
        }
    }
}

#[test]
fn every_command_has_help() {
    let commands: [&[&str]; 15] = [
        &[],
        &["train"],
        &["eval"],
        &["eval", "clusters"],
        &["eval", "knn"],
        &["eval", "kmeans"],
        &["eval", "usage"],
        &["eval", "compare"],
        &["metrics"],
        &["export"],
        &["predict"],
        &["demo"],
        &["devices"],
        &["presets"],
        &["completions"],
    ];
    for command in commands {
        for flag in ["-h", "--help"] {
            let text = run(&[command, &[flag]].concat()).succeeded();
            let usage = format!("Usage: selfcls-cli {}", command.join(" "));
            assert!(text.contains(usage.trim_end()), "{command:?}:\n{text}");
        }
    }
}

#[test]
fn help_of_train_lists_every_key_and_the_short_help_only_a_few() {
    let long = run(&["train", "--help"]).succeeded();
    for part in [
        "--optim.lr <VALUE>",
        "[alias: --lr]",
        "--model.heads",
        "Configuration: views",
    ] {
        assert!(long.contains(part), "no {part:?} in:\n{long}");
    }
    let short = run(&["train", "-h"]).succeeded();
    assert!(
        short.contains("--train.epochs") && !short.contains("--views.hue"),
        "{short}"
    );
}

#[test]
fn the_version_is_printed() {
    assert_eq!(
        run(&["--version"]).succeeded(),
        concat!("selfcls-cli ", env!("CARGO_PKG_VERSION"), "\n")
    );
}

#[test]
fn no_command_is_a_usage_error_that_shows_the_commands() {
    let ran = run(&[]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""));
    assert!(
        ran.stderr.contains("metrics") && ran.stderr.contains("train"),
        "{}",
        ran.stderr
    );
}

#[test]
fn what_cannot_be_typed_is_a_usage_error() {
    let cases: [(&[&str], &[&str]); 14] = [
        (&["trian"], &["trian", "train"]),
        (&["train", "--bogus"], &["--bogus"]),
        (&["train"], &["--data <SOURCE>", "--out <RUN>"]),
        (&["train", "--data", "d"], &["--out <RUN>"]),
        (
            &["train", "--optim.lrr", "1", "--print-config"],
            &["--optim.lrr", "--optim.lr"],
        ),
        (
            &["train", "--preset", "nope", "--print-config"],
            &["nope", "photos-small"],
        ),
        (
            &["train", "--epochs", "ten", "--print-config"],
            &["train.epochs = \"ten\"", "whole number", "hint: "],
        ),
        (
            &["train", "--lr", "-1", "--print-config"],
            &["optim.lr = -1"],
        ),
        (
            &[
                "train",
                "--epochs",
                "0",
                "--batch-size",
                "1",
                "--print-config",
            ],
            &["train.epochs = 0", "train.batch_size = 1"],
        ),
        (&["eval", "run", "--data", "d"], &["run"]),
        (
            &["export", "run", "--out", "m.onnx", "--head", "two"],
            &["--head", "two", "all"],
        ),
        (&["predict", "m.onnx"], &["IMAGE|FOLDER"]),
        (
            &["predict", "m.onnx", "a.png", "--json", "--csv"],
            &["--json", "--csv"],
        ),
        (
            &["presets", "--show", "nope"],
            &["nope", "hint: choose one of", "shapes-demo"],
        ),
    ];
    for (args, parts) in cases {
        run(args).failed(2, parts);
    }
}

#[test]
fn print_config_shows_values_with_their_origins() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("my.toml"),
        "[optim]\nlr = 0.25\n[model]\nheads = [7]\n",
    )
    .unwrap();
    let text = run_in(
        folder.path(),
        &[
            "train",
            "--preset",
            "cifar10-small",
            "--config",
            "my.toml",
            "--model.heads",
            "5,6",
            "--seed",
            "3",
            "--print-config",
        ],
    )
    .succeeded();
    for (start, origin) in [
        ("lr = 0.25", "file my.toml"),
        ("heads = [5, 6]", "command line"),
        ("seed = 3", "command line"),
        ("epochs = 15", "preset cifar10-small"),
        ("row_temperature = 0.1", "default"),
    ] {
        let line = text.lines().find(|line| line.starts_with(start));
        let line = line.unwrap_or_else(|| panic!("no {start:?} in:\n{text}"));
        assert!(line.ends_with(&format!("# {origin}")), "{line}");
    }
    // What was printed is a configuration file.
    std::fs::write(folder.path().join("again.toml"), &text).unwrap();
    let again = run_in(
        folder.path(),
        &["train", "--config", "again.toml", "--print-config"],
    )
    .succeeded();
    let values = |text: &str| -> Vec<String> {
        text.lines()
            .map(|line| line.split('#').next().unwrap().trim().to_string())
            .collect()
    };
    assert_eq!(values(&again), values(&text));
}

#[test]
fn a_bad_configuration_file_is_named_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("bad.toml"), "[optim]\n\nlearning = 1\n").unwrap();
    run_in(
        folder.path(),
        &["train", "--config", "bad.toml", "--print-config"],
    )
    .failed(2, &["bad.toml", "line 3", "learning"]);
    run_in(
        folder.path(),
        &["train", "--config", "none.toml", "--print-config"],
    )
    .failed(1, &["cannot read none.toml"]);
}

#[test]
fn presets_are_listed_and_shown() {
    let list = run(&["presets"]).succeeded();
    for name in ["cifar10-small ", "photos-small ", "shapes-demo "] {
        assert!(list.lines().any(|line| line.starts_with(name)), "{list}");
    }
    let toml = run(&["presets", "--show", "shapes-demo"]).succeeded();
    let table: toml::Table = toml.parse().unwrap();
    assert!(table.contains_key("train"));
}

#[test]
fn completions_know_the_configuration_keys() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = run(&["completions", shell]).succeeded();
        assert!(
            script.contains("optim.lr") && script.contains("predictions"),
            "{shell}"
        );
    }
    run(&["completions", "dos"]).failed(2, &["dos", "bash"]);
}

#[test]
fn a_closed_pipe_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = command(folder.path(), &["completions", "zsh"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(0), vec![]));
}

#[test]
fn colours_follow_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let stderr = |names: &[&str]| {
        let mut command = command(folder.path(), &["presets", "--show", "nope"]);
        let ran: Ran = command
            .envs(names.iter().map(|name| (name, "1")))
            .output()
            .unwrap()
            .into();
        ran.stderr
    };
    assert!(stderr(&["CLICOLOR_FORCE"]).contains("\u{1b}["));
    assert!(!stderr(&["CLICOLOR_FORCE", "NO_COLOR"]).contains('\u{1b}'));
}

mod metrics {
    use super::*;
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
        with("empty.txt").failed(1, &["empty.txt", "holds no labels"]);
        with("none.txt").failed(1, &["cannot read none.txt"]);
        with(".").failed(1, &["folder"]);
        run_in(
            path,
            &[&ARGS[..], &["--superclasses", "words.txt"]].concat(),
        )
        .failed(1, &["words.txt: line 2"]);
        run_in(path, &ARGS[..3]).failed(2, &["--predictions <FILE>"]);
    }
}

/// Commands that read images, train and classify.
mod images {
    use super::*;
    use selfcls_core::data::{SHAPES, Shapes, Source};
    use selfcls_core::picture::write_png;
    use serde_json::Value;

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
        "--batch-size",
        "16",
        "--epochs",
        "1",
        "--train.log_every",
        "1",
        "--data.workers",
        "1",
        "--checkpoint.milestone_epochs",
        "0",
    ];

    fn train<'a>(data: &'a str, out: &'a str) -> Vec<&'a str> {
        [&["train", "--data", data, "--out", out][..], &TINY].concat()
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
        run_in(path, &["export", "one", "--out", "a.onnx"])
            .failed_with_notes(1, &["no checkpoint"]);
        run_in(path, &["eval", "clusters", "none", "--data", "one"])
            .failed_with_notes(1, &["none does not exist"]);
    }

    #[test]
    fn from_pictures_to_answers() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        pictures(&path.join("photos"), 40);
        let ran = run_in(path, &train("photos", "run"));
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        assert_eq!(ran.stdout, "run/checkpoints/step-00000002\n");
        for name in ["config.toml", "metrics.jsonl", "log.txt"] {
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
        assert_eq!(clusters("run"), clusters("model.onnx"));
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
        assert_eq!(csv.lines().next(), Some("file,rank,class,name,probability"));
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

    impl Ran {
        /// As [`Ran::failed`], with notes before the error.
        #[track_caller]
        fn failed_with_notes(self, code: i32, parts: &[&str]) {
            let error = self.stderr.find("error: ").unwrap_or_default();
            Self {
                stderr: self.stderr[error..].to_string(),
                ..self
            }
            .failed(code, parts);
        }
    }
}
