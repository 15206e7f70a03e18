//! `predict`: folders of photos, as files come in, as they go out.

use super::images::train_for;
use super::ran::{Ran, run_in};
use selfcls_core::checkpoint;
use selfcls_core::data::{Shapes, Source};
use selfcls_core::metadata::{Metadata, TrainingSummary};
use selfcls_core::picture::write_png;
use selfcls_core::pixels::Rgb8;
use selfcls_export::OnnxWriter;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// A model of two heads, trained for seconds; made once for all tests here.
fn model() -> PathBuf {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let trained = run_in(folder.path(), &train_for("1", "shapes:64", "run"));
        assert_eq!(trained.code, Some(0), "{}", trained.stderr);
        let arguments = [
            "--quiet",
            "export",
            "run",
            "--head",
            "all",
            "--out",
            "model.onnx",
        ];
        run_in(folder.path(), &arguments).succeeded();
        folder
    });
    folder.path().join("model.onnx")
}

/// A folder `photos` with `count` pictures, some in a folder below.
fn photos(count: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let shapes = Shapes::new(count, 0, 24);
    std::fs::create_dir_all(folder.path().join("photos/more")).unwrap();
    for index in 0..count {
        let below = if index % 3 == 0 {
            "photos/more"
        } else {
            "photos"
        };
        let path = folder.path().join(below).join(format!("{index:03}.png"));
        write_png(&path, &shapes.image(index).unwrap()).unwrap();
    }
    folder
}

fn predict(folder: &Path, arguments: &[&str]) -> Ran {
    let model = model();
    let model = model.to_str().unwrap();
    run_in(
        folder,
        &[&["--quiet", "predict", model], arguments].concat(),
    )
}

fn json_lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn files(lines: &[Value]) -> Vec<&str> {
    lines
        .iter()
        .map(|line| line["file"].as_str().unwrap())
        .collect()
}

#[test]
fn shards_make_up_the_whole_in_order() {
    let folder = photos(50);
    let whole = predict(folder.path(), &["photos", "--json"]).succeeded();
    let whole = json_lines(&whole);
    let names = files(&whole);
    assert_eq!(names.len(), 50);
    assert!(names.is_sorted(), "{names:?}");
    let mut parts = Vec::new();
    for part in ["1/3", "2/3", "3/3"] {
        let lines = predict(folder.path(), &["photos", "--json", "--shard", part]).succeeded();
        let lines = json_lines(&lines);
        assert!((16..=17).contains(&lines.len()));
        parts.extend(lines);
    }
    parts.sort_by_key(|line| line["file"].to_string());
    assert_eq!(files(&parts), names);
    for (part, line) in parts.iter().zip(&whole) {
        assert_eq!(part["class"], line["class"]);
        let probability = |line: &Value| line["probability"].as_f64().unwrap();
        assert!((probability(part) - probability(line)).abs() < 1e-5);
    }
    for wrong in ["0/3", "4/3", "x"] {
        predict(folder.path(), &["photos", "--shard", wrong]).failed(2, &["--shard", "I/N"]);
    }
}

#[test]
fn heads_and_confidence() {
    let folder = photos(6);
    let lines = |arguments: &[&str]| {
        let all = [&["photos", "--json", "--top", "30"], arguments].concat();
        json_lines(&predict(folder.path(), &all).succeeded())
    };
    for (head, classes) in [("0", 10), ("1", 20)] {
        for line in lines(&["--head", head]) {
            assert_eq!(line["top"].as_array().unwrap().len(), classes);
        }
    }
    predict(folder.path(), &["photos", "--head", "2"]).failed(2, &["no head 2; it has 0, 1"]);
    for line in lines(&["--min-confidence", "1"]) {
        assert!(line["class"].is_null() && line["name"].is_null(), "{line}");
        assert!(line["probability"].as_f64().unwrap() < 1.0);
    }
    let text = predict(folder.path(), &["photos", "--min-confidence", "1"]).succeeded();
    assert!(
        text.lines()
            .all(|line| line.split('\t').nth(1) == Some("-")),
        "{text}"
    );
    let csv = predict(folder.path(), &["photos", "--csv", "--min-confidence", "1"]).succeeded();
    assert!(
        csv.lines().skip(1).all(|line| line.contains(",1,,,0.")),
        "{csv}"
    );
    predict(folder.path(), &["photos", "--min-confidence", "2"]).failed(2, &["from 0 to 1"]);
}

