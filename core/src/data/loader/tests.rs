use super::*;
use crate::config::ViewsConfig;
use crate::data::Source;
use crate::pixels::Rgb8;
use crate::views::Recipe;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Ten images, one of which may be broken.
struct Ten {
    broken: Option<usize>,
}

impl Source for Ten {
    fn len(&self) -> usize {
        10
    }
    fn image(&self, index: usize) -> Result<Arc<Rgb8>> {
        if self.broken == Some(index) {
            return Err(Error::malformed("7.jpg", "broken"));
        }
        let data = (0..40 * 30 * 3)
            .map(|i| (i * (index + 3) % 251) as u8)
            .collect();
        Rgb8::new(40, 30, data).map(Arc::new)
    }
    fn label(&self, index: usize) -> Option<usize> {
        Some(index % 2)
    }
    fn classes(&self) -> &[String] {
        static NAMES: std::sync::OnceLock<Vec<String>> = std::sync::OnceLock::new();
        NAMES.get_or_init(|| vec!["even".into(), "odd".into()])
    }
    fn name(&self, index: usize) -> String {
        index.to_string()
    }
}

fn loader(workers: usize, broken: Option<usize>) -> Loader {
    let views = ViewsConfig {
        global_size: 16,
        local_size: 8,
        local_count: 2,
        ..Default::default()
    };
    Loader::new(Arc::new(Ten { broken }), Recipe::new(&views), 3, 5, workers).expect("a loader")
}

#[test]
fn batches_do_not_depend_on_workers_or_the_first_step() {
    let all = |workers, first| -> Vec<TrainBatch> {
        loader(workers, None)
            .epoch(2, first)
            .collect::<Result<_>>()
            .expect("batches")
    };
    let one = all(1, 0);
    assert_eq!(one.len(), 3);
    assert_eq!(one, all(4, 0));
    assert_eq!(one[1..], all(2, 1));
    let batch = &one[0];
    assert_eq!(batch.global.len(), 2 * 3 * 3 * 16 * 16);
    assert_eq!(batch.local.as_ref().map(Vec::len), Some(2 * 3 * 3 * 8 * 8));
    let labels: Vec<usize> = batch.indices.iter().map(|index| index % 2).collect();
    assert_eq!(batch.labels.as_ref(), Some(&labels));
    // A view is found at [view * batch + sample].
    let views = ViewsConfig {
        global_size: 16,
        ..Default::default()
    };
    let image = Ten { broken: None }
        .image(batch.indices[2])
        .expect("an image");
    let mut expected = vec![0.0; 3 * 16 * 16];
    Recipe::new(&views).make(&image, 5, 2, batch.indices[2] as u64, 1, &mut expected);
    assert_eq!(batch.global[5 * expected.len()..], expected);
}

#[test]
fn parts_make_up_the_batch() {
    // Ten images, batches of 4: two steps, two images dropped.
    let views = ViewsConfig {
        global_size: 16,
        local_count: 0,
        ..Default::default()
    };
    let whole = || {
        let source = Arc::new(Ten { broken: None });
        Loader::new(source, Recipe::new(&views), 4, 5, 1).expect("a loader")
    };
    let all = |loader: Loader, first| -> Vec<TrainBatch> {
        loader
            .epoch(1, first)
            .collect::<Result<_>>()
            .expect("batches")
    };
    let (batches, parts) = (
        all(whole(), 0),
        all(whole().in_parts(2).expect("divides"), 0),
    );
    assert_eq!((batches.len(), parts.len()), (2, 4));
    let length = 3 * 16 * 16;
    for (batch, parts) in batches.iter().zip(parts.chunks(2)) {
        assert_eq!(
            batch.indices,
            [&parts[0].indices[..], &parts[1].indices].concat()
        );
        // Second view of the fourth sample: the last of its part, too.
        assert_eq!(batch.global[7 * length..], parts[1].global[3 * length..]);
    }
    // The order is the epoch's, however it is cut.
    let order = |batches: &[TrainBatch]| -> Vec<usize> {
        batches
            .iter()
            .flat_map(|batch| batch.indices.clone())
            .collect()
    };
    let source = Arc::new(Ten { broken: None });
    let pairs = Loader::new(source, Recipe::new(&views), 2, 5, 1).expect("a loader");
    assert_eq!(order(&all(pairs, 0))[..8], order(&batches));
    let second = all(whole().in_parts(2).expect("divides"), 1);
    assert_eq!(second, parts[2..]);
    assert!(whole().in_parts(3).is_err());
}

