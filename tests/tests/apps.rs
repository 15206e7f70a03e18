//! Other people's applications, in `examples`: each must say of an image what `predict` says.
//!
//! They run where their tools are: a Python with onnxruntime, numpy and Pillow (`SELFCLS_PYTHON`, or `python3`); node,
//! Chromium, and the npm packages playwright-core and onnxruntime-web (`SELFCLS_CHROMIUM`, `SELFCLS_PLAYWRIGHT`,
//! `SELFCLS_ONNXRUNTIME_WEB`, which `cargo xtask test` sets); a C compiler, ONNX Runtime's headers and its library
//! (`SELFCLS_ONNXRUNTIME_HEADERS`, `ORT_DYLIB_PATH`).

#![allow(clippy::expect_used, reason = "a failed expectation is a failed test")]
#![cfg(feature = "flex")]

use selfcls_backends::{Selection, open};
use selfcls_core::Config;
use selfcls_core::config::{Arch, Stem};
use selfcls_core::data::{Shapes, Source};
use selfcls_core::metadata::{InputKind, Metadata, TrainingSummary};
use selfcls_core::model::state_dict;
use selfcls_core::picture::write_png;
use selfcls_export::{FileOptions, OnnxWriter, Output as Given};
use selfcls_tests::{binary, not_run};
use serde_json::Value;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples");

/// An untrained network with named classes: what it says does not matter, as long as all say the same.
fn model(folder: &Path, input: InputKind) -> PathBuf {
    exported(folder, input, None)
}

/// The same with these outputs.
fn exported(folder: &Path, input: InputKind, outputs: Option<BTreeSet<Given>>) -> PathBuf {
    let mut config = Config::default();
    config.views.global_size = 32;
    config.eval.resize = 36;
    config.model.backbone = Arch::ResNet10;
    config.model.stem = Stem::CifarStride2;
    config.model.width = 8;
    config.model.hidden_dim = 32;
    config.model.dim = 16;
    config.model.heads = vec![7];
    let selection: Selection = "flex".parse().expect("a backend");
    let device = open(&selection).expect("flex runs everywhere").device;
    let weights = state_dict(&config.model.init(&device, 3));
    let mut metadata = Metadata::new(&config, TrainingSummary::default());
    let names = (0..7).map(|class| format!("Klasse „{class}“"));
    metadata.heads[0].names = Some(names.collect());
    let path = folder.join(format!("{input}.onnx"));
    let options = FileOptions {
        input,
        outputs,
        ..FileOptions::default()
    };
    OnnxWriter::new(&config.model, &weights, metadata)
        .options(options)
        .write(&path)
        .expect("exports");
    path
}

/// Images wide, high, square, smaller and larger than what the network takes.
fn images(folder: &Path) -> Vec<PathBuf> {
    [(60, 40), (41, 90), (32, 32), (20, 25), (200, 300)]
        .into_iter()
        .enumerate()
        .map(|(index, (width, height))| {
            let large = Shapes::new(9, 5, 300).image(index).expect("draws");
            let rows = large.data().chunks_exact(3 * 300).take(height);
            let part = rows.flat_map(|row| &row[..3 * width]).copied().collect();
            let image = selfcls_core::pixels::Rgb8::new(width, height, part).expect("a part");
            let path = folder.join(format!("{index}.png"));
            write_png(&path, &image).expect("writes");
            path
        })
        .collect()
}

/// The file as a version that nobody knows yet would write it, which readers are to refuse.
fn of_a_later_version(model: &Path) -> PathBuf {
    let mut bytes = std::fs::read(model).expect("a file");
    // The key, and in front of the value that it has one letter.
    let entry = b"selfcls.format\x12\x01";
    let at = bytes.windows(entry.len()).position(|part| part == entry);
    bytes[at.expect("a version") + entry.len()] = b'3';
    let path = model.with_file_name("later.onnx");
    std::fs::write(&path, bytes).expect("writes");
    path
}

/// Fails unless `command` fails with `said`, and not with a trace.
fn refuses(command: &mut Command, said: &str) {
    let ended = command.output().expect("starts");
    let complaint = String::from_utf8_lossy(&ended.stderr);
    let is_told = complaint.contains(said) && !complaint.contains("Traceback");
    assert!(!ended.status.success() && is_told, "{said}: {complaint}");
}

fn output(command: &mut Command) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().expect("starts");
    let complaint = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{command:?}: {complaint}");
    String::from_utf8(stdout).expect("text")
}

/// Images of other kinds than 8-bit RGB, made with Pillow: with transparency, grey of 8 and 16 bits, of a palette, turned
/// by their EXIF data, CMYK, moving.
const UNUSUAL: &str = r#"
import sys
import numpy as np
from PIL import Image