#[test]
fn what_cannot_be_read_is_listed_at_the_end() {
    let folder = photos(5);
    std::fs::write(folder.path().join("photos/a.jpg"), "no image").unwrap();
    std::fs::create_dir(folder.path().join("empty")).unwrap();
    let arguments = ["photos", "empty", "--json"];
    let ran = predict(folder.path(), &arguments);
    assert_eq!(ran.code, Some(1));
    for part in [
        "2 of 7 images",
        "photos/a.jpg: not a readable image",
        "empty holds no images",
    ] {
        assert!(ran.stderr.contains(part), "{part}: {}", ran.stderr);
    }
    let lines = json_lines(&ran.stdout);
    assert_eq!(lines.len(), 7);
    assert_eq!(
        lines
            .iter()
            .filter(|line| line["error"].is_string())
            .count(),
        2
    );
    let csv = predict(folder.path(), &["photos", "empty", "--csv"]).stdout;
    let failed: Vec<&str> = csv.lines().filter(|line| line.contains(",,,,,")).collect();
    assert_eq!((csv.lines().count(), failed.len()), (1 + 7, 2), "{csv}");
    assert!(failed[0].starts_with("photos/a.jpg,,,,,photos/a.jpg: not a"));
    assert!(failed[1].starts_with(",,,,,empty holds no images"));
    let skipped = predict(
        folder.path(),
        &[&arguments[..], &["--skip-unreadable"]].concat(),
    );
    assert_eq!((skipped.code, &skipped.stdout), (Some(0), &ran.stdout));
    // What is not there at all is noticed before anything is done.
    predict(folder.path(), &["photos", "none"]).failed(1, &["cannot open none"]);
}

#[test]
fn photos_are_sorted_into_folders_again_and_again() {
    let folder = photos(20);
    let path = |name: &str| folder.path().join(name);
    // The same name twice, with other content.
    std::fs::copy(path("photos/001.png"), path("photos/more/002.png")).unwrap();
    let before: BTreeSet<PathBuf> = everything(&path("photos"));
    let sort = |arguments: &[&str]| {
        let model = model();
        let model = model.to_str().unwrap();
        let all = [&["predict", model, "photos"], arguments].concat();
        let ran = run_in(folder.path(), &all);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        (ran.stdout, ran.stderr)
    };
    // Left by a process that was killed long ago, and something that only looks so.
    let left = path("sorted/class-0/.sorting.0123456789abcdef.partial");
    let own = path("sorted/class-0/.sorting.partial");
    std::fs::create_dir_all(path("sorted/class-0")).unwrap();
    for file in [&left, &own] {
        std::fs::write(file, "half").unwrap();
        let file = std::fs::File::options().write(true).open(file).unwrap();
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
    }
    let (lines, notes) = sort(&["--copy-to", "sorted"]);
    assert!(own.is_file());
    std::fs::remove_file(own).unwrap();
    let is_used = lines
        .lines()
        .any(|line| line.split('\t').nth(1) == Some("0"));
    assert_eq!(left.exists(), !is_used);
    let _ = std::fs::remove_file(left);
    let _ = std::fs::remove_dir(path("sorted/class-0"));
    assert!(notes.contains("21 images copied into sorted\n"), "{notes}");
    let sorted = everything(&path("sorted"));
    assert_eq!(sorted.len(), 21);
    for line in lines.lines() {
        let mut parts = line.split('\t');
        let (file, class) = (parts.next().unwrap(), parts.next().unwrap());
        let class = format!("class-{class}");
        let content = std::fs::read(path(file)).unwrap();
        let has_it = |copy: &&PathBuf| std::fs::read(copy).unwrap() == content;
        let copy = sorted.iter().find(has_it).unwrap();
        assert!(
            copy.starts_with(path("sorted").join(class)),
            "{line}: {}",
            copy.display()
        );
    }
    let (_, notes) = sort(&["--copy-to", "sorted"]);
    assert!(
        notes.contains("0 images copied into sorted; 21 were there already"),
        "{notes}"
    );
    assert_eq!(everything(&path("sorted")), sorted);
    let (_, notes) = sort(&["--copy-to", "unsure", "--min-confidence", "1"]);
    assert!(notes.contains("21 images copied"), "{notes}");
    assert_eq!(std::fs::read_dir(path("unsure")).unwrap().count(), 1);
    assert!(path("unsure/unsure/001.png").is_file());
    #[cfg(unix)]
    {
        for expected in [
            "21 images linked from linked\n",
            "0 images linked from linked; 21 were",
        ] {
            let (_, notes) = sort(&["--link-to", "linked"]);
            assert!(notes.contains(expected), "{notes}");
        }
        let links = everything(&path("linked"));
        assert_eq!(links.len(), 21);
        assert!(links.iter().all(|link| link.is_symlink() && link.is_file()));
    }
    // Nothing has happened to the photos.
    assert_eq!(everything(&path("photos")), before);
    for inside in ["photos", "photos/sorted", "photos/more/../new"] {
        predict(folder.path(), &["photos", "--copy-to", inside])
            .failed(2, &["whose images are to be sorted"]);
    }
    assert_eq!(everything(&path("photos")), before);
    predict(
        folder.path(),
        &["photos", "--copy-to", "a", "--link-to", "b"],
    )
    .failed(2, &["--link-to"]);
}

