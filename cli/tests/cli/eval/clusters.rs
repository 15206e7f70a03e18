//! Clusters, how many of them are used, and runs beside each other.

use super::{eval, is_png, json, models};
use crate::ran::run_in as run;
use serde_json::Value;
use std::path::Path;

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

    with(&["--level", "7"]).failed_with_notes(1, &["superclasses 7 are at level 7", "0 to 2"]);
    with(&["--level", "entity14"]).failed_with_notes(2, &["entity14", "living17"]);
    write(&format!("{edges}disc top\n"), &classes);
    with(&[]).failed_with_notes(1, &["class_hierarchy.txt", "is its own ancestor"]);
    write(edges, &serde_json::to_string(&list[..7]).unwrap());
    with(&[]).failed_with_notes(1, &["the hierarchy lacks 1 of the 8 classes: pair"]);
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
    run(models(), &eval("clusters", "run0", &["--subset", list]))
        .failed_with_notes(1, &["no class square"]);
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
        .failed_with_notes(1, &["no labels", "eval usage"]);
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
    .failed_with_notes(1, &["none does not exist"]);
}
