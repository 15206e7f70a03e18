//! Neighbours, k-means and maps of features, and the cache that keeps these.

use super::{eval, is_png, json, models};
use crate::ran::run_in as run;
use serde_json::Value;
use std::path::Path;

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
        run(models(), &args).failed_with_notes(1, &["features.safetensors is stale", what]);
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
    run(models(), &eval("clusters", "run0", &["--recompute"])).failed_with_notes(2, &["--cache"]);
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
    with("clusters", &shared, &[]).failed_with_notes(1, &["of the 2 shares", "missing: 1"]);
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

    with("clusters", &shared, &["--shard", "3/3"]).failed_with_notes(1, &["at most 2 shares"]);
    with("clusters", &shared, &["--shard", "0/2"]).failed_with_notes(2, &["--shard", "I/N"]);
    let shard = ["--shard", "1/2"];
    run(models(), &eval("clusters", "model.onnx", &shard)).failed_with_notes(2, &["--cache"]);
    let train = ["--train", "shapes:40:1"];
    with("linear", &shared, &[&train[..], &shard].concat()).failed_with_notes(2, &["one process"]);
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
        run(models(), &eval("knn", "run0", more)).failed_with_notes(code, parts);
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
        run(models(), &eval("kmeans", model, more)).failed_with_notes(code, parts);
    };
    refused("run0", &["--k", "81"], 1, &["--k 81", "only 80 images"]);
    refused("pixels:0", &[], 2, &["pixels:0"]);
    run(models(), &eval("clusters", "pixels", &[]))
        .failed_with_notes(2, &["no classifier", "kmeans"]);
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
        run(models(), &eval("embed", "run0", more)).failed_with_notes(code, parts);
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
    run(models(), &eval("knn", "run0", &references)).failed_with_notes(
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
    run(models(), &eval("linear", "run0", &linear))
        .failed_with_notes(1, &["width 8 do not fit", "width 32"]);
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
    run(models(), &compare).failed_with_notes(1, &["--k 80", "79 neighbours"]);
    let few = [
        "eval",
        "knn",
        "run0",
        "--data",
        "shapes:80:1",
        "--references",
        "shapes:16",
    ];
    run(models(), &[&few[..], &["--k", "17"]].concat())
        .failed_with_notes(1, &["--k 17", "only 16 images"]);
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
