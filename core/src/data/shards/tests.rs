use super::*;
use image::{DynamicImage, ImageFormat};
use std::fs;
use std::io::Cursor;

fn png(side: u32) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    let image = DynamicImage::new_rgb8(side, side);
    image
        .write_to(&mut bytes, ImageFormat::Png)
        .expect("encodes");
    bytes.into_inner()
}

fn write(path: &Path, members: &[(&str, Vec<u8>)]) {
    let mut builder = tar::Builder::new(File::create(path).expect("created"));
    for (name, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder
            .append_data(&mut header, name, &bytes[..])
            .expect("appended");
    }
    builder.finish().expect("finished");
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

fn open(pattern: &Path) -> Result<TarShards> {
    TarShards::open(&pattern.display().to_string(), &DataConfig::default())
}

fn refused(pattern: &Path) -> String {
    open(pattern).err().expect("refused").to_string()
}

#[test]
fn samples_of_several_shards_have_their_class_numbers() {
    let root = folder();
    let class = |text: &str| text.as_bytes().to_vec();
    // Longer than a header has room for.
    let long = format!("{}/0007.png", "x".repeat(150));
    write(
        &root.path().join("s-09.tar"),
        &[
            ("0001.png", png(1)),
            ("0001.cls", class("3")),
            ("0001.json", class("{}")),
            ("0002.cls", class("0\n")),
            ("0002.seg.png", png(2)),
        ],
    );
    write(
        &root.path().join("s-10.tar"),
        &[(&long, png(7)), (&long.replace(".png", ".cls"), class("1"))],
    );
    for pattern in ["s-{09..10}.tar", ""] {
        let source = open(&root.path().join(pattern)).expect("opens");
        let labels: Vec<_> = (0..source.len()).map(|i| source.label(i)).collect();
        assert_eq!(labels, [Some(3), Some(0), Some(1)]);
        assert_eq!(source.classes(), ["0", "1", "2", "3"]);
        for (index, side) in [1, 2, 7].into_iter().enumerate() {
            assert_eq!(source.image(index).expect("an image").width(), side);
        }
        assert!(source.name(1).ends_with("s-09.tar/0002.seg.png"));
    }
    let one = open(&root.path().join("s-10.tar")).expect("opens");
    assert_eq!(one.len(), 1);
}

#[test]
fn folders_are_classes_without_class_numbers() {
    let root = folder();
    let path = root.path().join("a.tar");
    write(
        &path,
        &[
            ("./b/1.png", png(1)),
            ("a/x/2.png", png(2)),
            ("b/notes.txt", vec![1]),
        ],
    );
    let source = open(&path).expect("opens");
    assert_eq!(source.classes(), ["a", "b"]);
    assert_eq!((source.label(0), source.label(1)), (Some(1), Some(0)));
    for unlabelled in [["b/1.png", "2.png"], ["b/1.png", "b/2.png"]] {
        write(&path, &unlabelled.map(|name| (name, png(1))));
        let source = open(&path).expect("opens");
        assert!(source.classes().is_empty() && source.label(0).is_none());
    }
    write(&path, &[("train/1.png", png(1)), ("val/2.png", png(2))]);
    assert!(refused(&path).contains("several parts (train, val)"));
}

#[test]
fn folders_that_all_share_and_hidden_members_are_passed_over() {
    let root = folder();
    let path = root.path().join("a.tar");
    write(
        &path,
        &[
            ("photos/._cat.png", vec![0, 5, 22, 7]),
            ("photos/cats/1.png", png(1)),
            ("photos/cats/._1.png", vec![0, 5, 22, 7]),
            ("photos/cattle/2.png", png(2)),
            (".cache/3.png", png(3)),
        ],
    );
    let source = open(&path).expect("opens");
    assert_eq!(source.classes(), ["cats", "cattle"]);
    assert_eq!((source.len(), source.label(1)), (2, Some(1)));
}

#[test]
fn what_cannot_be_read_is_named() {
    let root = folder();
    let path = root.path().join("a.tar");
    write(
        &path,
        &[("1.png", png(1)), ("1.cls", vec![b'7']), ("2.png", png(1))],
    );
    assert!(refused(&path).contains("a.tar/2.png"));
    write(&path, &[("1.png", png(1)), ("1.cls", b"cat".to_vec())]);
    assert!(refused(&path).contains("\"cat\" is no class number"));
    write(&path, &[("1.png", b"text, not an image".to_vec())]);
    assert!(refused(&path).contains("a.tar/1.png"));
    write(&path, &[("1.txt", b"text".to_vec())]);
    assert!(refused(&path).contains("no images"));
    write(&path, &[("1.png", png(40))]);
    let whole = fs::read(&path).expect("read");
    fs::write(&path, &whole[..560]).expect("written");
    assert!(
        refused(&path).contains("ends within 1.png"),
        "{}",
        refused(&path)
    );
    fs::write(&path, [0x1f, 0x8b, 8, 0]).expect("written");
    assert!(refused(&path).contains("gzip"));
    fs::write(&path, vec![b'x'; 2000]).expect("written");
    assert!(refused(&path).contains("no tar file"), "{}", refused(&path));
    assert!(refused(&root.path().join("b.tar")).contains("b.tar"));
    for wrong in ["{1..x}", "{+1..2}", "{2..1}", "{0..4000000000}"] {
        assert!(
            refused(&root.path().join(wrong)).contains("no range"),
            "{wrong}"
        );
    }
    let long = format!("{{{}1..2}}", "0".repeat(70_000));
    assert!(refused(&root.path().join(long)).contains("no range"));
    assert!(refused(Path::new("")).contains("tar needs its files"));
    assert!(refused(&root.path().join("{01..02}.tar")).contains("01.tar"));
    fs::remove_file(&path).expect("removed");
    assert!(refused(root.path()).contains("no .tar files"));
}

/// A header can claim any size, for any kind of member.
#[test]
fn sizes_that_no_file_has_are_refused() {
    let root = folder();
    let path = root.path().join("a.tar");
    for kind in [
        tar::EntryType::Regular,
        tar::EntryType::Directory,
        tar::EntryType::GNULongName,
        tar::EntryType::XHeader,
    ] {
        for size in [1 << 40, i64::MAX as u64, u64::MAX] {
            let mut header = tar::Header::new_gnu();
            header.set_path("1.png").expect("a name");
            header.set_entry_type(kind);
            header.set_size(size);
            header.set_cksum();
            let mut bytes = header.as_bytes().to_vec();
            bytes.extend(png(1));
            bytes.resize(2048, 0);
            fs::write(&path, bytes).expect("written");
            let message = refused(&path);
            assert!(message.contains("a.tar"), "{kind:?} of {size}: {message}");
        }
    }
}

#[test]
fn sample_names() {
    for (name, expected) in [
        ("a/b.c/0001.seg.png", "a/b.c/0001"),
        ("0001.png", "0001"),
        ("0001", "0001"),
    ] {
        assert_eq!(sample(name), expected);
    }
}
