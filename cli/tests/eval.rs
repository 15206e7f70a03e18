//! The evaluations as a user meets them: tables, JSON, pictures, the cache, and what is refused.

#![allow(clippy::unwrap_used)]

use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn run(folder: &Path, args: &[&str]) -> Ran {
    let output = Command::new(env!("CARGO_BIN_EXE_selfcls-cli"))
        .current_dir(folder)
        .args(args)
        .stdin(Stdio::null())
        .env("NO_COLOR", "1")
        .output()
        .unwrap();
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

impl Ran {
    #[track_caller]
    fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{}{}", self.stdout, self.stderr);
        self.stdout
    }

    /// This exit code, no output, and an error with all of `parts`.
    #[track_caller]
    fn refused(self, code: i32, parts: &[&str]) {
        assert_eq!(
            (self.code, self.stdout.as_str()),
            (Some(code), ""),
            "{}",
            self.stderr
        );
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        let error = &self.stderr[self.stderr.find("error: ").unwrap()..];
        for part in parts {
            assert!(error.contains(part), "no {part:?} in:\n{error}");
        }
    }
}

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

#[test]
fn clusters_of_one_head_and_of_all() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("pictures");
    let out = out.to_str().unwrap();
    let one = json(&eval(
        "clusters",
        "run0",
        &["--head", "1", "--json", "--out", out],
    ));
    let keys: Vec<&String> = one.as_object().unwrap().keys().take(7).collect();
    assert_eq!(
        keys,
        ["nmi", "ami", "ari", "acc", "samples", "classes", "clusters"]
    );
    assert_eq!((&one["samples"], &one["classes"]), (&80.into(), &8.into()));
    assert_eq!((&one["available"], &one["head"]), (&20.into(), &1.into()));
    let sizes: Vec<u64> = serde_json::from_value(one["sizes"].clone()).unwrap();
    assert_eq!((sizes.len(), sizes.iter().sum::<u64>()), (20, 80));
    let used = sizes.iter().filter(|&&size| size > 0).count();
    assert_eq!(one["clusters"], used);
    assert_eq!(one["empty"].as_array().unwrap().len(), 20 - used);
    let entropy: f64 = sizes
        .iter()
        .filter(|&&size| size > 0)
        .map(|&size| -(size as f64 / 80.0) * (size as f64 / 80.0).ln())
        .sum();
    assert!((one["entropy"].as_f64().unwrap() - entropy).abs() < 1e-12);
    assert!((one["effective"].as_f64().unwrap() - entropy.exp()).abs() < 1e-9);
    for name in ["confusion", "sizes"] {
        assert!(
            is_png(&Path::new(out).join(format!("head1-{name}.png"))),
            "{name}"
        );
        let svg =
            std::fs::read_to_string(Path::new(out).join(format!("head1-{name}.svg"))).unwrap();
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    }
    let written = std::fs::read_to_string(Path::new(out).join("clusters.json")).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&written).unwrap(), one);

    let all = json(&eval("clusters", "run0", &["--head", "all", "--json"]));
    let heads = all["heads"].as_array().unwrap();
    assert_eq!((heads.len(), &heads[1]), (2, &one));
    // The exported file, measured, says the same.
    let file = run(
        models(),
        &eval("clusters", "model.onnx", &["--head", "all"]),
    )
    .ok();
    assert_eq!(
        file,
        run(models(), &eval("clusters", "run0", &["--head", "all"])).ok()
    );
    assert_eq!(file.lines().count(), 3, "{file}");
}

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
        told(&["--provider", "coreml"]).refused(1, &["ONNX Runtime"]);
    }
    told(&["--provider", "gpu"]).refused(2, &["--provider", "openvino"]);
}

