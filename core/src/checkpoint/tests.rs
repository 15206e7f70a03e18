use super::*;
use crate::Config;
use crate::config::Precision;
use crate::loss_scale::LossScale;
use crate::weights::Array;

fn snapshot(step: usize, loss: f64) -> Snapshot {
    let array = |seed: f32| Array::new([2, 3], (0..6).map(|i| seed + i as f32).collect());
    Snapshot {
        manifest: Manifest {
            format: FORMAT,
            version: "0".into(),
            position: Position {
                step,
                steps_per_epoch: 10,
                epoch_loss_sum: 0.0,
                epoch_loss: Some(loss),
                best_loss: None,
            },
            samples: 100,
            optimizer_steps: BTreeMap::new(),
            loss_scale: LossScale::for_precision(Precision::Fp16),
            queue: None,
            files: BTreeMap::new(),
            config: Config::default(),
        },
        model: StateDict::from([("a".into(), array(step as f32)), ("b.c".into(), array(0.5))]),
        optimizer: OptimizerState {
            moments: StateDict::from([("a#0".into(), array(-1.0))]),
            steps: BTreeMap::from([("a".into(), step)]),
        },
        queue: Some(QueueState {
            embeddings: vec![1.0, -0.0, f32::MIN_POSITIVE, 3.5],
            indices: vec![7, -1],
            labels: vec![i64::MAX, 0],
            next: 1,
            full: true,
        }),
    }
}

#[test]
fn what_is_saved_comes_back() {
    let run = tempfile::tempdir().expect("a folder");
    let saved = snapshot(10, 1.0);
    let path = save(run.path(), &saved).expect("saves");
    let mut loaded = load(&path).expect("loads");
    assert_eq!(loaded.manifest.files.len(), 3);
    loaded.manifest.files.clear();
    loaded.manifest.optimizer_steps.clear();
    loaded.manifest.queue = None;
    assert_eq!(loaded, saved);
    assert_eq!(find(run.path()).expect("finds"), path);
    assert_eq!(find(&path).expect("finds"), path);
}

#[test]
fn the_newest_two_the_best_and_milestones_stay() {
    let run = tempfile::tempdir().expect("a folder");
    // 25 epochs of 10 steps make a milestone at step 250 (milestone_epochs = 25).
    for (step, loss) in [
        (10, 3.0),
        (20, 1.0),
        (30, 2.0),
        (250, 2.5),
        (260, 2.0),
        (265, 0.1),
        (270, 2.0),
    ] {
        save(run.path(), &snapshot(step, loss)).expect("saves");
    }
    let kept: Vec<String> = list(run.path())
        .expect("lists")
        .iter()
        .filter_map(|path| Some(path.file_name()?.to_str()?.to_string()))
        .collect();
    // 265 lies inside an epoch: its loss is that of the epoch before, so it cannot be the best.
    assert_eq!(
        kept,
        [
            "step-00000020",
            "step-00000250",
            "step-00000265",
            "step-00000270"
        ]
    );
    let best = format!("{}@best", run.path().display());
    let found = find(Path::new(&best)).expect("finds");
    assert!(found.ends_with("step-00000020"), "{}", found.display());
}

#[test]
fn the_best_has_a_name() {
    let run = tempfile::tempdir().expect("a folder");
    let best = || {
        let path = format!("{}@best", run.path().display());
        find(Path::new(&path))
    };
    let message = best().expect_err("empty").to_string();
    assert!(message.contains("without @best"), "{message}");
    // A training that came here had been better than its first epoch here.
    let mut continued = snapshot(10, 2.0);
    continued.manifest.position.best_loss = Some(1.5);
    save(run.path(), &continued).expect("saves");
    best().expect_err("1.5 was lower");
    let mut better = snapshot(20, 1.25);
    better.manifest.position.best_loss = Some(1.5);
    let path = save(run.path(), &better).expect("saves");
    assert_eq!(best().expect("finds"), path);
    let message = find(Path::new("nowhere@best")).expect_err("no run");
    assert!(message.to_string().contains("nowhere is no run directory"));
    // A folder may be called so.
    let named = run.path().join("x@best");
    let path = save(&named, &snapshot(10, 1.0)).expect("saves");
    assert_eq!(find(&named).expect("finds"), path);
}

#[test]
fn an_unfinished_write_is_invisible_and_replaced() {
    let run = tempfile::tempdir().expect("a folder");
    let partial = run.path().join("checkpoints/.step-00000010.partial");
    fs::create_dir_all(&partial).expect("creates");
    fs::write(partial.join(MODEL), "half").expect("writes");
    assert!(list(run.path()).expect("lists").is_empty());
    assert!(find(run.path()).is_err());
    let path = save(run.path(), &snapshot(10, 1.0)).expect("saves over the remains");
    assert!(load(&path).is_ok() && !partial.exists());
}

#[test]
fn damage_is_named() {
    let run = tempfile::tempdir().expect("a folder");
    let path = save(run.path(), &snapshot(10, 1.0)).expect("saves");
    let file = path.join(MODEL);
    let good = fs::read(&file).expect("reads");
    let mut flipped = good.clone();
    if let Some(byte) = flipped.last_mut() {
        *byte ^= 1;
    }
    for (bytes, expected) in [(&flipped[..], "SHA-256"), (&good[..10], "bytes long")] {
        fs::write(&file, bytes).expect("writes");
        let message = load(&path).expect_err("refused").to_string();
        assert!(
            message.contains(MODEL) && message.contains(expected),
            "{message}"
        );
    }
    fs::remove_file(&file).expect("removes");
    assert!(
        load(&path)
            .expect_err("refused")
            .to_string()
            .contains(MODEL)
    );

    let manifest = path.join(MANIFEST);
    let text = fs::read_to_string(&manifest).expect("reads");
    fs::write(&manifest, text.replace("\"format\": 1", "\"format\": 99")).expect("writes");
    let message = load(&path).expect_err("refused").to_string();
    assert!(
        message.contains("format 99") && message.contains("update"),
        "{message}"
    );
}
