//! `convert`, and training that starts from other weights, as a user meets them.

use super::ran::run_in;
use std::path::{Path, PathBuf};

/// A checkpoint as the authors' code writes it: a ResNet-18 of width 4, 3 epochs, heads of 10 and 20.
fn authors() -> String {
    fixture("../tests/fixtures/authors_checkpoint.pth.tar")
}

/// A checkpoint with the layout of MoCo v2's, of a ResNet-10 of width 2.
fn moco() -> String {
    fixture("../core/tests/fixtures/pretrained/mocov2.pth.tar")
}

fn fixture(path: &str) -> String {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    path.to_str().unwrap().to_string()
}

/// Runs the binary, which succeeds; gives standard error.
#[track_caller]
fn succeed(folder: &Path, args: &[&str]) -> String {
    run_in(folder, args).fine().stderr
}

/// Runs the binary, which fails with `code` and a message with all of `parts`.
#[track_caller]
fn fail(folder: &Path, args: &[&str], code: i32, parts: &[&str]) {
    run_in(folder, args).failed_with_notes(code, parts);
}

/// Settings that train in seconds.
const TINY: [&str; 20] = [
    "--preset",
    "shapes-demo",
    "--model.width",
    "4",
    "--model.hidden_dim",
    "16",
    "--model.dim",
    "8",
    "--views.global_size",
    "16",
    "--queue.length",
    "16",
    "--batch-size",
    "16",
    "--epochs",
    "1",
    "--data.workers",
    "1",
    "--checkpoint.milestone_epochs",
    "0",
];

#[test]
fn weights_go_from_file_to_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let said = succeed(
        path,
        &[
            "convert",
            &moco(),
            "--to",
            "torchvision",
            "--out",
            "moco.pth",
        ],
    );
    for part in [
        "60 tensors, MoCo v2",
        "projection head (2 tensors)",
        "momentum encoder",
    ] {
        assert!(said.contains(part), "no {part:?} in:\n{said}");
    }
    // By way of a .pth file or directly: the same bytes.
    let part = ["--part", "backbone", "--to", "safetensors", "--out"];
    succeed(
        path,
        &[&["convert", "moco.pth"][..], &part, &["a.safetensors"]].concat(),
    );
    succeed(
        path,
        &[&["convert", &moco()][..], &part, &["b.safetensors"]].concat(),
    );
    let read = |name: &str| std::fs::read(path.join(name)).unwrap();
    assert_eq!(read("a.safetensors"), read("b.safetensors"));
    succeed(
        path,
        &[
            "convert",
            "moco.pth",
            "--to",
            "detectron2",
            "--out",
            "moco.pkl",
        ],
    );
    assert!(
        read("moco.pkl")
            .windows(17)
            .any(|text| text == b"stem.conv1.weight")
    );

    fail(
        path,
        &["convert", "moco.pth", "--to", "selfcls", "--out", "run"],
        1,
        &["backbone", "--pretrained.parts backbone"],
    );
    assert!(!path.join("run").exists());
    std::fs::write(path.join("page.pth"), "<html>").unwrap();
    fail(
        path,
        &[
            "convert",
            "page.pth",
            "--to",
            "torchvision",
            "--out",
            "x.pth",
        ],
        1,
        &["page.pth", "torch.save"],
    );
    let usage = ["convert", "moco.pth", "--out", "x"];
    fail(
        path,
        &[&usage[..], &["--to", "onnx"]].concat(),
        2,
        &["safetensors", "detectron2"],
    );
    fail(
        path,
        &[&usage[..], &["--to", "detectron2", "--part", "all"]].concat(),
        2,
        &["--part all"],
    );
    fail(
        path,
        &[&usage[..], &["--to", "safetensors", "--samples", "9"]].concat(),
        2,
        &["--samples"],
    );
}

