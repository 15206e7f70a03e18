//! `export` as a user meets it: what is written, what is proven, and what leaves no file.

use super::ran::{Ran, command, run_in as run};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// A tiny run with two classifiers, `run`. Made once.
fn runs() -> &'static Path {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    FOLDER
        .get_or_init(|| {
            let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
            train(folder.path(), 4);
            folder
        })
        .path()
}

/// Trains `run` in `folder`.
fn train(folder: &Path, width: usize) {
    let args = format!(
        "--quiet train --data shapes:64 --out run --preset shapes-demo \
        --model.width {width} --model.hidden_dim 16 --model.dim 8 --model.heads 3,5 \
        --views.global_size 16 --queue.length 16 --batch-size 16 --epochs 2 --data.workers 1"
    );
    let args: Vec<&str> = args.split_whitespace().collect();
    run(folder, &args).ok();
}

/// A folder for one test, and the run.
fn fresh() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let run = runs().join("run").to_str().unwrap().to_owned();
    (folder, run)
}

fn export(folder: &Path, model: &str, more: &[&str]) -> Ran {
    let args = [&["export", model, "--out", "model.onnx"][..], more].concat();
    run(folder, &args)
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn a_file_is_proven_and_the_same_every_time() {
    let (folder, model) = fresh();
    let first = export(folder.path(), &model, &[]).fine();
    assert_eq!(first.stdout, "model.onnx\n");
    assert!(
        first
            .stderr
            .contains("largest difference to the trained model on 15 images")
            && first.stderr.contains("with tract (built in)"),
        "{}",
        first.stderr
    );
    let bytes = std::fs::read(folder.path().join("model.onnx")).unwrap();
    export(folder.path(), &model, &[]).ok();
    assert_eq!(
        std::fs::read(folder.path().join("model.onnx")).unwrap(),
        bytes
    );
    assert_eq!(names(folder.path()), ["model.onnx"]);
}

#[test]
fn every_choice_can_be_made() {
    let (folder, model) = fresh();
    let json = |more: &[&str]| -> Value {
        let more = [more, &["--json", "--quiet"]].concat();
        let said = export(folder.path(), &model, &more).fine();
        assert_eq!(said.stderr, "");
        serde_json::from_str(&said.stdout).unwrap()
    };
    let plain = json(&[]);
    assert_eq!(plain["file"], "model.onnx");
    assert_eq!(
        plain["outputs"],
        serde_json::json!(["logits.0", "probabilities", "embedding"])
    );
    let engine = plain["proofs"][0]["engine"].as_str().unwrap();
    assert_eq!(engine, "tract (built in)");
    assert!(plain["proofs"][0]["difference"].as_f64().unwrap() <= 1e-5);
    let size = std::fs::metadata(folder.path().join("model.onnx"))
        .unwrap()
        .len();
    assert_eq!(plain["bytes"], size);

    let all = json(&[
        "--head",
        "1,0",
        "--outputs",
        "features,logits.*",
        "--opset",
        "21",
    ]);
    assert_eq!(
        all["outputs"],
        serde_json::json!(["logits.0", "logits.1", "features"])
    );
    let halves = json(&["--weights", "f16", "--batch", "2", "--input", "uint8"]);
    assert!(halves["bytes"].as_u64().unwrap() < size * 2 / 3);
    assert!(halves["proofs"][0]["grey_levels"].as_f64().unwrap() < 1e-3);
    json(&["--dynamic-size"]);

    let beside = json(&["--external-data", "always"]);
    assert_eq!(beside["data"], "model.onnx.data");
    assert_eq!(names(folder.path()), ["model.onnx", "model.onnx.data"]);
}

#[test]
fn a_file_that_resizes_is_proven_in_every_engine() {
    let (folder, model) = fresh();
    let ran = export(folder.path(), &model, &["--input", "any", "--json"]);
    let said: Value = serde_json::from_str(&ran.ok()).unwrap();
    let proofs = said["proofs"].as_array().unwrap();
    assert!(said["unproven"].as_array().unwrap().is_empty(), "{said}");
    let tract = proofs[0]["engine"].as_str().unwrap();
    assert!(tract.starts_with("tract"), "{said}");
    for proof in proofs {
        assert!(proof["grey_levels"].as_f64().unwrap() <= 1.001, "{said}");
    }
}

#[test]
fn classes_get_names() {
    let (folder, model) = fresh();
    write(folder.path(), "three.txt", "one\ntwo\nthree\n");
    write(folder.path(), "five.txt", "a\nb\nc\nd\ne\n");
    let more = [
        "--head",
        "all",
        "--names",
        "three.txt",
        "--names",
        "1=five.txt",
    ];
    export(folder.path(), &model, &more).ok();
    let bytes = std::fs::read(folder.path().join("model.onnx")).unwrap();
    let has = |text: &str| {
        bytes
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    };
    assert!(has(r#""names":["one","two","three"]"#) && has(r#""names":["a","b","c","d","e"]"#));
    assert!(has(r#""source":"shapes:64""#));

    // Names that the matching with labels finds.
    let found = [
        "eval",
        "clusters",
        &model,
        "--data",
        "shapes:40:1",
        "--save-names",
        "found.txt",
    ];
    run(folder.path(), &found).ok();
    let found = std::fs::read_to_string(folder.path().join("found.txt")).unwrap();
    assert_eq!(found.lines().count(), 3, "{found}");
    export(folder.path(), &model, &["--names", "found.txt"]).ok();

    let all = [
        "eval",
        "clusters",
        &model,
        "--data",
        "shapes:40:1",
        "--head",
        "all",
        "--save-names",
        "x",
    ];
    run(folder.path(), &all).failed_with_notes(2, &["--save-names", "--head N"]);
    for (more, code, parts) in [
        (
            &["--names", "five.txt"][..],
            2,
            &["five.txt has 5 names, but head 0 has 3"][..],
        ),
        (&["--names", "7=five.txt"], 2, &["no head 7"]),
        (&["--names", "none.txt"], 1, &["none.txt"]),
    ] {
        export(folder.path(), &model, more).failed_with_notes(code, parts);
    }
}

#[test]
fn what_cannot_be_is_refused_with_the_fix() {
    let (folder, model) = fresh();
    for (more, parts) in [
        (
            &["--head", "2"][..],
            &["no head 2; its heads are 0 to 1"][..],
        ),
        (&["--head", "0,0"], &["different ones"]),
        (
            &["--outputs", "logits,labels"],
            &["labels", "probabilities"],
        ),
        (&["--input", "any", "--opset", "17"], &["use 18 or newer"]),
        (
            &["--input", "any", "--dynamic-size"],
            &["every size already"],
        ),
        (&["--input", "bytes"], &["float, uint8, any"]),
        (&["--opset", "9"], &["from 17 to 21"]),
        (&["--batch", "0"], &["a fixed batch of 0"]),
        (&["--weights", "int8"], &["f32, f16"]),
    ] {
        export(folder.path(), &model, more).failed_with_notes(2, parts);
    }
    let missing = ["export", &model, "--out", "no/such/folder/model.onnx"];
    run(folder.path(), &missing).failed_with_notes(2, &["no folder no/such/folder", "make it"]);
    let images = ["--verify-images", "no/images"];
    export(folder.path(), &model, &images).failed_with_notes(1, &["no/images"]);
    assert!(names(folder.path()).is_empty());
}

#[test]
fn an_engine_that_fails_leaves_what_was_there() {
    let (folder, model) = fresh();
    // As a model begins.
    let old = "\u{8}\u{8}\u{12}old";
    write(folder.path(), "model.onnx", old);
    let engine = ["--onnxruntime", "no/libonnxruntime.so"];
    export(folder.path(), &model, &engine)
        .failed_with_notes(1, &["model.onnx was not written", "no/libonnxruntime.so"]);
    assert_eq!(names(folder.path()), ["model.onnx"]);
    let kept = std::fs::read_to_string(folder.path().join("model.onnx")).unwrap();
    assert_eq!(kept, old);
}

#[test]
fn nothing_but_a_model_is_replaced() {
    let (folder, model) = fresh();
    for text in ["\u{8}\u{1}text", "a photo", "{}"] {
        write(folder.path(), "model.onnx", text);
        export(folder.path(), &model, &[])
            .failed(2, &["--out model.onnx", "something else than an ONNX file"]);
        let kept = std::fs::read_to_string(folder.path().join("model.onnx")).unwrap();
        assert_eq!(kept, text);
    }
    write(folder.path(), "model.onnx", "");
    export(folder.path(), &model, &[]).ok();
    assert_eq!(names(folder.path()), ["model.onnx"]);
    std::fs::create_dir(folder.path().join("models")).unwrap();
    let ran = run(folder.path(), &["export", &model, "--out", "models"]);
    ran.failed_with_notes(2, &["models: that is a folder", "models/model.onnx"]);
}

/// A model that kept its weights beside it, replaced by one that does not.
#[test]
fn weights_of_the_model_of_before_do_not_stay() {
    let (folder, model) = fresh();
    export(folder.path(), &model, &["--external-data", "always"]).ok();
    assert_eq!(names(folder.path()), ["model.onnx", "model.onnx.data"]);
    export(folder.path(), &model, &[]).ok();
    assert_eq!(names(folder.path()), ["model.onnx"]);
}

/// What is left beside the file is removed by an export to it a day later, and nothing lies anywhere else.
#[cfg(unix)]
#[test]
fn an_export_that_is_killed_leaves_nothing_for_long() {
    let (folder, model) = fresh();
    let temporary = tempfile::tempdir().unwrap();
    let mut child = command(folder.path(), &["export", &model, "--out", "model.onnx"])
        .env("TMPDIR", temporary.path())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // As soon as there is something.
    while names(folder.path()).is_empty() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let left = names(folder.path());
    assert!(!left.is_empty());
    assert!(names(temporary.path()).is_empty());
    for name in left.iter().filter(|name| name.ends_with(".partial")) {
        let path = folder.path().join(name);
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
    }
    export(folder.path(), &model, &[]).ok();
    assert_eq!(names(folder.path()), ["model.onnx"]);
}

#[test]
fn images_that_cannot_be_taken_are_not_called_missing() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let photos = folder.path().join("photos");
    std::fs::create_dir(&photos).unwrap();
    for index in 0..16 {
        let image = selfcls_core::data::Shapes::new(16, 0, 16);
        let image = selfcls_core::data::Source::image(&image, index).unwrap();
        selfcls_core::picture::write_png(&photos.join(format!("{index}.png")), &image).unwrap();
    }
    let config = "--quiet train --data photos --out run --preset shapes-demo --model.width 4 \
        --model.hidden_dim 16 --model.dim 8 --model.heads 3 --views.global_size 16 --queue.length 16 \
        --batch-size 16 --epochs 1 --data.workers 1";
    let config: Vec<&str> = config.split_whitespace().collect();
    run(folder.path(), &config).ok();
    std::fs::write(photos.join("3.png"), "no image").unwrap();
    let ran = export(folder.path(), "run", &[]).fine();
    assert!(
        ran.stderr.contains("cannot be taken (") && ran.stderr.contains("3.png"),
        "{}",
        ran.stderr
    );
    std::fs::remove_dir_all(&photos).unwrap();
    let ran = export(folder.path(), "run", &[]).fine();
    assert!(
        ran.stderr.contains("the training images are not there"),
        "{}",
        ran.stderr
    );
}

/// Nobody would notice before it is to be used.
#[test]
fn a_file_that_nobody_could_open_is_not_written() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    train(folder.path(), 16);
    let more = ["--crop", "64", "--resize", "64", "--batch", "20000"];
    export(folder.path(), "run", &more).failed_with_notes(
        1,
        &[
            "model.onnx was not written: selfcls itself would refuse it",
            "export it with a batch of less than 20000",
        ],
    );
    assert_eq!(names(folder.path()), ["run"]);
}

/// What becomes of the values of the last weight with this ending.
type Change = (&'static str, fn(f32) -> f32);

/// Writes the weights of `model` to `weights.safetensors`, changed.
fn with_weights(folder: &Path, model: &str, changes: &[Change]) {
    let convert = ["convert", model, "--to", "safetensors"];
    run(
        folder,
        &[&convert[..], &["--out", "weights.safetensors"]].concat(),
    )
    .ok();
    let path = folder.join("weights.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    for (ending, change) in changes {
        let mut weights = header.as_object().unwrap().iter();
        let last = weights.rfind(|(name, _)| name.ends_with(ending));
        let (_, array) = last.unwrap();
        let offsets: [usize; 2] = serde_json::from_value(array["data_offsets"].clone()).unwrap();
        let values = &mut bytes[8 + length..][offsets[0]..offsets[1]];
        for value in values.chunks_exact_mut(4) {
            let changed = change(f32::from_le_bytes(value[..].try_into().unwrap()));
            value.copy_from_slice(&changed.to_le_bytes());
        }
    }
    std::fs::write(&path, bytes).unwrap();
}

/// The last layer's weights shrunk below what 16 bits can hold: in 32 bits there is an embedding, in 16 there is none.
#[test]
fn a_file_that_disagrees_is_not_written() {
    let (folder, model) = fresh();
    let shrunk: [Change; 2] = [
        ("mlp_head.mlp.3.weight", |x| x * 1e-7),
        ("mlp_head.mlp.3.bias", |_| 0.0),
    ];
    with_weights(folder.path(), &model, &shrunk);
    let args = |weights| ["--weights", weights];
    export(folder.path(), "weights.safetensors", &args("f32")).ok();
    std::fs::remove_file(folder.path().join("model.onnx")).unwrap();
    export(folder.path(), "weights.safetensors", &args("f16")).failed_with_notes(
        1,
        &["model.onnx was not written", "largest difference", "hint: "],
    );
    assert_eq!(names(folder.path()), ["weights.safetensors"]);
}

/// Whatever is held against infinity is 0 parts of it off.
#[test]
fn a_model_that_gives_infinity_proves_nothing() {
    let (folder, model) = fresh();
    let huge: [Change; 2] = [("bn2.weight", |_| 3e38), ("bn2.bias", |_| 3e38)];
    with_weights(folder.path(), &model, &huge);
    let features = ["--outputs", "features"];
    export(folder.path(), "weights.safetensors", &features)
        .failed_with_notes(1, &["the trained model itself gives inf among `features`"]);
    assert_eq!(names(folder.path()), ["weights.safetensors"]);
}

/// A file system that is full, as a limit on the size of files.
#[cfg(unix)]
#[test]
fn a_full_disk_leaves_nothing() {
    let (folder, model) = fresh();
    let script = r#"trap '' XFSZ; ulimit -f 16; exec "$0" export "$1" --out model.onnx"#;
    let output = Command::new("sh")
        .current_dir(folder.path())
        .args(["-c", script, env!("CARGO_BIN_EXE_selfcls-cli"), &model])
        .env("NO_COLOR", "1")
        .output()
        .unwrap();
    Ran::from(output).failed_with_notes(1, &["cannot write model.onnx"]);
    assert!(names(folder.path()).is_empty());
}
