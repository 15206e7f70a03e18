//! Images in other layouts than a folder of files: read, trained on, evaluated, and refused where they are damaged.

use super::images::train_for;
use super::ran::run_in;
use selfcls_core::data::{Shapes, Source};
use selfcls_core::picture::write_png;
use serde_json::Value;
use std::fs;
use std::path::Path;

/// Images of every set here: two batches.
const COUNT: usize = 32;
/// Side of an image of CIFAR.
const SIDE: usize = 32;

/// MNIST's two files, of either part.
fn write_idx(folder: &Path, part: &str) {
    fs::create_dir_all(folder).unwrap();
    let shapes = Shapes::new(COUNT, 0, 12);
    let mut images = vec![0, 0, 8, 3, 0, 0, 0, COUNT as u8, 0, 0, 0, 12, 0, 0, 0, 12];
    let mut labels = vec![0, 0, 8, 1, 0, 0, 0, COUNT as u8];
    for index in 0..COUNT {
        let image = shapes.image(index).unwrap();
        images.extend(image.data().chunks(3).map(|pixel| pixel[0]));
        labels.push(index as u8 % 8);
    }
    fs::write(folder.join(format!("{part}-images-idx3-ubyte")), images).unwrap();
    fs::write(folder.join(format!("{part}-labels-idx1-ubyte")), labels).unwrap();
}

/// A file of CIFAR-100's binary version.
fn write_cifar(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let shapes = Shapes::new(COUNT, 0, SIDE);
    let mut bytes = Vec::new();
    for index in 0..COUNT {
        bytes.extend([index as u8 % 2, index as u8 % 8]);
        for channel in 0..3 {
            let image = shapes.image(index).unwrap();
            bytes.extend(image.data().chunks(3).map(|pixel| pixel[channel]));
        }
    }
    fs::write(path, bytes).unwrap();
}

/// A shard in WebDataset's layout.
fn write_tar(path: &Path, first: usize) {
    let folder = tempfile::tempdir().unwrap();
    let shapes = Shapes::new(COUNT, 0, 20);
    let mut builder = tar::Builder::new(fs::File::create(path).unwrap());
    for index in first..first + COUNT / 2 {
        let file = folder.path().join("image.png");
        write_png(&file, &shapes.image(index).unwrap()).unwrap();
        let members = [
            (format!("{index:04}.png"), fs::read(&file).unwrap()),
            (
                format!("{index:04}.cls"),
                (index % 8).to_string().into_bytes(),
            ),
        ];
        for (name, bytes) in members {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, &bytes[..]).unwrap();
        }
    }
    builder.finish().unwrap();
}

fn write_all(path: &Path) {
    write_idx(&path.join("mnist"), "train");
    write_idx(&path.join("mnist"), "t10k");
    write_cifar(&path.join("c100/cifar-100-binary/train.bin"));
    fs::create_dir(path.join("my shards")).unwrap();
    write_tar(&path.join("my shards/s-09.tar"), 0);
    write_tar(&path.join("my shards/s-10.tar"), COUNT / 2);
}

#[test]
fn every_layout_trains_and_is_evaluated() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    write_all(path);
    let here = path.join("my shards/s-{09..10}.tar");
    let sources: [(&str, u64); 6] = [
        ("idx:mnist", 8),
        ("idx:mnist:test", 8),
        ("cifar100:c100", 100),
        ("cifar20:c100/cifar-100-binary:train", 20),
        ("tar:my shards", 8),
        (here.to_str().unwrap(), 8),
    ];
    for (number, (data, available)) in sources.into_iter().enumerate() {
        let run = format!("run{number}");
        let ran = run_in(path, &train_for("1", data, &run));
        assert_eq!(ran.code, Some(0), "{data}: {}", ran.stderr);
        assert!(
            ran.stdout.contains("step-00000002"),
            "{data}: {}",
            ran.stdout
        );
        assert!(ran.stderr.contains("32 images"), "{data}: {}", ran.stderr);
        let args = [
            "--quiet", "eval", "clusters", &run, "--data", data, "--json",
        ];
        let found: Value = serde_json::from_str(&run_in(path, &args).succeeded()).unwrap();
        assert_eq!(found["samples"], COUNT, "{data}");
        // CIFAR has a name for more classes than these images are of.
        assert!(found["classes"].as_u64().unwrap() <= available, "{data}");
    }
}