#[test]
fn superclasses_come_from_a_hierarchy() {
    let folder = tempfile::tempdir().unwrap();
    let shapes = [
        "disc", "ring", "triangle", "cross", "crescent", "bar", "corner", "pair",
    ];
    let list: Vec<Value> = (0..)
        .zip(shapes)
        .map(|(i, id)| serde_json::json!([i, id, id]))
        .collect();
    let classes = serde_json::to_string(&list).unwrap();
    let write = |edges: &str, classes: &str| {
        for (name, text) in [
            ("class_hierarchy.txt", edges),
            ("dataset_class_info.json", classes),
            ("node_names.txt", "top\tshapes\n"),
        ] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
    };
    // `pair` is nowhere in the tree.
    let edges = "top round\ntop edgy\nround disc\nround ring\nround crescent\nedgy triangle\nedgy cross\nedgy bar\nedgy corner\n";
    write(edges, &classes);
    let path = folder.path().to_str().unwrap();
    let with = |more: &[&str]| {
        run(
            models(),
            &eval(
                "clusters",
                "run0",
                &[&["--hierarchy", path][..], more].concat(),
            ),
        )
    };
    let found: Value = serde_json::from_str(&with(&["--json"]).ok()).unwrap();
    let levels = found["superclasses"].as_array().unwrap();
    let of = |level: usize, key: &str| levels[level][key].clone();
    assert_eq!(levels.len(), 3);
    assert_eq!(
        [
            of(0, "superclasses"),
            of(1, "superclasses"),
            of(2, "superclasses")
        ],
        [1, 2, 7]
    );
    assert_eq!((of(0, "samples"), of(0, "acc")), (70.into(), 1.0.into()));
    let acc: Vec<f64> = levels
        .iter()
        .map(|level| level["acc"].as_f64().unwrap())
        .collect();
    assert!(acc[0] >= acc[1] && acc[1] >= acc[2], "{acc:?}");
    assert_eq!(of(1, "nmi"), of(2, "nmi"));
    let text = with(&["--level", "1"]).ok();
    assert!(text.lines().any(|line| line.starts_with("1 ")), "{text}");

    with(&["--level", "7"]).refused(1, &["superclasses 7 are at level 7", "0 to 2"]);
    with(&["--level", "entity14"]).refused(2, &["entity14", "living17"]);
    write(&format!("{edges}disc top\n"), &classes);
    with(&[]).refused(1, &["class_hierarchy.txt", "is its own ancestor"]);
    write(edges, &serde_json::to_string(&list[..7]).unwrap());
    with(&[]).refused(1, &["the hierarchy lacks 1 of the 8 classes: pair"]);
}

#[test]
fn class_subsets_are_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("three.txt");
    std::fs::write(&list, "ring a ring\nbar\ndisc\n").unwrap();
    let list = list.to_str().unwrap();
    let found = json(&eval("clusters", "run0", &["--subset", list, "--json"]));
    assert_eq!(
        (&found["samples"], &found["classes"]),
        (&30.into(), &3.into())
    );
    std::fs::write(list, "ring\nsquare\n").unwrap();
    run(models(), &eval("clusters", "run0", &["--subset", list])).refused(1, &["no class square"]);
}

#[test]
fn a_cache_serves_all_evaluations_and_is_refused_when_stale() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    let cache = ["--cache", cache.to_str().unwrap()];
    let plain = run(models(), &eval("clusters", "run0", &[])).ok();
    let first = run(models(), &eval("clusters", "run0", &cache));
    assert!(!first.stderr.contains("from the cache"), "{}", first.stderr);
    assert_eq!(first.ok(), plain);
    let again = run(models(), &eval("clusters", "run0", &cache));
    assert!(
        again.stderr.contains("80 images from the cache"),
        "{}",
        again.stderr
    );
    assert_eq!(again.ok(), plain);
    let knn = run(models(), &eval("knn", "run0", &cache));
    assert!(knn.stderr.contains("from the cache"), "{}", knn.stderr);
    assert_eq!(knn.ok(), run(models(), &eval("knn", "run0", &[])).ok());
    // Assignments do not depend on which features are beside them.
    let stale = |args: &[&str], what: &str| {
        let args = [args, &cache[..]].concat();
        run(models(), &args).refused(1, &["features.safetensors is stale", what]);
    };
    stale(
        &eval("knn", "run0", &["--features", "head"]),
        "other features",
    );
    stale(&eval("clusters", "run1", &[]), "another model");
    stale(
        &["eval", "clusters", "run0", "--data", "shapes:80:2"],
        "other images",
    );
    let other = [&eval("clusters", "run1", &cache)[..], &["--recompute"]].concat();
    run(models(), &other).ok();
    stale(&eval("clusters", "run0", &[]), "another model");
    run(models(), &eval("clusters", "run0", &["--recompute"])).refused(2, &["--cache"]);
}

