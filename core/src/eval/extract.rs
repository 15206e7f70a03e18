//! One pass over a data set.

use super::Selection;
use super::features::{
    FeatureTable, FileWriter, Key, MemoryWriter, Precision, Share, join_shares, read_cache,
};
use crate::data::{EvalLoader, Source};
use crate::preprocess::Preprocess;
use crate::{Error, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Something that turns preprocessed images into logits and features.
pub trait Network {
    /// Runs `count` images, `[count, 3, crop, crop]`, normalised.
    ///
    /// # Errors
    /// If the engine fails.
    fn forward(&mut self, images: Vec<f32>, count: usize) -> Result<Forward>;

    /// [`digest`](crate::weights::digest) of the weights as they are now, where they could change; none of a network that
    /// cannot.
    fn weights_digest(&self) -> Option<String> {
        None
    }
}

/// What a network says of a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Forward {
    /// Logits of each head, `[count, classes]`, row-major.
    pub logits: Vec<Vec<f32>>,
    /// Features, `[count, width]`, row-major.
    pub features: Vec<f32>,
}

/// Everything that a classifier computes of a batch, row-major with one row per image.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Trace {
    /// The backbone's output, `[count, feature_dim]`.
    pub features: Vec<f32>,
    /// The unit embedding, `[count, dim]`.
    pub embedding: Vec<f32>,
    /// Logits of each of the model's heads, `[count, classes]`.
    pub logits: Vec<Vec<f32>>,
}

/// What a network says of a whole data set, in the order of the source.
#[derive(Debug, Default)]
pub struct Extracted {
    /// The images' labels, where the source has them.
    pub labels: Option<Vec<usize>>,
    /// Per head and image, the class with the largest logit (the first of equals).
    pub assignments: Vec<Vec<usize>>,
    /// Per head and image, the probability of that class.
    pub confidences: Vec<Vec<f32>>,
    /// Features of each image; empty if they were not kept.
    pub features: FeatureTable,
}

/// What happens to the features of a pass.
#[derive(Debug, Clone, PartialEq)]
pub enum Keep {
    /// They are dropped: only assignments are wanted.
    Nothing,
    /// They stay in memory.
    Memory(Precision),
    /// They go to a file, whatever its size, and are read from there; an earlier pass's file is used if it was made
    /// from the same model, images and preprocessing. If the key names a share, only its images are looked at.
    Cache {
        /// The file.
        path: PathBuf,
        /// What this pass depends on.
        key: Key,
        /// How they are kept.
        precision: Precision,
        /// Whether to make the file anew without looking at it.
        recompute: bool,
        /// Whether any features will do, the backbone's or the head's: only assignments are wanted.
        any_features: bool,
    },
}

/// How to go over a source.
#[derive(Debug, Clone)]
pub struct Extractor {
    /// From an image to the network's input.
    pub preprocess: Preprocess,
    /// Images per forward pass.
    pub batch_size: usize,
    /// Threads that prepare images; 0 for one per core.
    pub workers: usize,
    /// Probabilities are `softmax(logits / temperature)`.
    pub temperature: f32,
    /// What happens to the features.
    pub keep: Keep,
}

impl Extractor {
    /// What an earlier pass over as many `images` has left in the cache, at once or in shares that are put together
    /// now; none if this one has to be made.
    ///
    /// # Errors
    /// If the cache cannot be read, was made from something else and is not to be made anew, or only some shares
    /// are there.
    pub fn cached(&self, images: usize) -> Result<Option<Extracted>> {
        let Keep::Cache {
            path,
            key,
            recompute: false,
            any_features,
            ..
        } = &self.keep
        else {
            return Ok(None);
        };
        let there =
            path.exists() || key.share.is_none() && join_shares(path, key, *any_features, images)?;
        if !there {
            return Ok(None);
        }
        let cached = read_cache(path)?;
        cached.checked(path, key, *any_features).map(Some)
    }

    /// How many of `total` images this pass looks at: all, or a share.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there is no such share.
    pub fn images_of(&self, total: usize) -> Result<usize> {
        self.share()
            .map_or(Ok(total), |share| Ok(share.images(total)?.len()))
    }

    fn share(&self) -> Option<Share> {
        match &self.keep {
            Keep::Cache { key, .. } => key.share,
            _ => None,
        }
    }

