//! Batches: random views in random order for training, preprocessed images in order for evaluation.

mod evaluation;
#[cfg(test)]
mod tests;
mod training;

pub use evaluation::{EvalBatch, EvalLoader};
pub use training::{Loader, TrainBatch};

use crate::{Error, Result};
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::sync::Arc;

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