at = lambda name: f"{sys.argv[1]}/{name}"
y, x = np.mgrid[0:48, 0:64]
smooth = np.dstack([x * 4, y * 5, x + y]).astype(np.uint8)
colour = Image.fromarray(smooth)
Image.fromarray(np.dstack([smooth, (x * 4).astype(np.uint8)])).save(at("rgba.png"))
Image.fromarray((x * 4).astype(np.uint8)).save(at("grey.png"))
Image.fromarray((x * 1000 + y * 11).astype(np.uint16)).save(at("grey16.png"))
colour.convert("P").save(at("palette.png"))
exif = Image.Exif()
exif[0x0112] = 6
colour.save(at("turned.jpg"), quality=95, exif=exif)
colour.convert("CMYK").save(at("cmyk.jpg"), quality=95)
colour.save(at("moving.gif"), save_all=True, append_images=[colour.rotate(180)])
"#;

/// [`UNUSUAL`] ones in `folder`.
fn unusual(folder: &Path, python: &OsString) -> Vec<PathBuf> {
    output(Command::new(python).args(["-c", UNUSUAL]).arg(folder));
    let names = "rgba.png grey.png grey16.png palette.png turned.jpg cmyk.jpg moving.gif";
    let names = names.split(' ');
    names.map(|name| folder.join(name)).collect()
}

/// What `predict` says of `images`.
fn predicted(program: &Path, model: &Path, images: &[PathBuf]) -> Vec<Value> {
    let mut command = Command::new(program);
    command.args(["--quiet", "predict"]).arg(model).args(images);
    lines(&output(command.args(["--json", "--top", "5"])))
}

fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

fn close(a: &Value, b: &Value, tolerance: f64) {
    let (p, q) = (a["probability"].as_f64(), b["probability"].as_f64());
    let (p, q) = (p.expect("a number"), q.expect("a number"));
    assert!((p - q).abs() <= tolerance, "{a} {b}");
    // Of classes that are nearly as probable either may be the first.
    let next = a["top"][1]["probability"].as_f64().expect("a second class");
    if p - next > 2.0 * tolerance {
        assert_eq!((&a["class"], &a["name"]), (&b["class"], &b["name"]));
    }
}

#[test]
fn python_says_what_predict_says() {
    let name = "apps::python_says_what_predict_says";
    let Some(program) = binary() else {
        return not_run(name, "selfcls-cli has not been built");
    };
    let python = std::env::var_os("SELFCLS_PYTHON").unwrap_or_else(|| "python3".into());
    let import = Command::new(&python)
        .args(["-c", "import onnxruntime, numpy, PIL"])
        .output();
    if !import.is_ok_and(|import| import.status.success()) {
        return not_run(
            name,
            "no Python with onnxruntime, numpy and Pillow: pip install them, or set SELFCLS_PYTHON",
        );
    }
    let folder = tempfile::tempdir().expect("a folder");
    let mut images = images(folder.path());
    images.extend(unusual(folder.path(), &python));
    let float = predicted(&program, &model(folder.path(), InputKind::Float), &images);
    let classify = |model: &Path, images: &[PathBuf]| {
        let mut command = Command::new(&python);
        let program = format!("{EXAMPLES}/python/classify.py");
        command.arg(program).arg(model).args(images);
        command
    };
    for input in INPUTS {
        let model = model(folder.path(), input);
        let theirs = lines(&output(&mut classify(&model, &images)));
        assert_eq!(float.len(), theirs.len());
        for (ours, theirs) in float.iter().zip(&theirs) {
            assert_eq!(ours["file"], theirs["file"]);
            // JPEG decoders are a grey level apart.
            let is_jpeg = ours["file"]
                .as_str()
                .is_some_and(|name| name.ends_with(".jpg"));
            close(
                ours,
                theirs,
                tolerance(if is_jpeg { InputKind::Any } else { input }),
            );
        }
    }
    // What is wrong is said.
    let later = of_a_later_version(&model(folder.path(), InputKind::Float));
    refuses(&mut classify(&later, &images), "newer than this program");
    let embedding = Some(BTreeSet::from([Given::Embedding]));
    let embedding = exported(folder.path(), InputKind::Float, embedding);
    refuses(
        &mut classify(&embedding, &images),
        "gives only embedding; export it with",
    );
}

const INPUTS: [InputKind; 3] = [InputKind::Float, InputKind::Uint8, InputKind::Any];

/// How far from the answer of a file that takes floats: engines resize within a grey level.
fn tolerance(input: InputKind) -> f64 {
    match input {
        InputKind::Float | InputKind::Uint8 => 1e-4,
        InputKind::Any => 0.03,
    }
}

