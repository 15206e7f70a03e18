//! Passes over small data sets.

use super::*;
use crate::config::Config;
use crate::data::Shapes;

#[test]
fn the_strongest_class_and_its_probability() {
    let (class, probability) = strongest(&[0.0, 0.2, 0.2, -1.0], 0.1);
    assert_eq!(class, 1);
    let expected = 1.0 / (2.0 + (-2.0_f32).exp() + (-12.0_f32).exp());
    assert!((probability - expected).abs() < 1e-6);
    let (class, probability) = strongest(&[1000.0, -1000.0], 0.001);
    assert_eq!((class, probability), (0, 1.0));
}

/// Two heads whose class is the image's number modulo 3 and 2; features are the number and its half.
struct Counting {
    seen: usize,
    broken_at: Option<usize>,
}

impl Network for Counting {
    fn forward(&mut self, _: Vec<f32>, count: usize) -> Result<Forward> {
        let numbers = self.seen..self.seen + count;
        self.seen += count;
        let hot = |classes: usize| {
            let rows = numbers.clone().map(move |n| n % classes);
            rows.flat_map(move |hot| {
                (0..classes).map(move |class| f32::from(u8::from(class == hot)))
            })
            .collect::<Vec<f32>>()
        };
        let mut logits = vec![hot(3), hot(2)];
        if let Some(at) = self.broken_at.filter(|at| numbers.contains(at)) {
            logits[1][(at - numbers.start) * 2] = f32::NAN;
        }
        let features = numbers.flat_map(|n| [n as f32, n as f32 / 2.0]).collect();
        Ok(Forward { logits, features })
    }
}

fn extractor(keep: Keep) -> Extractor {
    let mut config = Config::default();
    config.views.global_size = 8;
    Extractor {
        preprocess: config.preprocess(),
        batch_size: 4,
        workers: 1,
        temperature: 0.1,
        keep,
    }
}

fn run(extractor: &Extractor, broken_at: Option<usize>) -> Result<Extracted> {
    let source: Arc<dyn Source> = Arc::new(Shapes::new(10, 0, 8));
    let mut network = Counting { seen: 0, broken_at };
    let mut done = Vec::new();
    let extracted = extractor.run(&source, &mut network, &mut |count| done.push(count))?;
    assert_eq!(done, [4, 8, 10]);
    Ok(extracted)
}

#[test]
fn all_batches_are_put_together() {
    for keep in [Keep::Nothing, Keep::Memory(Precision::Single)] {
        let kept = keep != Keep::Nothing;
        let all = run(&extractor(keep), None).expect("runs");
        assert_eq!(all.assignments[0], [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]);
        assert_eq!(all.assignments[1].len(), 10);
        assert_eq!(all.labels.as_ref().map(Vec::len), Some(10));
        assert_eq!(all.features.len(), if kept { 10 } else { 0 });
        if kept {
            assert_eq!(all.features.read(9..10).expect("reads"), [9.0, 4.5]);
        }
    }
}

#[test]
fn a_cache_is_made_once_and_used_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let cache = |model: &str, recompute| {
        let source = Shapes::new(10, 0, 8);
        let plain = extractor(Keep::Nothing);
        let key = Key::new(model, &source, &plain.preprocess, plain.temperature, "head");
        extractor(Keep::Cache {
            path: folder.path().join("features.safetensors"),
            key,
            precision: Precision::Single,
            recompute,
            any_features: false,
        })
    };
    let first = cache("a", false);
    assert!(first.cached(10).expect("nothing yet").is_none());
    let made = run(&first, None).expect("runs");
    let found = first.cached(10).expect("fresh").expect("a cache");
    assert_eq!(found.assignments, made.assignments);
    assert_eq!(found.confidences, made.confidences);
    assert_eq!(found.labels, made.labels);
    let all = |extracted: Extracted| extracted.features.into_values().expect("reads");
    assert_eq!(all(found), all(made));
    let error = cache("b", false).cached(10).expect_err("stale").to_string();
    assert!(error.contains("another model"), "{error}");
    assert!(
        cache("b", true)
            .cached(10)
            .expect("not looked at")
            .is_none()
    );
}

/// The class is the image's number among all, modulo 3, whoever runs it.
struct Named;

