//! Batches: random views in random order for training, preprocessed images in order for evaluation.

use super::prefetch::{Demand, Prefetch};
use super::{Shares, Source};
use crate::preprocess::Preprocess;
use crate::random::{Draw, Purpose, stream};
use crate::views::Recipe;
use crate::{Error, Result};
use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::sync::Arc;

/// A batch of views.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainBatch {
    /// Index of each sample in the source.
    pub indices: Vec<usize>,
    /// Label of each sample, in a labelled source.
    pub labels: Option<Vec<usize>>,
    /// The two global views, `[2 * batch, 3, size, size]`: first view of all samples, then the second.
    pub global: Vec<f32>,
    /// The local views, `[count * batch, 3, size, size]`, view by view; none without.
    pub local: Option<Vec<f32>>,
}

/// Makes the training batches of an epoch.
pub struct Loader {
    source: Arc<dyn Source>,
    recipe: Arc<Recipe>,
    batch_size: usize,
    parts: usize,
    /// This process and how many there are.
    rank: (usize, usize),
    seed: u64,
    pool: Arc<ThreadPool>,
}

impl Loader {
    /// A loader of batches of `batch_size` samples, on `workers` threads (0: one per core).
    ///
    /// # Errors
    /// If the source has fewer images than a batch.
    pub fn new(
        source: Arc<dyn Source>,
        recipe: Recipe,
        batch_size: usize,
        seed: u64,
        workers: usize,
    ) -> Result<Self> {
        if source.len() < batch_size {
            return Err(Error::Data(format!(
                "the data holds {} {}, fewer than one batch of train.batch_size = {batch_size}; give more images or a smaller --batch-size",
                source.len(),
                if source.len() == 1 { "image" } else { "images" }
            )));
        }
        Ok(Self {
            source,
            recipe: Arc::new(recipe),
            batch_size,
            parts: 1,
            rank: (0, 1),
            seed,
            pool: pool(workers)?,
        })
    }

    /// Hands out every batch in `parts` equal parts, one after the other, so that less is prepared ahead.
    ///
    /// # Errors
    /// If the batches cannot be divided so.
    pub fn in_parts(mut self, parts: usize) -> Result<Self> {
        if parts == 0 || !self.batch_size.is_multiple_of(parts) {
            return Err(Error::Invalid(format!(
                "a batch of {} images cannot be divided into {parts} equal parts",
                self.batch_size
            )));
        }
        self.parts = parts;
        Ok(self)
    }

    /// Hands out only the share of rank `rank` among `ranks` in every part ([`Shares`]). The shares of all
    /// ranks, in their order, are the part.
    ///
    /// # Errors
    /// If there are not enough samples for all.
    pub fn for_rank(mut self, rank: usize, ranks: usize) -> Result<Self> {
        let samples = self.batch_size / self.parts;
        if samples < ranks {
            return Err(Error::Invalid(format!(
                "{samples} images at a time (train.batch_size = {} / train.accumulate = {}) are fewer than the {ranks} ranks; every rank needs one",
                self.batch_size, self.parts
            )));
        }
        self.rank = (rank, ranks);
        Ok(self)
    }

    /// Batches in an epoch; the incomplete last one is left out.
    pub fn steps_per_epoch(&self) -> usize {
        self.source.len() / self.batch_size
    }

    /// Whether the source has labels.
    pub fn has_labels(&self) -> bool {
        !self.source.classes().is_empty()
    }

    /// The batches of `epoch` from number `first` on, part by part. Their order depends on the seed and
    /// the epoch alone, their views on the seed, the epoch and the sample: beginning in the middle gives
    /// the same batches as coming from the start, and the parts of a batch together are the batch.
    pub fn epoch(
        &self,
        epoch: usize,
        first: usize,
    ) -> impl Iterator<Item = Result<TrainBatch>> + use<> {
        let mut order: Vec<usize> = (0..self.source.len()).collect();
        stream(self.seed, Purpose::Shuffle, [epoch as u64, 0, 0]).shuffle(&mut order);
        let (source, recipe) = (Arc::clone(&self.source), Arc::clone(&self.recipe));
        let (pool, seed) = (Arc::clone(&self.pool), self.seed);
        let size = self.batch_size / self.parts;
        let first_part = first * self.parts;
        let (rank, ranks) = self.rank;
        let share = Shares::new(size, ranks).of(rank);
        let steps = self.steps_per_epoch().saturating_sub(first);
        Prefetch::new(steps * self.parts, move |number, demand| {
            let start = (first_part + number) * size;
            let indices = &order[start + share.start..start + share.end];
            pool.install(|| train_batch(&*source, &recipe, seed, epoch as u64, indices, demand))
        })
    }
}

