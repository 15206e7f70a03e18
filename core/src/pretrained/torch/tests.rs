use super::*;
use std::fs;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/pretrained")
        .join(name)
}

/// As `values` of the fixtures' `make.py`.
fn values(name: &str, count: usize) -> Vec<f32> {
    let start: usize = name.bytes().map(usize::from).sum();
    (0..count)
        .map(|i| ((start + 31 * i) % 97) as f32 / 64.0)
        .collect()
}

fn tensor(file: &TorchFile, name: &str) -> Result<Option<TensorRef>, String> {
    TensorRef::of(file.root().get(name).expect("in the fixture"))
}

/// Views, element types and parameters of both containers, against values that need no PyTorch.
#[test]
fn tensors_of_both_containers() {
    for name in ["tensors.pth", "tensors_old.pth"] {
        let file = TorchFile::open(&fixture(name)).expect("opens");
        let read = |name: &str| {
            let tensor = tensor(&file, name).expect("readable").expect("a tensor");
            file.array(name, &tensor).expect("reads")
        };
        let base = read("base");
        assert_eq!(base.shape, [3, 4, 5]);
        assert_eq!(base.data, values("base", 60));
        let at = |i: usize, j: usize, k: usize| base.data[(i * 4 + j) * 5 + k];

        let transposed = read("transposed");
        assert_eq!(transposed.shape, [5, 3, 4]);
        let expected: Vec<f32> = (0..60).map(|n| at(n / 4 % 3, n % 4, n / 12)).collect();
        assert_eq!(transposed.data, expected);
        let sliced = read("sliced");
        assert_eq!(sliced.shape, [2, 2, 3]);
        let expected: Vec<f32> = (0..12)
            .map(|n| at(1 + n / 6, n / 3 % 2 * 2, 1 + n % 3))
            .collect();
        assert_eq!(sliced.data, expected);
        assert_eq!(read("column").data, [at(0, 1, 2), at(1, 1, 2), at(2, 1, 2)]);
        assert_eq!(read("scalar"), Array::new([], vec![at(0, 0, 0)]));
        assert_eq!(read("empty"), Array::new([0, 3], vec![]));
        for name in ["half", "bfloat", "double", "parameter"] {
            assert_eq!(read(name), Array::new([2, 3], values(name, 6)), "{name}");
        }

        // One element seven times: harmless, for the storage has more.
        assert_eq!(read("expanded").data, [at(0, 0, 0); 7]);
        for (name, expected) in [
            ("complex", "ComplexFloatStorage"),
            ("sparse", "_rebuild_sparse_tensor"),
        ] {
            let message = tensor(&file, name).expect_err("refused");
            assert!(message.contains(expected), "{message}");
        }
    }
}

/// What a tensor's numbers must not be.
#[test]
fn views_beyond_their_storage_are_refused() {
    let good = TensorRef {
        storage: "0".into(),
        dtype: Dtype::F32,
        length: 12,
        offset: 0,
        shape: vec![3, 4],
        strides: vec![4, 1],
    };
    good.check().expect("fits exactly");
    for (bad, expected) in [
        (
            TensorRef {
                offset: 1,
                ..good.clone()
            },
            "reaches element 12",
        ),
        (
            TensorRef {
                strides: vec![5, 1],
                ..good.clone()
            },
            "reaches element 13",
        ),
        (
            TensorRef {
                strides: vec![usize::MAX, 1],
                ..good.clone()
            },
            "beyond all memory",
        ),
        (
            TensorRef {
                shape: vec![1 << 40, 1 << 40],
                strides: vec![0, 0],
                ..good.clone()
            },
            "beyond all memory",
        ),
        (
            TensorRef {
                shape: vec![4, 4],
                strides: vec![0, 1],
                ..good.clone()
            },
            "repeats",
        ),
        (
            TensorRef {
                shape: vec![1; 17],
                strides: vec![1; 17],
                ..good.clone()
            },
            "17 axes",
        ),
    ] {
        let message = bad.check().expect_err("refused");
        assert!(message.contains(expected), "{message}");
    }
    // Nothing is read of an empty tensor, wherever it claims to be.
    TensorRef {
        shape: vec![0, 4],
        offset: 99,
        ..good
    }
    .check()
    .expect("empty");
}

