//! What is no file of ours at all, or only a part of one.

use super::{SIDE, engine, open, valid};
use crate::support;
use crate::support::model::{hash, hashed_images};
use selfcls_export::{Classifier, Options};

#[test]
fn what_is_not_onnx() {
    open(valid()).expect("the unchanged file opens");
    let jpeg = [0xff, 0xd8, 0xff, 0xe0, 0, 0x10, b'J', b'F', b'I', b'F', 0];
    let noise: Vec<u8> = (0..5000)
        .map(|i| (hash(7, i) * 256.0) as i32 as u8)
        .collect();
    for bytes in [
        &b""[..],
        b"import onnx\n",
        &jpeg,
        &[0; 100],
        &[0xff; 100],
        &noise,
    ] {
        let message = open(bytes.to_vec()).expect_err("must be refused");
        assert!(message.starts_with("the model: not a"), "{message}");
    }
}

#[test]
fn every_truncation() {
    let bytes = valid();
    let whole = open(bytes.clone()).expect("the unchanged file opens");
    for length in 0..bytes.len() {
        // Without its last entry, which need not be there, it is a file that says the same.
        if let Ok(classifier) = open(bytes[..length].to_vec()) {
            assert_eq!(classifier.metadata(), whole.metadata(), "{length} bytes");
            assert!(length > bytes.len() - 40, "{length} bytes");
        }
    }
}

/// Damaged files may still be valid (a weight changed, a name); then they must run.
fn damage(bytes: &[u8], images: &[f32], rounds: u64) {
    let mut opened = 0;
    for round in 0..rounds {
        let mut damaged = bytes.to_vec();
        let draw = |i: u64| (hash(round, i) + 0.5) as f64;
        let hits = 1 + (draw(0) * 3.0) as u64;
        for hit in 0..hits {
            let at = (draw(3 * hit + 1) * bytes.len() as f64) as usize;
            damaged[at] = match (draw(3 * hit + 2) * 3.0) as u32 {
                0 => damaged[at] ^ 1 << (draw(3 * hit + 3) * 8.0) as u32,
                1 => 0xff,
                _ => (draw(3 * hit + 3) * 256.0) as u8,
            };
        }
        if let Ok(classifier) = open(damaged) {
            opened += 1;
            // An answer or an error, never a crash.
            let _ = classifier.run(images);
        }
    }
    let most = rounds - rounds / 100;
    assert!(
        (1..most).contains(&opened),
        "{opened} of {rounds} were opened"
    );
}

#[test]
fn random_damage() {
    damage(&valid(), &hashed_images(0, 2, SIDE), 1500);
}

#[test]
fn random_damage_of_a_quantised_file() {
    for name in ["resnet.onnx", "vit.onnx"] {
        let bytes = support::quantised::bytes(name);
        damage(&bytes, &hashed_images(0, 1, 16), 150);
    }
}

/// Engines get such a file without its first operations.
#[test]
fn random_damage_of_a_file_that_resizes() {
    damage(&super::that_resizes(), &hashed_images(0, 2, SIDE), 700);
}

#[test]
fn too_large() {
    let options = Options {
        max_file_bytes: 1000,
        ..support::options(&engine())
    };
    let message = Classifier::from_bytes(valid(), &options)
        .expect_err("refused")
        .to_string();
    assert!(message.contains("larger than 1000 bytes"), "{message}");

    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("large.onnx");
    std::fs::write(&path, valid()).expect("written");
    let message = Classifier::open(&path, &options)
        .expect_err("refused")
        .to_string();
    assert!(message.contains("large.onnx: larger than"), "{message}");
    for missing in [folder.path(), &folder.path().join("none.onnx")] {
        let message = Classifier::open(missing, &options)
            .expect_err("refused")
            .to_string();
        assert!(message.contains("cannot read"), "{message}");
    }
}

#[test]
#[cfg(unix)]
fn pipes_and_devices_are_not_waited_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let pipe = folder.path().join("model.onnx");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.expect("mkfifo runs").success());
    let classifier = Classifier::open("../examples/shapes.onnx", &Options::default());
    let classifier = classifier.expect("opens");
    for path in [pipe.as_path(), std::path::Path::new("/dev/zero")] {
        for refused in [
            Classifier::open(path, &Options::default()).err(),
            classifier.classify_file(path).err(),
        ] {
            let message = refused.expect("refused").to_string();
            assert!(message.contains("no plain file"), "{message}");
        }
    }
}
