use super::*;

fn key() -> Key {
    Key {
        model: "m".into(),
        data: "d".into(),
        preprocess: "p".into(),
        features: "backbone".into(),
        share: None,
    }
}

fn rest(labelled: bool) -> Extracted {
    Extracted {
        labels: labelled.then(|| vec![2, 0, 1]),
        assignments: vec![vec![5, 0, 5], vec![1, 1, 0]],
        confidences: vec![vec![0.5, 0.25, 1.0], vec![0.75; 3]],
        features: FeatureTable::default(),
    }
}

fn write(path: &Path, labelled: bool, precision: Precision) {
    let mut writer = FileWriter::new(path, &key(), [3, 2, 2], labelled, precision).expect("begun");
    writer.append(&[0.0, 0.5, 1.0, 1.5]).expect("written");
    writer.append(&[2.0, 2.5]).expect("written");
    writer.finish(&rest(labelled)).expect("finished");
}

#[test]
fn what_was_written_is_read_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("features.safetensors");
    for (labelled, precision) in [(true, Precision::Single), (false, Precision::Half)] {
        write(&path, labelled, precision);
        // Any safetensors reader can read it.
        let bytes = std::fs::read(&path).expect("bytes");
        safetensors::SafeTensors::deserialize(&bytes).expect("safetensors");
        let found = read(&path)
            .expect("read")
            .checked(&path, &key(), false)
            .expect("fresh");
        let wanted = rest(labelled);
        assert_eq!(found.labels, wanted.labels);
        assert_eq!(
            (&found.assignments, &found.confidences),
            (&wanted.assignments, &wanted.confidences)
        );
        assert_eq!((found.features.len(), found.features.width()), (3, 2));
        assert_eq!(
            found.features.read(1..3).expect("rows"),
            [1.0, 1.5, 2.0, 2.5]
        );
    }
}

#[test]
fn a_stale_file_is_refused_by_what_differs() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("features.safetensors");
    write(&path, true, Precision::Single);
    type Change = fn(&mut Key);
    let checked = |change: Change, any| {
        let mut key = key();
        change(&mut key);
        read(&path).expect("read").checked(&path, &key, any)
    };
    let cases: [(Change, &str); 4] = [
        (|key| key.model.push('x'), "another model"),
        (|key| key.data.push('x'), "other images"),
        (|key| key.preprocess.push('x'), "other preprocessing"),
        (|key| key.features = "head".into(), "other features"),
    ];
    for (change, expected) in cases {
        let error = checked(change, false).expect_err("stale").to_string();
        assert!(
            error.contains(expected) && error.contains("features.safetensors is stale"),
            "{error}"
        );
    }
    checked(|key| key.features = "head".into(), true).expect("features do not matter");
}

#[test]
fn damaged_and_foreign_files_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("features.safetensors");
    write(&path, true, Precision::Single);
    let good = std::fs::read(&path).expect("bytes");
    let mut foreign = good.clone();
    let place = good
        .windows(8)
        .position(|w| w == b"selfcls.")
        .expect("the key");
    foreign[place] = b'S';
    for bytes in [
        &good[..good.len() - 1],
        &good[..20],
        &[],
        b"12345678901234567890",
        &foreign,
    ] {
        std::fs::write(&path, bytes).expect("written");
        let error = read(&path).expect_err("refused").to_string();
        assert!(error.contains("features.safetensors"), "{error}");
    }
    // Fewer values than promised: no file appears.
    let short = folder.path().join("short");
    let mut writer =
        FileWriter::new(&short, &key(), [3, 2, 2], true, Precision::Single).expect("begun");
    writer.append(&[0.0; 4]).expect("written");
    let error = writer.finish(&rest(true)).expect_err("refused").to_string();
    assert!(error.contains("4 of 6") && !short.exists(), "{error}");
}
