use super::*;

fn example() -> Metadata {
    let mut config = Config::default();
    config.model.heads = vec![3, 5];
    let mut metadata = Metadata::new(
        &config,
        TrainingSummary {
            epochs: 15,
            steps: 2340,
            samples: 20_000,
            source: Some("cifar10:train".into()),
            loss: Some(2.73),
        },
    );
    metadata.heads[0].names = Some(["cat", "dög", "\"7\""].map(str::to_owned).to_vec());
    metadata
}

fn read(entries: &BTreeMap<String, String>) -> Result<Metadata> {
    Metadata::from_properties(entries.iter().map(|(k, v)| (k.as_str(), v.as_str())))
}

fn refused(change: impl FnOnce(&mut BTreeMap<String, String>)) -> String {
    let mut entries = example().to_properties().expect("the example is possible");
    change(&mut entries);
    read(&entries).expect_err("must be refused").to_string()
}

#[test]
fn entries_round_trip() {
    let metadata = example();
    let entries = metadata.to_properties().expect("the example is possible");
    assert_eq!(entries.len(), 12);
    assert_eq!(entries[FORMAT], "1");
    assert_eq!(read(&entries).expect("own entries"), metadata);
}

#[test]
fn what_older_readers_would_misunderstand_is_format_2() {
    let changes: [fn(&mut Metadata); 4] = [
        |m| m.input = InputKind::Uint8,
        |m| m.input = InputKind::Any,
        |m| m.weights = WeightKind::F16,
        |m| m.heads.clear(),
    ];
    for change in changes {
        let mut metadata = example();
        change(&mut metadata);
        let entries = metadata.to_properties().expect("possible");
        assert_eq!(entries[FORMAT], "2");
        assert_eq!(read(&entries).expect("own entries"), metadata);
    }
    let mut backbone = example();
    backbone.heads.clear();
    backbone.embedding_dim = 0;
    let entries = backbone.to_properties().expect("possible");
    assert!(!entries.contains_key(EMBEDDING_DIM) && !entries.contains_key(DEFAULT_HEAD));
    assert_eq!(read(&entries).expect("own entries"), backbone);
}

#[test]
fn files_of_older_versions_lack_the_newer_keys() {
    let mut entries = example().to_properties().expect("the example is possible");
    for key in [INPUT, WEIGHTS, FEATURE_DIM] {
        entries.remove(key);
    }
    let older = Metadata {
        feature_dim: None,
        ..example()
    };
    assert_eq!(read(&entries).expect("older entries"), older);
}

#[test]
fn what_is_not_known_inside_json_is_ignored() {
    let mut entries = example().to_properties().expect("the example is possible");
    for key in [PREPROCESS, HEADS, TRAINING] {
        let value = entries.get_mut(key).expect("there is one");
        let more = value.replacen('{', "{\"later\":[1,{\"x\":null}],", 1);
        assert_ne!(*value, more, "{key}");
        *value = more;
    }
    assert_eq!(read(&entries).expect("a later version's"), example());
}

#[test]
fn unknown_keys_are_ignored_and_newer_formats_refused() {
    let mut entries = example().to_properties().expect("the example is possible");
    entries.insert("selfcls.later".into(), "anything".into());
    entries.insert("other".into(), "tool".into());
    assert_eq!(read(&entries).expect("extra keys"), example());

    let newer = refused(|e| drop(e.insert(FORMAT.into(), "3".into())));
    assert!(newer.contains("reads up to 2"), "{newer}");
    for bad in ["0", "-1", "one", ""] {
        let text = refused(|e| drop(e.insert(FORMAT.into(), bad.into())));
        assert!(text.contains("not a format version"), "{text}");
    }
}

#[test]
fn every_missing_key_is_named() {
    let keys: Vec<String> = example().to_properties().expect("ok").into_keys().collect();
    let optional = [INPUT, WEIGHTS, FEATURE_DIM];
    for key in keys.into_iter().filter(|key| !optional.contains(&&**key)) {
        let text = refused(|e| drop(e.remove(&key)));
        assert!(text.contains(&key), "{key}: {text}");
    }
}

#[test]
fn impossible_values_are_refused_and_named() {
    for (key, value, said) in [
        (DEFAULT_HEAD, "7", "default_head = 7"),
        (DEFAULT_HEAD, "-1", "selfcls.default_head"),
        (ROW_TEMPERATURE, "0", "row_temperature"),
        (ROW_TEMPERATURE, "NaN", "row_temperature"),
        (EMBEDDING_DIM, "99999999999", "embedding_dim"),
        (HEADS, "[]", "selfcls.heads` is empty"),
        (INPUT, "bytes", "selfcls.input"),
        (WEIGHTS, "f8", "selfcls.weights"),
        (FEATURE_DIM, "0", "feature_dim"),
        (
            HEADS,
            r#"[{"index":0,"classes":2,"names":["a"]}]"#,
            "1 names for 2",
        ),
        (
            HEADS,
            r#"[{"index":0,"classes":2},{"index":0,"classes":2}]"#,
            "ascending",
        ),
        (HEADS, "[", "selfcls.heads"),
        (
            PREPROCESS,
            r#"{"resize":8,"crop":9,"interpolation":"bilinear","mean":[0,0,0],"std":[1,0,1]}"#,
            "resize 8 and crop 9",
        ),
        (PREPROCESS, "{}", "selfcls.preprocess"),
    ] {
        let text = refused(|e| drop(e.insert(key.into(), value.into())));
        assert!(text.contains(said), "{key} = {value}: {text}");
    }
}

#[test]
fn a_loss_that_is_no_number_is_left_out() {
    let mut metadata = example();
    metadata.training.loss = Some(f64::NAN);
    let entries = metadata.to_properties().expect("still writable");
    assert_eq!(read(&entries).expect("readable").training.loss, None);
}

#[test]
fn source_names_keep_folders_private() {
    let name = |source| TrainingSummary::source_name(source);
    for (source, expected) in [
        ("/home/me/private/birds", "birds"),
        ("/home/me/birds/", "birds"),
        ("cifar10:/data/cifar:test", "cifar10:cifar:test"),
        ("shapes:10000", "shapes:10000"),
        ("tar:/data/name-{000..146}.tar", "tar:name-{000..146}.tar"),
        (r"C:\Users\me\birds", "birds"),
        ("../birds", "birds"),
    ] {
        assert_eq!(name(source).as_deref(), Some(expected), "{source}");
    }
    for source in ["", ".", "..", "/"] {
        assert_eq!(name(source), None, "{source}");
    }
}