/// All files below.
fn everything(folder: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(everything(&path));
        } else {
            found.insert(path);
        }
    }
    found
}

#[test]
fn a_gallery_is_one_page() {
    let folder = photos(30);
    let odd = folder
        .path()
        .join("photos/<img src=x onerror=alert(1)>.png");
    let has_odd = std::fs::copy(folder.path().join("photos/001.png"), odd).is_ok();
    predict(folder.path(), &["photos", "--gallery", "found.html"]).succeeded();
    let page = std::fs::read_to_string(folder.path().join("found.html")).unwrap();
    let count = 30 + usize::from(has_odd);
    assert!(
        page.contains(&format!("<h1>{count} images in ")),
        "{}",
        &page[..900]
    );
    assert_eq!(page.matches("src=\"data:image/jpeg;base64,").count(), count);
    assert_eq!(page.matches("<img").count(), count);
    assert!(!page.contains("http") && !page.contains("<script"));
    predict(
        folder.path(),
        &["photos", "--gallery", "no/such/folder.html"],
    )
    .failed(1, &["no/such/folder.html"]);
    // Again: a page is replaced. A photo is not, nor is the model.
    predict(folder.path(), &["photos", "--gallery", "found.html"]).succeeded();
    let photo = folder.path().join("photos/001.png");
    let before = std::fs::read(&photo).unwrap();
    let model = model();
    for other in ["photos/001.png", "photos", model.to_str().unwrap()] {
        predict(folder.path(), &["photos", "--gallery", other]).failed(1, &["no gallery"]);
    }
    assert_eq!(std::fs::read(&photo).unwrap(), before);
}

#[test]
fn a_file_of_another_program_needs_its_preprocessing() {
    let folder = photos(4);
    let mut bytes = std::fs::read(model()).unwrap();
    let key = b"selfcls.format";
    let at = bytes
        .windows(key.len())
        .position(|part| part == key)
        .unwrap();
    bytes[at..at + key.len()].copy_from_slice(b"another.format");
    std::fs::write(folder.path().join("other.onnx"), bytes).unwrap();
    let run = |arguments: &[&str]| {
        let all = [&["--quiet", "predict", "other.onnx", "photos"], arguments].concat();
        run_in(folder.path(), &all)
    };
    run(&[]).failed(1, &["other.onnx", "selfcls.format", "--crop"]);
    let own = predict(folder.path(), &["photos", "--json"]).succeeded();
    let other = run(&["--crop", "16", "--resize", "16", "--json"]).succeeded();
    for (own, other) in json_lines(&own).iter().zip(json_lines(&other)) {
        assert_eq!(own["class"], other["class"]);
    }
    run(&["--crop", "16"]).failed(2, &["--resize"]);
    run(&["--crop", "32", "--resize", "32"]).failed(1, &["16 pixels", "crop to 16"]);
    run(&["--crop", "16", "--resize", "8"]).failed(2, &["resize 8 and crop 16"]);
    run(&["--crop", "16", "--resize", "16", "--std", "0,1,1"]).failed(2, &["positive"]);
    run(&["--crop", "16", "--resize", "16", "--mean", "1,2"]).failed(2, &["three numbers"]);
}