/// A tool that the environment names.
fn tool(variable: &str) -> Result<OsString, String> {
    std::env::var_os(variable)
        .filter(|value| !value.is_empty())
        .ok_or_else(|| format!("{variable} is not set; `cargo xtask test` sets it where it can"))
}

#[test]
fn c_says_what_predict_says() {
    let name = "apps::c_says_what_predict_says";
    let tools = || {
        let compiler = Command::new("cc").arg("--version").output();
        if !cfg!(unix) || !compiler.is_ok_and(|compiler| compiler.status.success()) {
            return Err("no C compiler for a Unix system".to_owned());
        }
        let program = binary().ok_or("selfcls-cli has not been built")?;
        // Which library there is the program learns from the environment, as `predict` does.
        tool("ORT_DYLIB_PATH")?;
        Ok((program, tool("SELFCLS_ONNXRUNTIME_HEADERS")?))
    };
    let (program, headers) = match tools() {
        Ok(tools) => tools,
        Err(reason) => return not_run(name, reason),
    };
    let folder = tempfile::tempdir().expect("a folder");
    let classify = folder.path().join("classify");
    let mut command = Command::new("cc");
    command.args(["-std=c11", "-Wall", "-Werror", "-o"]);
    command
        .arg(&classify)
        .arg(format!("{EXAMPLES}/c/classify.c"));
    output(command.arg("-I").arg(headers).arg("-ldl"));
    let images = images(folder.path());
    let [float, any] = [InputKind::Float, InputKind::Any].map(|input| model(folder.path(), input));
    for (ours, path) in predicted(&program, &any, &images).iter().zip(&images) {
        let image = image::open(path).expect("a picture").to_rgb8();
        let plain = path.with_extension("ppm");
        let header = format!("P6\n{} {}\n255\n", image.width(), image.height());
        std::fs::write(&plain, [header.as_bytes(), image.as_raw()].concat()).expect("writes");
        let said = output(Command::new(&classify).arg(&any).arg(&plain));
        let said: Value = serde_json::from_str(&said).expect("JSON");
        assert_eq!(said["class"], ours["class"], "{said} {ours}");
        let [a, b] = [&said, ours].map(|x| x["probability"].as_f64().expect("a number"));
        // `predict` resizes itself.
        assert!((a - b).abs() < tolerance(InputKind::Any), "{said} {ours}");
    }
    // What is wrong is said.
    let later = of_a_later_version(&any);
    for (model, picture, wrong) in [
        (&float, "0.ppm", "export it with --input any"),
        (&later, "0.ppm", "newer than this program"),
        (&any, "0.png", "is not a binary PPM"),
        (&any, "none.ppm", "cannot be opened"),
    ] {
        let mut command = Command::new(&classify);
        refuses(command.arg(model).arg(folder.path().join(picture)), wrong);
    }
}

#[test]
fn a_browser_says_what_predict_says() {
    let name = "apps::a_browser_says_what_predict_says";
    let tools = || {
        let node = Command::new("node").arg("--version").output();
        if !node.is_ok_and(|node| node.status.success()) {
            return Err("node is not installed".to_owned());
        }
        let program = binary().ok_or("selfcls-cli has not been built")?;
        let [playwright, chromium, runtime] = [
            tool("SELFCLS_PLAYWRIGHT")?,
            tool("SELFCLS_CHROMIUM")?,
            tool("SELFCLS_ONNXRUNTIME_WEB")?,
        ];
        Ok((program, [playwright, chromium, runtime]))
    };
    let (program, tools) = match tools() {
        Ok(tools) => tools,
        Err(reason) => return not_run(name, reason),
    };
    let folder = tempfile::tempdir().expect("a folder");
    let images = images(folder.path());
    let screenshot = folder.path().join("page.png");
    let ours = predicted(&program, &model(folder.path(), InputKind::Float), &images);
    // Each form of the input, and each form of image.
    for ((image, ours), input) in images.iter().zip(&ours).zip(INPUTS.iter().cycle()) {
        let model = model(folder.path(), *input);
        let mut command = Command::new("node");
        command.arg(format!("{EXAMPLES}/web/test.mjs")).args(&tools);
        command.arg(&model).arg(image).arg(&screenshot);
        let said: Value = serde_json::from_str(&output(&mut command)).expect("JSON");
        assert_eq!(said["problems"], Value::Array(Vec::new()), "{said}");
        let refused = said["refused"].as_str().expect("a message");
        assert!(
            refused.contains("notes.txt cannot be classified"),
            "{refused}"
        );
        for way in ["clicked", "dropped"] {
            let top = said[way].as_array().expect("a list");
            assert_eq!(top.len(), 5);
            close(ours, &top[0], tolerance(*input));
        }
        let picture = image::open(&screenshot).expect("a picture");
        assert_eq!((picture.width(), picture.height()), (640, 820));
    }
}