#[test]
fn shares_make_up_a_part() {
    let views = ViewsConfig {
        global_size: 16,
        local_count: 0,
        ..Default::default()
    };
    let parts = || {
        let source = Arc::new(Ten { broken: None });
        let whole = Loader::new(source, Recipe::new(&views), 10, 5, 1).expect("a loader");
        whole.in_parts(2).expect("divides")
    };
    let all = |loader: Loader| -> Vec<TrainBatch> {
        loader.epoch(1, 0).collect::<Result<_>>().expect("batches")
    };
    let expected = all(parts());
    let ranks: Vec<_> = (0..3)
        .map(|rank| all(parts().for_rank(rank, 3).expect("enough")))
        .collect();
    let length = 3 * 16 * 16;
    for (part, expected) in expected.iter().enumerate() {
        // Five samples: two, two and one.
        let shares = ranks.iter().map(|rank| rank[part].indices.clone());
        assert_eq!(shares.collect::<Vec<_>>().concat(), expected.indices);
        // Second view of the fourth sample.
        assert_eq!(
            ranks[1][part].global[3 * length..],
            expected.global[8 * length..9 * length]
        );
    }
    let error = parts().for_rank(0, 6).err().expect("refused").to_string();
    assert!(error.contains("6 ranks"), "{error}");
}

#[test]
fn epochs_differ_and_each_sample_comes_at_most_once() {
    let order = |epoch| -> Vec<usize> {
        loader(2, None)
            .epoch(epoch, 0)
            .flat_map(|batch| batch.expect("a batch").indices)
            .collect()
    };
    let (first, second) = (order(0), order(1));
    assert_ne!(first, second);
    let mut sorted = first.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(sorted.len(), 9);
}

#[test]
fn a_broken_image_is_an_error_that_names_it() {
    // Batches of two leave no sample out, so one of them meets the broken image.
    let source = Arc::new(Ten { broken: Some(7) });
    let recipe = Recipe::new(&ViewsConfig::default());
    let loader = Loader::new(source, recipe, 2, 5, 2).expect("a loader");
    let failed = loader.epoch(0, 0).find_map(Result::err);
    assert!(failed.expect("an error").to_string().contains("7.jpg"));
    let preprocess = crate::Config::default().preprocess();
    let source = Arc::new(Ten { broken: Some(7) });
    let results: Vec<_> = EvalLoader::new(source, preprocess, 4, 2)
        .expect("starts")
        .collect();
    assert!(results[0].is_ok());
    assert!(results.last().is_some_and(|last| {
        last.as_ref()
            .is_err_and(|e| e.to_string().contains("7.jpg"))
    }));
}

#[test]
fn evaluation_goes_in_order_to_the_end() {
    let preprocess = crate::Config::default().preprocess();
    let source = Arc::new(Ten { broken: None });
    let batches: Vec<EvalBatch> = EvalLoader::new(source, preprocess.clone(), 4, 3)
        .and_then(Iterator::collect)
        .expect("batches");
    assert_eq!(
        batches.iter().map(|batch| batch.count).collect::<Vec<_>>(),
        [4, 4, 2]
    );
    let image = Ten { broken: None }.image(9).expect("an image");
    assert_eq!(
        batches[2].images[preprocess.input_len()..],
        preprocess.input(&image)
    );
    assert_eq!(batches[2].labels, Some(vec![0, 1]));
}

#[test]
fn a_batch_in_the_making_stops_between_samples() {
    /// Counts what it is asked for; the third image lasts until the test goes on, and those behind it give it time to.
    struct Slow {
        asked: AtomicUsize,
        reached: Barrier,
    }
    impl Source for Slow {
        fn len(&self) -> usize {
            1000
        }
        fn image(&self, index: usize) -> Result<Arc<Rgb8>> {
            let before = self.asked.fetch_add(1, Ordering::Relaxed);
            if before == 2 {
                self.reached.wait();
            }
            if before >= 2 {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            Ten { broken: None }.image(index)
        }
        fn label(&self, _: usize) -> Option<usize> {
            None
        }
        fn classes(&self) -> &[String] {
            &[]
        }
        fn name(&self, index: usize) -> String {
            index.to_string()
        }
    }
    let source = Arc::new(Slow {
        asked: AtomicUsize::new(0),
        reached: Barrier::new(2),
    });
    let views = ViewsConfig {
        global_size: 16,
        ..Default::default()
    };
    let asked = Arc::clone(&source);
    let loader = Loader::new(source, Recipe::new(&views), 1000, 5, 1).expect("a loader");
    let epoch = loader.epoch(0, 0);
    asked.reached.wait();
    drop(epoch);
    // How many came between is the scheduler's matter.
    let asked = asked.asked.load(Ordering::Relaxed);
    assert!((3..1000).contains(&asked), "{asked}");
}

#[test]
fn too_little_data_is_refused() {
    let views = ViewsConfig::default();
    let error = Loader::new(
        Arc::new(Ten { broken: None }),
        Recipe::new(&views),
        11,
        0,
        1,
    );
    assert!(
        error
            .err()
            .expect("refused")
            .to_string()
            .contains("10 images")
    );
}