#[test]
fn classes_are_chosen_and_limited_in_any_layout() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    write_all(path);
    fs::write(path.join("some.txt"), "7\n2\n5\n0\n").unwrap();
    let chosen = [
        "--data.classes_file",
        "some.txt",
        "--data.limit_per_class",
        "4",
    ];
    for data in ["idx:mnist", "cifar100:c100", "tar:my shards"] {
        let ran = run_in(path, &[&train_for("1", data, "run")[..], &chosen].concat());
        assert_eq!(ran.code, Some(0), "{data}: {}", ran.stderr);
        assert!(ran.stderr.contains("16 images"), "{data}: {}", ran.stderr);
        fs::remove_dir_all(path.join("run")).unwrap();
    }
    fs::remove_file(path.join("mnist/train-labels-idx1-ubyte")).unwrap();
    run_in(
        path,
        &[&train_for("1", "idx:mnist", "run")[..], &chosen].concat(),
    )
    .failed_with_notes(1, &["data.classes_file", "idx:mnist has no labels"]);
    fs::write(path.join("some.txt"), "7\n8\n").unwrap();
    run_in(
        path,
        &[&train_for("1", "tar:my shards", "run")[..], &chosen].concat(),
    )
    .failed_with_notes(1, &["some.txt", "not in the data: 8"]);
    assert!(!path.join("run/checkpoints").exists());
}

#[test]
fn damaged_and_missing_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    write_all(path);
    let cut = |name: &str, bytes: usize| {
        let whole = fs::read(path.join(name)).unwrap();
        fs::write(path.join(name), &whole[..whole.len() - bytes]).unwrap();
    };
    cut("mnist/train-images-idx3-ubyte", 1);
    cut("mnist/t10k-labels-idx1-ubyte", 1);
    cut("c100/cifar-100-binary/train.bin", 7);
    fs::create_dir(path.join("cut")).unwrap();
    fs::copy(path.join("my shards/s-09.tar"), path.join("cut/a.tar")).unwrap();
    // Behind its first member are the header and part of the second.
    let whole = fs::read(path.join("cut/a.tar")).unwrap();
    fs::write(path.join("cut/a.tar"), &whole[..600]).unwrap();
    fs::write(path.join("photos.tgz"), [0x1f, 0x8b, 8, 0, 0, 0]).unwrap();
    fs::write(path.join("a.tar"), "no archive at all".repeat(100)).unwrap();
    let cases: [(&str, &[&str]); 13] = [
        ("idx:mnist", &["train-images-idx3-ubyte", "fewer bytes"]),
        ("idx:mnist:test", &["t10k-labels-idx1-ubyte", "fewer bytes"]),
        (
            "idx:my shards",
            &["my shards holds no IDX images", "train-images-idx3-ubyte"],
        ),
        ("idx:nowhere", &["cannot open nowhere"]),
        ("idx:", &["idx:FOLDER"]),
        ("cifar100:c100", &["train.bin", "whole number of records"]),
        (
            "cifar10:c100",
            &["data_batch_1.bin is missing", "cifar-10-batches-bin"],
        ),
        ("tar:cut", &["a.tar", "ends within 0000.png"]),
        ("tar:mnist", &["mnist holds no .tar files"]),
        ("photos.tgz", &["photos.tgz", "gzip", "plain .tar"]),
        ("a.tar", &["a.tar", "no tar file"]),
        (
            "my shards/s-{10..11}.tar",
            &["cannot open my shards/s-11.tar"],
        ),
        (
            "mnist:data",
            &[
                "mnist is no format",
                "idx:FOLDER",
                "cifar10:FOLDER",
                "shapes",
            ],
        ),
    ];
    for (data, parts) in cases {
        run_in(path, &train_for("1", data, "run")).failed_with_notes(1, parts);
        assert!(!path.join("run/config.toml").exists(), "{data}");
    }
    // A drive of Windows is no format; here it is a folder that does not exist.
    run_in(path, &train_for("1", r"C:\photos", "run"))
        .failed_with_notes(1, &[r"cannot open C:\photos"]);
}

#[test]
fn odd_names_are_folders_like_any_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    for name in [
        "idx",
        "-photos",
        "my photos: 2024",
        "Ümläute 写真",
        "old.tar",
    ] {
        let place = path.join(name);
        fs::create_dir(&place).unwrap();
        let shapes = Shapes::new(16, 0, 20);
        for index in 0..16 {
            let file = place.join(format!("{index}.png"));
            write_png(&file, &shapes.image(index).unwrap()).unwrap();
        }
        let data = format!("./{name}");
        let ran = run_in(path, &train_for("1", &data, "run"));
        assert_eq!(ran.code, Some(0), "{name}: {}", ran.stderr);
        fs::remove_dir_all(path.join("run")).unwrap();
    }
}

#[test]
fn help_names_every_layout() {
    for flag in ["-h", "--help"] {
        let text = super::ran::run(&["train", flag]).succeeded();
        for part in [
            "cifar10:FOLDER",
            "cifar20:FOLDER",
            "idx:FOLDER",
            "tar:FOLDER",
            "shapes[:COUNT]",
        ] {
            assert!(text.contains(part), "no {part} in:\n{text}");
        }
    }
}