#[test]
fn an_answer_that_is_not_finite_names_its_image() {
    let folder = tempfile::tempdir().unwrap();
    let run = model().with_file_name("run");
    let newest = checkpoint::list(&run).unwrap().pop().unwrap();
    let snapshot = checkpoint::read(&newest).unwrap().snapshot().unwrap();
    let (config, mut weights) = (snapshot.manifest.config, snapshot.model);
    let is_of_head = |name: &str| name.starts_with("mlp_head.") && name.ends_with(".weight");
    let mut matrices = weights.iter().filter(|(_, array)| array.shape.len() == 2);
    let last = matrices.rfind(|(name, _)| is_of_head(name));
    let last = last.unwrap().0.clone();
    // White makes these infinite in the end; of black the first rectifier leaves nothing.
    for (name, value) in [("backbone.conv1.weight", 1e28), (&*last, 1e15)] {
        weights.get_mut(name).unwrap().data.fill(value);
    }
    let metadata = Metadata::new(&config, TrainingSummary::default());
    let writer = OnnxWriter::new(&config.model, &weights, metadata);
    writer.write(folder.path().join("model.onnx")).unwrap();
    std::fs::create_dir(folder.path().join("photos")).unwrap();
    for (name, level) in [("black", 0), ("white", 255), ("zero", 0)] {
        let image = Rgb8::new(24, 24, vec![level; 3 * 24 * 24]).unwrap();
        let path = folder.path().join(format!("photos/{name}.png"));
        write_png(&path, &image).unwrap();
    }
    let ran = run_in(
        folder.path(),
        &["--quiet", "predict", "model.onnx", "photos"],
    );
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    // It fails alone, and the one after it has its answer.
    for name in ["black.png", "zero.png"] {
        assert!(ran.stdout.contains(name), "{}", ran.stdout);
    }
    for part in [
        "1 of 3 images could not be read or have no finite answer",
        "white.png: ",
        "is not a finite number",
    ] {
        assert!(ran.stderr.contains(part), "{}", ran.stderr);
    }
    let json = [
        "--quiet",
        "predict",
        "model.onnx",
        "photos",
        "--json",
        "--skip-unreadable",
    ];
    let ran = run_in(folder.path(), &json);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(lines.len(), 3);
    assert!(lines[1].contains("is not a finite number"), "{}", lines[1]);
    for name in ["black", "white"] {
        let from = folder.path().join(format!("photos/{name}.png"));
        let class = folder.path().join(format!("labelled/{name}"));
        std::fs::create_dir_all(&class).unwrap();
        std::fs::copy(from, class.join(format!("{name}.png"))).unwrap();
    }
    let eval = ["eval", "clusters", "model.onnx", "--data", "labelled"];
    let ran = run_in(folder.path(), &eval);
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert!(ran.stderr.contains("white.png"), "{}", ran.stderr);
}

#[test]
fn what_the_machine_does_not_have_is_an_error() {
    let folder = photos(1);
    let ran = predict(folder.path(), &["photos", "--provider", "directml"]);
    ran.failed(1, &["DirectML", "ORT_DYLIB_PATH"]);
    predict(folder.path(), &["photos", "--provider", "gpu"]).failed(2, &["cuda"]);
    let run = |more: &[&str]| predict(folder.path(), &[&["photos"], more].concat());
    run(&["--half-precision"]).failed(2, &["half precision", "TensorRT, OpenVINO"]);
    let half = ["--half-precision", "--provider", "cuda"];
    run(&half).failed(2, &["CUDA device 0 cannot be told so"]);
    let option = ["--provider-option", "cuda:use_tf32=1"];
    run(&option).failed(2, &["cuda:use_tf32", "not asked for"]);
    run(&["--provider-option", "use_tf32=1"]).failed(2, &["PROVIDER:KEY=VALUE"]);
}

#[test]
fn multiplications_may_be_bounded() {
    let folder = photos(1);
    let run = |most: &str| predict(folder.path(), &["photos", "--max-operations", most]);
    run("1000").failed(
        1,
        &["multiplications are needed", "hint: --max-operations N"],
    );
    run("100000000000").ok();
}

