//! What the network computes for a batch, as plain arrays.

use super::borders::{Borders, Output};
use crate::Result;

/// The network's outputs for `batch` images; every array is row-major with one row per image, and empty
/// where the file does not have that output.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Outputs {
    /// Number of images.
    pub batch: usize,
    /// One entry per head with logits in the file, by ascending index.
    pub logits: Vec<HeadLogits>,
    /// `[batch, classes]` of the file's default head; rows sum to 1.
    pub probabilities: Vec<f32>,
    /// `[batch, embedding_dim]`; rows have length 1.
    pub embedding: Vec<f32>,
    /// `[batch, feature_dim]`: what the backbone gives.
    pub features: Vec<f32>,
}

/// The logits of one head.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct HeadLogits {
    /// The head's index in the trained model.
    pub head: usize,
    /// Number of classes.
    pub classes: usize,
    /// `[batch, classes]`.
    pub values: Vec<f32>,
}

impl Outputs {
    /// The logits of the head at `index`, `[batch, classes]`, if the file has them.
    pub fn head(&self, index: usize) -> Option<&HeadLogits> {
        self.logits.iter().find(|logits| logits.head == index)
    }

    /// What is said of image `index` alone.
    ///
    /// # Panics
    /// If there is no such image.
    #[must_use]
    pub fn image(&self, index: usize) -> Self {
        let row = |values: &[f32]| row(values, index, self.batch).to_vec();
        let logits = self.logits.iter().map(|logits| HeadLogits {
            values: row(&logits.values),
            ..*logits
        });
        Self {
            batch: 1,
            logits: logits.collect(),
            probabilities: row(&self.probabilities),
            embedding: row(&self.embedding),
            features: row(&self.features),
        }
    }

    /// No images yet; room for what the file has.
    pub(super) fn empty(borders: &Borders) -> Self {
        let heads = borders.logits.iter();
        Self {
            logits: heads
                .map(|(head, output)| HeadLogits {
                    head: *head,
                    classes: output.width,
                    values: Vec::new(),
                })
                .collect(),
            ..Self::default()
        }
    }

    /// An output that has a value for image `index` which is not finite.
    pub(super) fn not_finite<'b>(&self, borders: &'b Borders, index: usize) -> Option<&'b Output> {
        let heads = self.logits.iter().zip(&borders.logits);
        let heads = heads.map(|(logits, (_, output))| (&logits.values, Some(output)));
        let others = [
            (&self.probabilities, borders.probabilities.as_ref()),
            (&self.embedding, borders.embedding.as_ref()),
            (&self.features, borders.features.as_ref()),
        ];
        let mut all = heads.chain(others);
        all.find_map(|(values, output)| {
            let row = row(values, index, self.batch);
            output.filter(|_| !row.iter().all(|x| x.is_finite()))
        })
    }

    /// Appends `batch` images: `read` gives an output's values, one row for each of them.
    pub(super) fn append<'a>(
        &mut self,
        batch: usize,
        borders: &Borders,
        read: impl Fn(&Output) -> Result<&'a [f32]>,
    ) -> Result<()> {
        for (logits, (_, output)) in self.logits.iter_mut().zip(&borders.logits) {
            logits.values.extend_from_slice(read(output)?);
        }
        for (values, output) in [
            (&mut self.probabilities, &borders.probabilities),
            (&mut self.embedding, &borders.embedding),
            (&mut self.features, &borders.features),
        ] {
            if let Some(output) = output {
                values.extend_from_slice(read(output)?);
            }
        }
        self.batch += batch;
        Ok(())
    }

    /// Appends the images of `other`, which comes from the same file.
    pub(super) fn extend(&mut self, other: Self) {
        self.batch += other.batch;
        for (own, others) in self.logits.iter_mut().zip(other.logits) {
            own.values.extend(others.values);
        }
        self.probabilities.extend(other.probabilities);
        self.embedding.extend(other.embedding);
        self.features.extend(other.features);
    }
}

/// Row `index` of `values`, which has one for each of `count` images; empty where there are none.
pub(super) fn row(values: &[f32], index: usize, count: usize) -> &[f32] {
    let width = values.len() / count.max(1);
    &values[index * width..(index + 1) * width]
}
