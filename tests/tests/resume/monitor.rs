//! What looks at a run from time to time.

use super::{SAMPLES, config, result, train};
use selfcls_backends::{Selection, open};
use selfcls_core::config::OptimKind;
use selfcls_core::data::Shapes;
use selfcls_core::runtime::Runtime;
use selfcls_core::train::{Event, run};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Every epoch, some, on other images, on images without labels: the training is the same to the bit.
#[test]
fn the_monitor_looks_and_changes_nothing() {
    let photos = tempfile::tempdir().expect("a folder");
    for index in 0..12 {
        use selfcls_core::data::Source;
        let image = Shapes::new(12, 3, 16).image(index).expect("drawn");
        let path = photos.path().join(format!("{index}.png"));
        selfcls_core::picture::write_png(&path, &image).expect("written");
    }
    let photos = photos.path().display().to_string();
    let without = {
        let mut config = config(OptimKind::AdamW);
        config.monitor.every_epochs = 0;
        let dir = tempfile::tempdir().expect("a folder");
        assert!(train(dir.path(), &config, usize::MAX).complete);
        let (snapshot, journal) = result(dir.path());
        assert!(journal.iter().all(|line| line["kind"] != "monitor"));
        snapshot
    };
    let cases = [
        ("", 1, 1000, vec![1, 2, 3], SAMPLES),
        ("shapes:40:1", 2, 20, vec![2], 20),
        (photos.as_str(), 3, 1000, vec![3], 12),
    ];
    for (data, every, samples, epochs, measured) in cases {
        let mut config = config(OptimKind::AdamW);
        config.monitor.data = data.into();
        config.monitor.every_epochs = every;
        config.monitor.samples = samples;
        config.eval.batch_size = 7;
        let dir = tempfile::tempdir().expect("a folder");
        // Stopped at the end of an epoch that is measured, and in the middle of one.
        for stop in [5, 16] {
            train(dir.path(), &config, stop);
        }
        assert!(train(dir.path(), &config, usize::MAX).complete);
        let (mut snapshot, journal) = result(dir.path());
        snapshot.manifest.config = without.manifest.config.clone();
        assert!(
            snapshot == without,
            "monitoring {data:?} changed the training"
        );
        let rows: Vec<&serde_json::Value> = journal
            .iter()
            .filter(|line| line["kind"] == "monitor")
            .collect();
        let found: Vec<u64> = rows
            .iter()
            .map(|row| row["epoch"].as_u64().expect("a number"))
            .collect();
        assert_eq!(found, epochs, "{data}");
        for row in rows {
            assert_eq!(row["samples"], measured);
            let heads = row["heads"].as_array().expect("heads");
            assert_eq!(heads.len(), 2);
            let labelled = measured != 12;
            for head in heads {
                assert!(head["effective"].as_f64().expect("a number") >= 1.0);
                assert_eq!(head["nmi"].is_number(), labelled, "{head}");
                assert_eq!(head["acc"].is_number(), labelled, "{head}");
            }
            assert_eq!(row["knn"].is_number(), labelled);
            let agreement = row["agreement"].as_f64().expect("two heads");
            assert!((0.0..=1.0).contains(&agreement));
        }
        let report = std::fs::read_to_string(dir.path().join("report.html")).expect("a report");
        assert!(report.contains(&format!("{measured} images")));
    }
}

/// Images that are not there are found before the first step; a monitor that fails later is a warning.
#[test]
fn a_monitor_that_cannot_look_does_not_end_the_training() {
    let photos = tempfile::tempdir().expect("a folder");
    for index in 0..2 {
        use selfcls_core::data::Source;
        let image = Shapes::new(2, 3, 16).image(index).expect("drawn");
        let path = photos.path().join(format!("{index}.png"));
        selfcls_core::picture::write_png(&path, &image).expect("written");
    }
    let mut config = config(OptimKind::AdamW);
    config.monitor.data = photos.path().display().to_string();
    config.data.cache_mib = 0;
    let selection: Selection = "flex".parse().expect("a backend");
    let runtime = Runtime::new(open(&selection).expect("flex runs everywhere").device);
    let dir = tempfile::tempdir().expect("a folder");
    let mut warnings = Vec::new();
    let mut listen = |event: &Event| match event {
        Event::Start { .. } => std::fs::remove_file(photos.path().join("1.png")).expect("removed"),
        Event::Warning(text) => warnings.push(text.clone()),
        _ => {}
    };
    let source = Arc::new(Shapes::new(SAMPLES, 0, 20));
    let never = AtomicBool::new(false);
    let outcome = run(
        dir.path(),
        config.clone(),
        source.clone(),
        runtime.clone(),
        &mut listen,
        &never,
    );
    assert!(outcome.expect("trains").complete);
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    assert!(
        warnings[0].contains("monitor") && warnings[0].contains("1.png"),
        "{warnings:?}"
    );
    config.monitor.data = "/nowhere/at/all".into();
    let other = tempfile::tempdir().expect("a folder");
    let error = run(other.path(), config, source, runtime, &mut |_| {}, &never);
    let error = error.expect_err("refused").to_string();
    assert!(error.contains("/nowhere/at/all"), "{error}");
}

/// Whoever asks to stop at the end of an epoch gets a checkpoint; the look at the model waits for the next start.
#[test]
fn a_stop_does_not_wait_for_the_monitor() {
    let mut config = config(OptimKind::AdamW);
    config.monitor.every_epochs = 1;
    config.monitor.samples = 20;
    let dir = tempfile::tempdir().expect("a folder");
    let looks = || {
        let (_, journal) = result(dir.path());
        let rows = journal.iter().filter(|line| line["kind"] == "monitor");
        rows.map(|row| row["step"].as_u64().expect("a number"))
            .collect::<Vec<_>>()
    };
    assert_eq!(train(dir.path(), &config, 16).step, 16);
    assert_eq!(looks(), [8]);
    train(dir.path(), &config, 17);
    assert_eq!(looks(), [8, 16]);
    // Complete: nobody would look at it later.
    train(dir.path(), &config, 24);
    assert_eq!(looks(), [8, 16, 24]);
}