/// Two batches of 64 for two processes.
#[test]
fn shares_of_the_cache_make_up_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    let [alone, shared] = ["alone", "shared"].map(|name| folder.path().join(name));
    let with = |measure: &str, cache: &Path, more: &[&str]| {
        let cache = ["--cache", cache.to_str().unwrap()];
        run(
            models(),
            &eval(measure, "model.onnx", &[&cache, more].concat()),
        )
    };
    let expected = with("clusters", &alone, &[]).ok();
    assert_eq!(with("clusters", &shared, &["--shard", "2/2"]).ok(), "");
    with("clusters", &shared, &[]).refused(1, &["of the 2 shares", "missing: 1"]);
    let first = with("clusters", &shared, &["--shard", "1/2"]);
    assert!(first.stderr.contains("share 1/2 is in"), "{}", first.stderr);
    first.ok();
    let joined = with("clusters", &shared, &[]);
    assert!(
        joined.stderr.contains("80 images from the cache"),
        "{}",
        joined.stderr
    );
    assert_eq!(joined.ok(), expected);
    let bytes = |cache: &Path| std::fs::read(cache.join("features.safetensors")).unwrap();
    assert!(bytes(&shared) == bytes(&alone), "other bytes");
    with("knn", &shared, &[]).ok();

    with("clusters", &shared, &["--shard", "3/3"]).refused(1, &["at most 2 shares"]);
    with("clusters", &shared, &["--shard", "0/2"]).refused(2, &["--shard", "I/N"]);
    let shard = ["--shard", "1/2"];
    run(models(), &eval("clusters", "model.onnx", &shard)).refused(2, &["--cache"]);
    let train = ["--train", "shapes:40:1"];
    with("linear", &shared, &[&train[..], &shard].concat()).refused(2, &["one process"]);
}

#[test]
fn nearest_neighbours_with_references_and_few_labels() {
    let all = json(&eval("knn", "run0", &["--json"]));
    let ks: Vec<u64> = all
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["k"].as_u64().unwrap())
        .collect();
    // 100 and 200 are more than there are.
    assert_eq!(ks, [10, 20]);
    assert_eq!(
        (&all[0]["references"], &all[0]["features"]),
        (&79.into(), &"backbone".into())
    );
    assert!(all[0]["top5"].as_f64() >= all[0]["top1"].as_f64());
    let with = |more: &[&str]| {
        let references = ["--references", "shapes:160", "--json"];
        json(&eval("knn", "run0", &[&references[..], more].concat()))
    };
    let full = with(&["--k", "5"]);
    assert_eq!(
        (&full[0]["references"], &full[0]["samples"]),
        (&160.into(), &80.into())
    );
    let tenth = with(&["--k", "5", "--label-percent", "10"]);
    assert_eq!(tenth[0]["references"], 16);
    assert_eq!(tenth, with(&["--k", "5", "--label-percent", "10"]));
    let half = with(&["--k", "5", "--half"]);
    let difference = half[0]["top1"].as_f64().unwrap() - full[0]["top1"].as_f64().unwrap();
    assert!(difference.abs() < 0.06, "{difference}");
    assert_eq!(
        with(&["--k", "5", "--features", "head"])[0]["features"],
        "head"
    );

    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("list.txt");
    std::fs::write(&list, "shapes:160:0#0\nshapes:160:0#1\n").unwrap();
    let list = list.to_str().unwrap();
    assert_eq!(
        with(&["--k", "2", "--label-list", list])[0]["references"],
        2
    );
    let refused = |more: &[&str], code, parts: &[&str]| {
        run(models(), &eval("knn", "run0", more)).refused(code, parts);
    };
    refused(&["--k", "80"], 1, &["--k 80", "only 79 images"]);
    // The same for every head; and there are two.
    assert_eq!(json(&eval("knn", "run0", &["--head", "1", "--json"])), all);
    refused(&["--head", "2"], 2, &["no such head", "0, 1"]);
    refused(&["--temperature", "0"], 2, &["--temperature 0"]);
    refused(&["--label-percent", "10"], 2, &["--references"]);
    refused(
        &["--references", "shapes:16", "--label-percent", "0"],
        2,
        &["above 0"],
    );
    std::fs::write(list, "nowhere.png\n").unwrap();
    refused(
        &["--references", "shapes:16", "--label-list", list],
        1,
        &["nowhere.png"],
    );
}