    /// The images that this pass looks at.
    fn images(&self, source: &Arc<dyn Source>) -> Result<Arc<dyn Source>> {
        let source = Arc::clone(source);
        match self.share() {
            Some(share) => {
                let images = share.images(source.len())?;
                Ok(Arc::new(Selection::of_images(source, images)?))
            }
            None => Ok(source),
        }
    }

    /// Runs `network` over `source` in batches, without looking for earlier results. `progress` is told how many images
    /// are done.
    ///
    /// # Errors
    /// If an image cannot be read, the network fails or answers with something that is not finite, or the cache cannot
    /// be written.
    pub fn run(
        &self,
        source: &Arc<dyn Source>,
        network: &mut dyn Network,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Extracted> {
        let source = &self.images(source)?;
        let mut all = Extracted {
            labels: (0..source.len()).map(|index| source.label(index)).collect(),
            ..Extracted::default()
        };
        let mut sink = Sink::Nothing;
        let mut done = 0;
        let loader = EvalLoader::new(
            Arc::clone(source),
            self.preprocess.clone(),
            self.batch_size,
            self.workers,
        )?;
        for batch in loader {
            let batch = batch?;
            let count = batch.count;
            let output = network.forward(batch.images, count)?;
            check_finite(&output, &**source, done, count)?;
            if done == 0 {
                all.assignments = vec![Vec::with_capacity(source.len()); output.logits.len()];
                all.confidences = vec![Vec::with_capacity(source.len()); output.logits.len()];
                let shape = [
                    source.len(),
                    output.features.len() / count,
                    output.logits.len(),
                ];
                sink = Sink::new(&self.keep, shape, all.labels.is_some())?;
            }
            for (head, logits) in output.logits.iter().enumerate() {
                for row in logits.chunks_exact(logits.len() / count) {
                    let (class, probability) = strongest(row, self.temperature);
                    all.assignments[head].push(class);
                    all.confidences[head].push(probability);
                }
            }
            sink.append(output.features)?;
            done += count;
            progress(done);
        }
        sink.finish(&mut all)?;
        Ok(all)
    }
}

/// Where features go.
enum Sink<'a> {
    Nothing,
    Memory(MemoryWriter),
    File(FileWriter, &'a Path),
}

impl<'a> Sink<'a> {
    fn new(keep: &'a Keep, shape: [usize; 3], labelled: bool) -> Result<Self> {
        Ok(match keep {
            Keep::Nothing => Self::Nothing,
            Keep::Memory(precision) => {
                Self::Memory(MemoryWriter::new(shape[0], shape[1], *precision))
            }
            Keep::Cache {
                path,
                key,
                precision,
                ..
            } => Self::File(
                FileWriter::new(path, key, shape, labelled, *precision)?,
                path,
            ),
        })
    }

    fn append(&mut self, features: Vec<f32>) -> Result<()> {
        match self {
            Self::Nothing => Ok(()),
            Self::Memory(writer) => {
                writer.append(features);
                Ok(())
            }
            Self::File(writer, _) => writer.append(&features),
        }
    }

    fn finish(self, all: &mut Extracted) -> Result<()> {
        match self {
            Self::Nothing => {}
            Self::Memory(writer) => all.features = writer.finish(),
            Self::File(writer, path) => {
                writer.finish(all)?;
                all.features = read_cache(path)?.extracted.features;
            }
        }
        Ok(())
    }
}

/// A comparison with NaN would turn it into an ordinary class.
fn check_finite(output: &Forward, source: &dyn Source, first: usize, count: usize) -> Result<()> {
    for values in output.logits.iter().chain([&output.features]) {
        if let Some(place) = values.iter().position(|value| !value.is_finite()) {
            let image = first + place / (values.len() / count).max(1);
            return Err(Error::Data(format!(
                "the network's answer to {} is {}, not a finite number; its weights are damaged, or training diverged",
                source.name(image),
                values[place]
            )));
        }
    }
    Ok(())
}

/// The class with the largest logit and its probability.
fn strongest(logits: &[f32], temperature: f32) -> (usize, f32) {
    let mut best = 0;
    for (class, &logit) in logits.iter().enumerate() {
        if logit > logits[best] {
            best = class;
        }
    }
    let sum: f32 = logits
        .iter()
        .map(|&logit| ((logit - logits[best]) / temperature).exp())
        .sum();
    (best, 1.0 / sum)
}

#[cfg(test)]
mod tests;