#[test]
fn memory_of_a_run_may_be_bounded() {
    let folder = photos(1);
    let run = |most: &str| predict(folder.path(), &["photos", "--max-run-bytes", most]);
    let said = ["at the same time", "hint: --max-run-bytes N"];
    run("1000").failed(1, &said);
    run("100000000000").ok();
}

#[test]
fn large_photos_may_be_decoded_in_part() {
    let folder = photos(0);
    let path = folder.path().join("photos/large.jpg");
    let shape = Shapes::new(1, 0, 800).image(0).unwrap();
    let image = image::RgbImage::from_raw(800, 800, shape.data().to_vec()).unwrap();
    image.save(&path).unwrap();
    let probability = |arguments: &[&str]| {
        let all = [&["photos", "--json"], arguments].concat();
        let lines = json_lines(&predict(folder.path(), &all).succeeded());
        (
            lines[0]["class"].clone(),
            lines[0]["probability"].as_f64().unwrap(),
        )
    };
    let (exact, fast) = (probability(&[]), probability(&["--fast"]));
    assert_eq!(exact.0, fast.0);
    // Other pixels: it has been decoded in part.
    assert_ne!(exact.1, fast.1);
    assert!((exact.1 - fast.1).abs() < 0.05, "{exact:?} {fast:?}");
}

#[test]
fn files_that_are_not_called_as_images_are_counted() {
    let folder = photos(3);
    for name in [
        "photos/a.HEIC",
        "photos/more/b.heic",
        "photos/c.tiff",
        "photos/d",
    ] {
        std::fs::write(folder.path().join(name), "x").unwrap();
    }
    let model = model();
    let ran = run_in(
        folder.path(),
        &["predict", model.to_str().unwrap(), "photos"],
    )
    .fine();
    assert_eq!(ran.stdout.lines().count(), 3);
    for part in [
        "4 files passed over",
        ": 2 .heic, 1 .tiff, 1 without an ending\n",
    ] {
        assert!(ran.stderr.contains(part), "{part}: {}", ran.stderr);
    }
}

/// Names that are no text, and such that would do something to a terminal.
#[cfg(target_os = "linux")]
#[test]
fn odd_names_stay_apart_and_harmless() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let folder = photos(1);
    let one = folder.path().join("photos/more/000.png");
    for name in [
        &b"a\xfe.png"[..],
        b"a\xff.png",
        b"b\x1b[2J.png",
        b"c\x1b.jpg",
    ] {
        let copy = folder.path().join("photos").join(OsStr::from_bytes(name));
        if name.ends_with(b"jpg") {
            std::fs::write(&copy, "no image").unwrap();
        } else {
            std::fs::copy(&one, copy).unwrap();
        }
    }
    let arguments = ["photos", "--skip-unreadable"];
    let text = predict(folder.path(), &arguments).fine();
    let named: Vec<&str> = text
        .stdout
        .lines()
        .map(|line| line.split('\t').next().unwrap())
        .collect();
    let expected = [
        r#""photos/a\xfe.png""#,
        r#""photos/a\xff.png""#,
        r#""photos/b\u{1b}[2J.png""#,
        "photos/more/000.png",
    ];
    assert_eq!(named, expected);
    let csv = predict(folder.path(), &[&arguments[..], &["--csv"]].concat()).fine();
    assert!(
        csv.stdout.contains("\"\"\"photos/a\\xff.png\"\"\",1,"),
        "{}",
        csv.stdout
    );
    let json = predict(folder.path(), &[&arguments[..], &["--json"]].concat()).fine();
    let lines = json_lines(&json.stdout);
    assert_eq!(lines[1]["file_percent_encoded"], "photos/a%FF.png");
    assert!(lines[4]["file_percent_encoded"].is_null());
    let ran = predict(folder.path(), &["photos"]);
    assert_eq!(ran.code, Some(1));
    for said in [&text.stdout, &csv.stdout, &ran.stdout, &ran.stderr] {
        assert!(!said.contains('\u{1b}'), "{said}");
    }
    assert!(
        ran.stderr.contains("c\\u{1b}.jpg: not a readable image"),
        "{}",
        ran.stderr
    );
}