#[test]
fn k_means_on_features_and_on_pixels() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().to_str().unwrap();
    let more = [
        "--train",
        "shapes:160",
        "--k",
        "4,8",
        "--restarts",
        "2",
        "--json",
        "--out",
        out,
    ];
    let cases: [(&str, &[&str], &str); 3] = [
        ("run0", &[], "backbone"),
        ("pixels:16", &["--spherical"], "pixels"),
        ("model.onnx", &["--batch", "32"], "head"),
    ];
    for (model, extra, features) in cases {
        let found = json(&eval("kmeans", model, &[&more[..], extra].concat()));
        let rows = found.as_array().unwrap();
        assert_eq!(rows.len(), 2, "{model}");
        for (row, k) in rows.iter().zip([4u64, 8]) {
            assert_eq!((&row["k"], &row["samples"]), (&k.into(), &80.into()));
            assert_eq!(
                (&row["train_samples"], &row["features"]),
                (&160.into(), &features.into())
            );
            assert!(
                row["clusters"].as_u64().unwrap() <= k && row["acc"].as_f64().unwrap() >= 0.125
            );
        }
        assert!(rows[0]["inertia"].as_f64() > rows[1]["inertia"].as_f64());
        let centres = std::fs::read(folder.path().join("centroids-8.safetensors")).unwrap();
        let width = match features {
            "backbone" => 32,
            "head" => 8,
            _ => 3 * 16 * 16,
        };
        let text = String::from_utf8_lossy(&centres[..200.min(centres.len())]).to_string();
        assert!(text.contains(&format!("[8,{width}]")), "{text}");
    }
    let refused = |model: &str, more: &[&str], code, parts: &[&str]| {
        run(models(), &eval("kmeans", model, more)).refused(code, parts);
    };
    refused("run0", &["--k", "81"], 1, &["--k 81", "only 80 images"]);
    refused("pixels:0", &[], 2, &["pixels:0"]);
    run(models(), &eval("clusters", "pixels", &[])).refused(2, &["no classifier", "kmeans"]);
}

#[test]
fn usage_needs_no_labels_and_gives_advice() {
    let folder = tempfile::tempdir().unwrap();
    let photos = folder.path().join("photos");
    std::fs::create_dir(&photos).unwrap();
    let shapes = selfcls_core::data::Shapes::new(50, 3, 24);
    for index in 0..50 {
        use selfcls_core::data::Source;
        let image = shapes.image(index).unwrap();
        selfcls_core::picture::write_png(&photos.join(format!("{index}.png")), &image).unwrap();
    }
    let out = folder.path().join("out");
    let args = |more: &[&'static str]| -> Vec<String> {
        let path = |path: &Path| path.display().to_string();
        let mut args = vec![
            "eval".into(),
            "usage".into(),
            "run0".into(),
            "--data".into(),
            path(&photos),
        ];
        args.extend(["--out".into(), path(&out)]);
        args.extend(more.iter().map(|text| text.to_string()));
        args
    };
    let with = |more: &[&'static str]| {
        let args = args(more);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        run(models(), &args)
    };
    let found: Value = serde_json::from_str(&with(&["--json"]).ok()).unwrap();
    let heads = found["heads"].as_array().unwrap();
    assert_eq!(heads.len(), 2);
    for (head, clusters) in heads.iter().zip([10u64, 20]) {
        assert_eq!(head["available"], clusters);
        let used = head["used"].as_u64().unwrap() as usize;
        assert_eq!(
            head["empty"].as_array().unwrap().len(),
            clusters as usize - used
        );
        let pages = used.div_ceil(20);
        let name = |page: usize| out.join(format!("head{}-clusters-{page:03}.png", head["head"]));
        assert!((1..=pages).all(|page| is_png(&name(page))) && !name(pages + 1).exists());
        assert!(is_png(&out.join(format!("head{}-sizes.png", head["head"]))));
    }
    let nmi = found["agreement"][0][1].as_f64().unwrap();
    assert!((0.0..=1.0).contains(&nmi) && found["agreement"][1][0] == found["agreement"][0][1]);
    let advice = found["advice"].as_str().unwrap();
    assert!(
        advice.contains("head") && !advice.contains('\n'),
        "{advice}"
    );
    let text = with(&["--head", "0", "--sample", "30"]).ok();
    assert!(
        text.trim_end().lines().last().unwrap().contains("head"),
        "{text}"
    );
    // Without labels there is nothing to compare clusters with.
    let photos = photos.display().to_string();
    run(models(), &["eval", "clusters", "run0", "--data", &photos])
        .refused(1, &["no labels", "eval usage"]);
}

