//! The evaluations as a user meets them: tables, JSON, pictures, the cache, and what is refused.

mod clusters;
mod features;
mod linear;
mod models;

use super::ran::run_in as run;
use serde_json::Value;
use std::path::Path;
use std::sync::OnceLock;

/// Two tiny runs that differ in the seed, and the first one as a file. Made once.
fn models() -> &'static Path {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    FOLDER
        .get_or_init(|| {
            let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
            for seed in ["0", "1"] {
                let out = format!("run{seed}");
                let tiny = "--preset shapes-demo --model.width 4 --model.hidden_dim 16 --model.dim 8 \
                    --model.heads 10,20 --views.global_size 16 --queue.length 16 --batch-size 16 \
                    --epochs 2 --data.workers 1";
                let mut args = vec!["--quiet", "train", "--data", "shapes:64", "--out", &out];
                args.extend(tiny.split_whitespace());
                args.extend(["--seed", seed]);
                run(folder.path(), &args).ok();
            }
            let export = ["export", "run0", "--out", "model.onnx", "--head", "all"];
            run(folder.path(), &export).ok();
            folder
        })
        .path()
}

fn json(args: &[&str]) -> Value {
    let text = run(models(), args).ok();
    assert_eq!(text.lines().count(), 1, "{text}");
    serde_json::from_str(&text).unwrap()
}

fn is_png(path: &Path) -> bool {
    std::fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"\x89PNG"))
}

const DATA: [&str; 2] = ["--data", "shapes:80:1"];

fn eval<'a>(measure: &'a str, model: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["eval", measure, model][..], &DATA, more].concat()
}