/// The authors' checkpoint becomes a run that can be evaluated and exported.
#[test]
fn the_authors_model_becomes_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    succeed(
        path,
        &["convert", &authors(), "--to", "selfcls", "--out", "run"],
    );
    succeed(
        path,
        &["export", "run", "--out", "model.onnx", "--head", "all"],
    );
    let clusters = run_in(
        path,
        &[
            "eval",
            "clusters",
            "run",
            "--data",
            "shapes:16",
            "--head",
            "1",
            "--json",
        ],
    )
    .ok();
    assert!(clusters.contains("\"samples\":16"), "{clusters}");
    // Their optimiser and queue were not asked for, so nothing continues from here.
    fail(
        path,
        &[
            "train",
            "--data",
            "shapes:256",
            "--out",
            "run",
            "--config",
            "run/config.toml",
        ],
        1,
        &["no training to continue", "--pretrained RUN"],
    );
    fail(
        path,
        &["convert", &authors(), "--to", "selfcls", "--out", "run"],
        1,
        &["run is there already", "hint: "],
    );
}

/// Without a detour too: what the shapes tell is enough.
#[test]
fn files_are_evaluated_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let clusters =
        |model: &str| run_in(path, &["eval", "clusters", model, "--data", "shapes:16"]).ok();
    succeed(path, &["export", &authors(), "--out", "model.onnx"]);
    // All but the mean confidence, which stands last and is another engine's arithmetic.
    let exact = |text: String| text.rsplit_once("sure").unwrap().0.to_string();
    assert_eq!(exact(clusters(&authors())), exact(clusters("model.onnx")));

    let moco = moco();
    let data = ["--data", "shapes:16"];
    succeed(
        path,
        &[&["eval", "knn", &moco, "--k", "1"][..], &data].concat(),
    );
    fail(
        path,
        &[&["eval", "clusters", &moco][..], &data].concat(),
        1,
        &["without classifiers", "eval knn"],
    );
    // A backbone alone gives features, as a file too.
    succeed(path, &["export", &moco, "--out", "moco.onnx"]);
    succeed(
        path,
        &[&["eval", "knn", "moco.onnx", "--k", "1"][..], &data].concat(),
    );
    fail(
        path,
        &["export", &moco, "--head", "1", "--out", "head.onnx"],
        2,
        &["without classifiers"],
    );
}

/// Weights do not tell how images are prepared for them: a file of settings beside them does.
#[test]
fn settings_beside_weights_are_theirs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    std::fs::copy(authors(), path.join("theirs.pth.tar")).unwrap();
    let size = |name: &str| {
        succeed(path, &["export", "theirs.pth.tar", "--out", name]);
        let bytes = std::fs::read(path.join(name)).unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let crop = text.split("\"crop\":").nth(1).expect("the preprocessing");
        crop.chars()
            .take_while(char::is_ascii_digit)
            .collect::<String>()
    };
    assert_eq!(size("usual.onnx"), "224");
    std::fs::write(path.join("theirs.toml"), "[eval]\ncrop = 48\n").unwrap();
    assert_eq!(size("own.onnx"), "48");
    std::fs::write(path.join("theirs.toml"), "[eval]\ncrop = 4\n").unwrap();
    let data = ["--data", "shapes:16"];
    fail(
        path,
        &[&["eval", "clusters", "theirs.pth.tar"][..], &data].concat(),
        2,
        &["eval.crop = 4"],
    );
}

/// With the number of its images it is trained on: from the fourth epoch, with its momentum and queue.
#[test]
fn the_authors_training_continues() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    std::fs::write(
        path.join("settings.toml"),
        "[views]\nglobal_size = 32\nlocal_count = 0\n[optim]\nwarmup_epochs = 1\n[train]\nepochs = 4\nbatch_size = 8\n[data]\nworkers = 1\n",
    )
    .unwrap();
    let authors = authors();
    let convert = [
        "convert",
        &authors,
        "--to",
        "selfcls",
        "--out",
        "run",
        "--samples",
        "32",
    ];
    // The defaults are not what it was trained with, as far as a batch goes.
    let said = succeed(
        path,
        &[&convert[..], &["--config", "settings.toml"]].concat(),
    );
    assert!(said.contains("continues after epoch 3"), "{said}");
    let said = succeed(
        path,
        &[
            "train",
            "--data",
            "shapes:32",
            "--out",
            "run",
            "--config",
            "run/config.toml",
        ],
    );
    assert!(said.contains("continuing after step 12"), "{said}");
    assert!(path.join("run/checkpoints/step-00000016").is_dir());
}