impl Network for Named {
    fn forward(&mut self, images: Vec<f32>, count: usize) -> Result<Forward> {
        let rows = images.chunks_exact(images.len() / count);
        let sums: Vec<f32> = rows.map(|row| row.iter().sum()).collect();
        Ok(Forward {
            logits: vec![sums.iter().flat_map(|&sum| [sum, 0.0]).collect()],
            // Depends on the batch, as kernels' roundings do.
            features: sums.iter().map(|sum| sum + sums[0] / 8.0).collect(),
        })
    }
}

#[test]
fn shares_make_up_the_whole_bit_for_bit() {
    let source: Arc<dyn Source> = Arc::new(Shapes::new(23, 0, 8));
    let pass = |folder: &Path, precision, share: Option<(usize, usize)>| {
        let mut key = {
            let plain = extractor(Keep::Nothing);
            Key::new("a", &*source, &plain.preprocess, plain.temperature, "head")
        };
        let mut path = folder.join("features.safetensors");
        if let Some((index, count)) = share {
            let share = Share {
                index,
                count,
                batch: 4,
            };
            path = share.path(&path);
            key.share = Some(share);
        }
        extractor(Keep::Cache {
            path,
            key,
            precision,
            recompute: false,
            any_features: false,
        })
    };
    let make = |extractor: &Extractor| {
        extractor
            .run(&source, &mut Named, &mut |_| ())
            .expect("runs");
    };
    for precision in [Precision::Single, Precision::Half] {
        let alone = tempfile::tempdir().expect("a folder");
        make(&pass(alone.path(), precision, None));
        let shared = tempfile::tempdir().expect("a folder");
        let whole = pass(shared.path(), precision, None);
        for index in 0..4 {
            let share = pass(shared.path(), precision, Some((index, 4)));
            assert!(share.cached(23).expect("nothing yet").is_none());
            if index > 0 {
                let message = whole.cached(23).expect_err("incomplete").to_string();
                assert!(message.contains("missing: "), "{message}");
            }
            make(&share);
        }
        let joined = whole.cached(23).expect("joined").expect("all are there");
        assert_eq!(joined.features.len(), 23);
        let bytes = |folder: &Path| std::fs::read(folder.join("features.safetensors"));
        assert_eq!(
            bytes(shared.path()).expect("written"),
            bytes(alone.path()).expect("written")
        );
    }
}

#[test]
fn shares_that_do_not_fit_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let source: Arc<dyn Source> = Arc::new(Shapes::new(10, 0, 8));
    let whole = folder.path().join("features.safetensors");
    let pass = |model: &str, share: Option<Share>| {
        let plain = extractor(Keep::Nothing);
        let mut key = Key::new(model, &*source, &plain.preprocess, 0.1, "head");
        key.share = share;
        extractor(Keep::Cache {
            path: share.map_or(whole.clone(), |share| share.path(&whole)),
            key,
            precision: Precision::Single,
            recompute: false,
            any_features: false,
        })
    };
    let share = |index, count| {
        Some(Share {
            index,
            count,
            batch: 4,
        })
    };
    let make = |model: &str, share| {
        let pass = pass(model, share);
        pass.run(&source, &mut Named, &mut |_| ()).expect("runs")
    };
    let message = |model: &str| {
        let found = pass(model, None).cached(10);
        found.expect_err("refused").to_string()
    };
    make("a", share(0, 2));
    make("b", share(1, 2));
    assert!(message("a").contains("another model"), "{}", message("a"));
    make("a", share(1, 2));
    make("a", share(1, 3));
    let divisions = "into 2 and into 3";
    assert!(message("a").contains(divisions), "{}", message("a"));
    std::fs::remove_file(share(1, 3).expect("one").path(&whole)).expect("removed");
    // One that has another's name.
    let paths = [0, 1].map(|index| share(index, 2).expect("one").path(&whole));
    std::fs::copy(&paths[0], &paths[1]).expect("copied");
    assert!(message("a").contains("another share"), "{}", message("a"));
    std::fs::rename(&paths[0], &whole).expect("renamed");
    assert!(message("a").contains("another share"), "{}", message("a"));
    let empty = pass("a", share(3, 4)).run(&source, &mut Named, &mut |_| ());
    let empty = empty.expect_err("empty").to_string();
    assert!(empty.contains("at most 3 shares"), "{empty}");
}

#[test]
fn an_answer_that_is_not_finite_is_refused_with_its_image() {
    let error = run(&extractor(Keep::Nothing), Some(6))
        .expect_err("refused")
        .to_string();
    assert!(error.contains("shapes:10:0#6 is NaN"), "{error}");
}