fn train_batch(
    source: &dyn Source,
    recipe: &Recipe,
    seed: u64,
    epoch: u64,
    indices: &[usize],
    demand: &Demand,
) -> Result<TrainBatch> {
    let (count, globals) = (recipe.count(), recipe.global_count());
    // Views `from` to `to` of all samples, view by view.
    let room = |from, to| vec![0.0; (to - from) * indices.len() * recipe.view_len(from)];
    let mut global = room(0, globals);
    let mut local = (recipe.local_count() > 0).then(|| room(globals, count));
    let mut samples: Vec<Vec<&mut [f32]>> =
        indices.iter().map(|_| Vec::with_capacity(count)).collect();
    let views = global.chunks_exact_mut(recipe.view_len(0));
    let local_len = recipe.view_len(globals);
    let views = views.chain(
        local
            .iter_mut()
            .flat_map(|all| all.chunks_exact_mut(local_len)),
    );
    for (slot, view) in views.enumerate() {
        samples[slot % indices.len()].push(view);
    }
    samples
        .par_iter_mut()
        .zip(indices)
        .try_for_each(|(views, &index)| {
            demand.check()?;
            let image = source.image(index)?;
            recipe.make_all(&image, seed, epoch, index as u64, views);
            Ok::<_, Error>(())
        })?;
    Ok(TrainBatch {
        indices: indices.to_vec(),
        labels: indices.iter().map(|&index| source.label(index)).collect(),
        global,
        local,
    })
}

/// A batch of preprocessed images.
#[derive(Debug, Clone, PartialEq)]
pub struct EvalBatch {
    /// Number of images.
    pub count: usize,
    /// `[count, 3, crop, crop]`, normalised.
    pub images: Vec<f32>,
    /// Their labels, in a labelled source.
    pub labels: Option<Vec<usize>>,
}

/// The images of a source in order, preprocessed, in batches; the last may be smaller.
pub struct EvalLoader {
    batches: Prefetch<EvalBatch>,
}

impl EvalLoader {
    /// Batches of `batch_size` images of `source`, prepared on `workers` threads (0: one per core).
    ///
    /// # Errors
    /// If the threads cannot be started.
    pub fn new(
        source: Arc<dyn Source>,
        preprocess: Preprocess,
        batch_size: usize,
        workers: usize,
    ) -> Result<Self> {
        let pool = pool(workers)?;
        let total = source.len();
        let size = batch_size.max(1);
        let batches = Prefetch::new(total.div_ceil(size), move |number, demand| {
            let indices: Vec<usize> = (number * size..((number + 1) * size).min(total)).collect();
            pool.install(|| eval_batch(&*source, &preprocess, &indices, demand))
        });
        Ok(Self { batches })
    }
}

impl Iterator for EvalLoader {
    type Item = Result<EvalBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        self.batches.next()
    }
}

fn eval_batch(
    source: &dyn Source,
    preprocess: &Preprocess,
    indices: &[usize],
    demand: &Demand,
) -> Result<EvalBatch> {
    let length = preprocess.input_len();
    let mut images = vec![0.0; indices.len() * length];
    images
        .par_chunks_exact_mut(length)
        .zip(indices)
        .try_for_each(|(out, &index)| -> Result<()> {
            demand.check()?;
            preprocess.apply(&*source.image(index)?, out);
            Ok(())
        })?;
    Ok(EvalBatch {
        count: indices.len(),
        images,
        labels: indices.iter().map(|&index| source.label(index)).collect(),
    })
}

fn pool(workers: usize) -> Result<Arc<ThreadPool>> {
    ThreadPoolBuilder::new()
        .num_threads(workers)
        .thread_name(|number| format!("images {number}"))
        .build()
        .map(Arc::new)
        .map_err(|error| {
            Error::Data(format!(
                "cannot start {workers} threads for images: {error}"
            ))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ViewsConfig;
    use crate::pixels::Rgb8;
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
        /// Counts what it is asked for; the third image lasts until the test goes on.
        struct Slow {
            asked: AtomicUsize,
            reached: Barrier,
        }
        impl Source for Slow {
            fn len(&self) -> usize {
                1000
            }
            fn image(&self, index: usize) -> Result<Arc<Rgb8>> {
                if self.asked.fetch_add(1, Ordering::Relaxed) == 2 {
                    self.reached.wait();
                    // Time to drop the epoch.
                    std::thread::sleep(std::time::Duration::from_millis(200));
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
        assert_eq!(asked.asked.load(Ordering::Relaxed), 3);
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
}
