//! Help, completions, presets and what cannot be typed.

use super::ran::{Ran, command, run, run_in};
use std::process::Stdio;

#[test]
fn every_command_has_help() {
    let commands: [&[&str]; 18] = [
        &[],
        &["train"],
        &["launch"],
        &["slurm"],
        &["eval"],
        &["eval", "clusters"],
        &["eval", "knn"],
        &["eval", "kmeans"],
        &["eval", "usage"],
        &["eval", "compare"],
        &["metrics"],
        &["export"],
        &["convert"],
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

/// What cannot work is refused before data or device are looked for, all of it at once.
#[test]
fn impossible_settings_are_refused_before_the_data_is_touched() {
    let folder = tempfile::tempdir().unwrap();
    let ran = run_in(
        folder.path(),
        &[
            "train",
            "--data",
            "no-such-folder",
            "--out",
            "run",
            "--model.head_layers",
            "0",
            "--model.dim",
            "7",
            "--model.heads",
            "10,1",
            "--batch-size",
            "1",
            "--views.local_count",
            "2",
            "--views.local_size",
            "4000",
            "--epochs",
            "3",
            "--optim.warmup_epochs",
            "4",
            "--loss.row_temperature",
            "0",
            "--loss.col_temperature",
            "-1",
            "--queue.length",
            "1",
        ],
    );
    assert!(!ran.stderr.contains("no-such-folder"), "{}", ran.stderr);
    assert!(!folder.path().join("run").exists());
    ran.failed(
        2,
        &[
            "model.head_layers = 0",
            "model.heads has 1;",
            "train.batch_size = 1",
            "views.local_size = 4000",
            "optim.warmup_epochs = 4",
            "loss.row_temperature = 0",
            "loss.col_temperature = -1",
            "queue.length = 1",
        ],
    );
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

    // A preset that extends another is shown whole, and is a configuration file like any other.
    let folder = tempfile::tempdir().unwrap();
    let name = "paper/train_100ep_bs_1024";
    let toml = run(&["presets", "--show", name]).succeeded();
    assert!(toml.contains("scripts/ablation/batch_size/train_100ep_bs_1024.sh"));
    std::fs::write(folder.path().join("mine.toml"), &toml).unwrap();
    let of_preset = run(&["train", "--preset", name, "--print-config"]).succeeded();
    let base = ["train", "--preset", "paper/train_100ep"];
    let of_file = run_in(
        folder.path(),
        &[&base[..], &["--config", "mine.toml", "--print-config"]].concat(),
    )
    .succeeded();
    let values = |text: &str| text.parse::<toml::Table>().unwrap();
    assert_eq!(values(&of_preset), values(&of_file));
    assert_eq!(values(&of_preset)["optim"]["lr"].as_float(), Some(1.2));

    run(&["presets", "--show", "train_100ep_no_mlp"])
        .failed(2, &["paper/train_100ep_no_mlp or first/train_100ep_no_mlp"]);
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