/// Training starts from a run, from a file of a whole model, or from a backbone, and only from what fits.
#[test]
fn training_starts_from_other_weights() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let train = |out: &'static str, more: &[&'static str]| {
        [
            &["train", "--data", "shapes:32", "--out", out][..],
            &TINY,
            more,
        ]
        .concat()
    };
    succeed(path, &train("first", &["--model.heads", "10,20"]));
    // Nothing is learnt at a rate of zero: the weights are still those it started from.
    const STILL: [&str; 6] = [
        "--lr",
        "0",
        "--optim.start_lr",
        "0",
        "--optim.final_lr",
        "0",
    ];
    let still = |more: &[&'static str]| [&STILL[..], more].concat();
    succeed(
        path,
        &train(
            "second",
            &still(&["--model.heads", "10,20", "--pretrained", "first"]),
        ),
    );
    let weights = |run: &str, out: &str| {
        succeed(path, &["convert", run, "--to", "safetensors", "--out", out]);
        std::fs::read(path.join(out)).unwrap()
    };
    // Running statistics move all the same, so parameters are compared by a look at their bytes.
    let (first, second) = (
        weights("first", "1.safetensors"),
        weights("second", "2.safetensors"),
    );
    assert_eq!(first.len(), second.len());
    // Of one epoch the newest checkpoint is the best.
    assert_eq!(first, weights("first@best", "best.safetensors"));
    fail(
        path,
        &["eval", "clusters", "nowhere@best", "--data", "shapes:16"],
        1,
        &["nowhere is no run directory"],
    );
    assert_eq!(
        tensor(&first, "cls_1.weight_v"),
        tensor(&second, "cls_1.weight_v")
    );
    assert_eq!(
        tensor(&first, "mlp_head.mlp.0.weight"),
        tensor(&second, "mlp_head.mlp.0.weight")
    );

    fail(
        path,
        &train(
            "third",
            &["--model.heads", "7", "--pretrained", "1.safetensors"],
        ),
        1,
        &[
            "1.safetensors",
            "cls_0.weight_v is [10, 8], the model needs [7, 8]",
            "cls_1.weight_g is not part",
            "pretrained.parts",
        ],
    );
    let head = [
        "--model.heads",
        "7",
        "--pretrained",
        "1.safetensors",
        "--pretrained.parts",
        "head",
    ];
    succeed(path, &train("third", &still(&head)));
    let third = weights("third", "3.safetensors");
    assert_eq!(
        tensor(&first, "mlp_head.mlp.0.weight"),
        tensor(&third, "mlp_head.mlp.0.weight")
    );
    // The same command again has nothing to do, and does not need the file any more.
    std::fs::remove_file(path.join("1.safetensors")).unwrap();
    succeed(path, &train("third", &still(&head)));

    succeed(
        path,
        &[
            "convert",
            "first",
            "--to",
            "torchvision",
            "--out",
            "backbone.pth",
        ],
    );
    let backbone = ["--model.heads", "7", "--pretrained", "backbone.pth"];
    fail(
        path,
        &train("fourth", &backbone),
        1,
        &[
            "mlp_head.mlp.0.weight [16, 32] is missing",
            "set pretrained.parts to backbone",
        ],
    );
    let parts = [&backbone[..], &["--pretrained.parts", "backbone"]].concat();
    succeed(path, &train("fourth", &still(&parts)));
    // The same by naming what may be missing.
    let missing = [&backbone[..], &["--pretrained.missing", "mlp_head.,cls_"]].concat();
    succeed(path, &train("fifth", &still(&missing)));
    let fifth = weights("fifth", "5.safetensors");
    assert_eq!(
        tensor(&first, "backbone.conv1.weight"),
        tensor(&fifth, "backbone.conv1.weight")
    );
    let fourth = weights("fourth", "4.safetensors");
    assert_eq!(
        tensor(&first, "backbone.conv1.weight"),
        tensor(&fourth, "backbone.conv1.weight")
    );
}

/// The bytes of a tensor of a safetensors file.
fn tensor<'a>(file: &'a [u8], name: &str) -> &'a [u8] {
    let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&file[8..8 + length]).unwrap();
    let offsets = &header[name]["data_offsets"];
    let at = |index: usize| 8 + length + offsets[index].as_u64().unwrap() as usize;
    &file[at(0)..at(1)]
}
