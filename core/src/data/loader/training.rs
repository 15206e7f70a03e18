//! Random views in random order.

use super::pool;
use crate::data::prefetch::{Demand, Prefetch};
use crate::data::{Shares, Source};
use crate::random::{Draw, Purpose, stream};
use crate::views::Recipe;
use crate::{Error, Result};
use rayon::ThreadPool;
use rayon::prelude::*;
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
        self.epoch_made_ready(epoch, first, Ok)
    }

    /// As [`epoch`](Self::epoch), each part after `ready`, which the thread calls that prepares it.
    pub fn epoch_made_ready<T: Send + 'static, F: Fn(TrainBatch) -> Result<T> + Send + 'static>(
        &self,
        epoch: usize,
        first: usize,
        ready: F,
    ) -> impl Iterator<Item = Result<T>> + use<T, F> {
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
            let batch = pool
                .install(|| train_batch(&*source, &recipe, seed, epoch as u64, indices, demand))?;
            ready(batch)
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
