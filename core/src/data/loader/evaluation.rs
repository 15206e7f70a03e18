//! Preprocessed images in the order of their source.

use super::pool;
use crate::Result;
use crate::data::Source;
use crate::data::prefetch::{Demand, Prefetch};
use crate::preprocess::Preprocess;
use rayon::prelude::*;
use std::sync::Arc;

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