/// Every prefix of a file and every file with one byte changed is either read or refused by name; none
/// makes the reader panic.
#[test]
fn damaged_files_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("damaged.pth");
    let attempt = |bytes: &[u8]| -> Result<(), Error> {
        fs::write(&path, bytes).expect("writes");
        let file = TorchFile::open(&path)?;
        for (name, value) in file.root().entries().unwrap_or_default() {
            if let (Some(name), Ok(Some(tensor))) = (name.text(), TensorRef::of(value)) {
                // Numbers may differ now; only reading them must be safe.
                let _ = file.array(name, &tensor);
            }
        }
        Ok(())
    };
    for name in ["tensors.pth", "tensors_old.pth"] {
        let bytes = fs::read(fixture(name)).expect("a fixture");
        attempt(&bytes).expect("whole");
        for length in (0..bytes.len()).step_by(97) {
            let message = attempt(&bytes[..length])
                .expect_err("cut short")
                .to_string();
            assert!(message.contains("damaged.pth"), "{message}");
        }
        for place in (0..bytes.len()).step_by(13) {
            let mut changed = bytes.clone();
            changed[place] ^= 0x55;
            let _ = attempt(&changed);
        }
    }
    let mut cut = fs::read(fixture("tensors_old.pth")).expect("a fixture");
    cut.truncate(cut.len() - 1);
    let message = attempt(&cut).expect_err("refused").to_string();
    assert!(message.contains("cut short"), "{message}");
    let message = attempt(b"<html>404</html>")
        .expect_err("refused")
        .to_string();
    assert!(message.contains("torch.save"), "{message}");
}

/// A storage whose bytes changed on the way fails its checksum.
#[test]
fn changed_weights_are_noticed() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("changed.pth");
    let array = Array::new([3], vec![1.0, 2.0, 3.0]);
    let mut bytes = torch_file(&[("x".into(), Content::Floats(&array))], None).expect("written");
    let place = bytes
        .windows(4)
        .position(|window| window == 3.0_f32.to_le_bytes())
        .expect("the value");
    bytes[place] ^= 1;
    fs::write(&path, bytes).expect("writes");
    let file = TorchFile::open(&path).expect("opens");
    let tensor = tensor(&file, "x").expect("readable").expect("a tensor");
    let message = file.array("x", &tensor).expect_err("refused").to_string();
    assert!(
        message.contains("damaged") && message.contains("x"),
        "{message}"
    );
}

#[test]
fn what_is_written_is_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("written.pth");
    let arrays = [
        ("matrix", Array::new([2, 3], values("matrix", 6))),
        ("scalar", Array::new([], vec![0.5])),
        ("empty", Array::new([0, 2], vec![])),
        ("long", Array::new([300], values("long", 300))),
    ];
    let mut entries: Vec<(String, Content<'_>)> = arrays
        .iter()
        .map(|(name, array)| (name.to_string(), Content::Floats(array)))
        .collect();
    entries.push(("count".into(), Content::Integer(-7)));
    fs::write(&path, torch_file(&entries, None).expect("written")).expect("writes");
    let file = TorchFile::open(&path).expect("opens");
    for (name, expected) in &arrays {
        let tensor = tensor(&file, name).expect("readable").expect("a tensor");
        assert_eq!(file.array(name, &tensor).expect("reads"), *expected);
    }
    let count = tensor(&file, "count").expect("readable").expect("a tensor");
    assert_eq!(file.integers("count", &count).expect("reads"), [-7]);
    assert!(
        file.array("count", &count)
            .expect_err("refused")
            .to_string()
            .contains("int64")
    );
    // Storages begin at multiples of 64, for PyTorch's memory mapping.
    let bytes = fs::read(&path).expect("reads");
    let first = values("matrix", 6)[1].to_le_bytes();
    let place = bytes
        .windows(4)
        .position(|window| window == first)
        .expect("the value");
    assert_eq!((place - 4) % 64, 0);
}