#[test]
fn runs_that_differ_in_the_seed_are_one_group() {
    let args = [
        "eval",
        "compare",
        "run0",
        "run1",
        "model.onnx",
        "--data",
        "shapes:80:1",
        "--head",
        "all",
    ];
    let found = json(&[&args[..], &["--json"]].concat());
    let rows = found["rows"].as_array().unwrap();
    let groups: Vec<u64> = rows
        .iter()
        .map(|row| row["group"].as_u64().unwrap())
        .collect();
    assert_eq!(groups, [0, 0, 0, 0, 1, 1]);
    let means = found["groups"].as_array().unwrap();
    assert_eq!((means.len(), &means[0]["runs"]), (2, &2.into()));
    let [a, b] = [&rows[0], &rows[2]].map(|row| row["nmi"].as_f64().unwrap());
    let mean = means[0]["nmi"]["mean"].as_f64().unwrap();
    let deviation = means[0]["nmi"]["deviation"].as_f64().unwrap();
    assert!((mean - (a + b) / 2.0).abs() < 1e-12);
    assert!((deviation - (a - b).abs() / 2f64.sqrt()).abs() < 1e-12);
    let alone = json(&eval("clusters", "run0", &["--json"]));
    assert_eq!(rows[0]["nmi"], alone["nmi"]);
    let text = run(models(), &args).ok();
    assert!(
        text.contains("mean and standard deviation over seeds") && text.contains("+-"),
        "{text}"
    );
    run(
        models(),
        &["eval", "compare", "run0", "none", "--data", "shapes:80:1"],
    )
    .refused(1, &["none does not exist"]);
}

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
    with("run0", &["--fast", "3", "--cache", &cache]).refused(
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
    with(&out, &["--seed", "1"]).refused(1, &["linear-state.safetensors", "other settings"]);
    // What it learned is a file of weights like any other.
    let best = format!("{out}/linear-best.safetensors");
    let knn = run(
        models(),
        &["eval", "knn", &best, "--data", "shapes:40:1", "--k", "5"],
    );
    assert_eq!(knn.ok().lines().count(), 2);
    let refused = |model: &str, more: &[&str], code, parts: &[&str]| {
        let args = [&["--train", "shapes:16"], more].concat();
        run(models(), &eval("linear", model, &args)).refused(code, parts);
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

#[test]
fn maps_are_drawn_by_cluster_and_by_label() {
    let folder = tempfile::tempdir().unwrap();
    let with = |model: &str, name: &str, more: &[&str]| {
        let out = folder.path().join(name);
        let args = [
            "--samples",
            "50",
            "--iterations",
            "60",
            "--out",
            out.to_str().unwrap(),
        ];
        (
            out.clone(),
            run(models(), &eval("embed", model, &[&args[..], more].concat())),
        )
    };
    let (out, ran) = with("run0", "a", &["--head", "1", "--json"]);
    let found: Value = serde_json::from_str(&ran.ok()).unwrap();
    assert_eq!(
        (&found["samples"], &found["perplexity"]),
        (&50.into(), &16.0.into())
    );
    assert_eq!(found["files"].as_array().unwrap().len(), 5);
    for name in ["map-clusters", "map-labels"] {
        assert!(is_png(&out.join(format!("{name}.png"))), "{name}");
        let svg = std::fs::read_to_string(out.join(format!("{name}.svg"))).unwrap();
        assert!(svg.matches("<circle").count() > 50);
    }
    let csv = std::fs::read_to_string(out.join("map.csv")).unwrap();
    let lines: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(lines[0], ["index", "name", "x", "y", "cluster", "label"]);
    assert_eq!(lines.len(), 51);
    let shapes = selfcls_core::data::SHAPES;
    for line in &lines[1..] {
        let index: usize = line[0].parse().unwrap();
        assert_eq!(line[1], format!("shapes:80:1#{index}"));
        assert!(line[2].parse::<f64>().unwrap().is_finite());
        assert!(line[4].parse::<usize>().unwrap() < 20);
        assert!(shapes.contains(&line[5]), "{line:?}");
    }
    let (again, ran) = with("run0", "b", &["--head", "1"]);
    assert_eq!(ran.ok().lines().count(), 5);
    assert_eq!(std::fs::read_to_string(again.join("map.csv")).unwrap(), csv);
    // Pixels have no clusters.
    let (out, ran) = with("pixels:8", "c", &[]);
    ran.ok();
    assert!(!out.join("map-clusters.png").exists() && out.join("map-labels.png").exists());
    let refused = |more: &[&str], code, parts: &[&str]| {
        run(models(), &eval("embed", "run0", more)).refused(code, parts);
    };
    refused(&[], 2, &["--out DIR"]);
    let out = folder.path().to_str().unwrap();
    refused(&["--out", out, "--perplexity", "0"], 1, &["perplexity 0"]);
    refused(&["--out", out, "--samples", "5"], 1, &["at least 8"]);
    refused(&["--out", out, "--head", "7"], 2, &["--head 7", "0, 1"]);
}

/// The header of a cache is JSON after its length: the word is replaced, and the length set right.
fn patch_header(path: &Path, from: &str, to: &str) {
    let bytes = std::fs::read(path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header = String::from_utf8(bytes[8..8 + length].to_vec()).unwrap();
    assert!(header.contains(from), "{header}");
    let mut header = header.trim_end().replace(from, to);
    while !header.len().is_multiple_of(8) {
        header.push(' ');
    }
    let before = length;
    let length = (header.len() as u64).to_le_bytes();
    let patched = [&length[..], header.as_bytes(), &bytes[8 + before..]].concat();
    std::fs::write(path, patched).unwrap();
}

#[test]
fn features_of_another_width_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().display().to_string();
    let references = ["--references", "shapes:32", "--k", "2", "--cache", &cache];
    let head = ["--features", "head"];
    run(
        models(),
        &eval("knn", "run0", &[&references[..], &head].concat()),
    )
    .ok();
    std::fs::remove_file(folder.path().join("features.safetensors")).unwrap();
    // The cache says it holds the backbone's 32 values, and holds the head's 8.
    let path = folder.path().join("reference-features.safetensors");
    patch_header(&path, "\\\"head\\\"", "\\\"backbone\\\"");
    run(models(), &eval("knn", "run0", &references)).refused(
        1,
        &["width 32 cannot be compared with embeddings of width 8"],
    );
    let path = folder.path().join("train-features.safetensors");
    std::fs::rename(folder.path().join("reference-features.safetensors"), path).unwrap();
    let linear = [
        "--train",
        "shapes:32",
        "--fast",
        "centre",
        "--cache",
        &cache,
    ];
    run(models(), &eval("linear", "run0", &linear)).refused(1, &["width 8 do not fit", "width 32"]);
}

#[test]
fn more_neighbours_than_images_are_refused_everywhere() {
    let compare = [
        "eval",
        "compare",
        "run0",
        "--data",
        "shapes:80:1",
        "--k",
        "80",
    ];
    run(models(), &compare).refused(1, &["--k 80", "79 neighbours"]);
    let few = [
        "eval",
        "knn",
        "run0",
        "--data",
        "shapes:80:1",
        "--references",
        "shapes:16",
    ];
    run(models(), &[&few[..], &["--k", "17"]].concat()).refused(1, &["--k 17", "only 16 images"]);
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
    with("knn", "model.onnx", &["--crop", "16"]).refused(2, &["--crop", "an exported file"]);
    with("kmeans", "pixels", &["--mean", "0,0,0"]).refused(2, &["--mean", "pixels"]);
    with("knn", &weights, &["--mean", "0.5"]).refused(2, &["--mean needs three numbers"]);
    with("knn", &weights, &["--std", "0,1,1"]).refused(2, &["deviations"]);
    with("knn", &weights, &["--crop", "64", "--resize", "32"])
        .refused(2, &["resize 32 and crop 64"]);
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
fn neighbours_k_means_and_comparisons_are_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().to_str().unwrap();
    let with = |args: &[&str]| {
        run(models(), &[args, &["--out", out, "--json"]].concat()).ok();
    };
    with(&eval("knn", "run0", &["--references", "shapes:160"]));
    with(&eval("kmeans", "run0", &["--k", "3,8"]));
    with(&["eval", "compare", "run0", "run1", "--data", "shapes:80:1"]);
    for picture in [
        "knn.png",
        "neighbours.png",
        "k3-confusion.png",
        "k3-sizes.png",
        "k3-accurate.png",
        "k8-confusion.png",
        "compare.png",
    ] {
        assert!(is_png(&folder.path().join(picture)), "{picture}");
    }
    // A clustering by k-means has no classifier that could be sure.
    assert!(!folder.path().join("k3-confident.png").exists());
    let svg = std::fs::read_to_string(folder.path().join("compare.svg")).unwrap();
    for part in ["run0 head 0", "group 0 head 0, 2 runs", "20-nn accuracy"] {
        assert!(svg.contains(part), "{part}");
    }
    let svg = std::fs::read_to_string(folder.path().join("knn.svg")).unwrap();
    assert!(svg.contains("top-1") && svg.contains("neighbours"));
}
