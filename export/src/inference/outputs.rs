//! What the network computes for a batch, as plain arrays.

use crate::{Error, Result, names};
use selfcls_core::metadata::Metadata;

/// The network's outputs for `batch` images; every array is row-major with one row per image.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Outputs {
    /// Number of images.
    pub batch: usize,
    /// One entry per head in the file, by ascending index.
    pub logits: Vec<HeadLogits>,
    /// `[batch, classes]` of the default head; rows sum to 1.
    pub probabilities: Vec<f32>,
    /// `[batch, embedding_dim]`; rows have length 1.
    pub embedding: Vec<f32>,
}

/// The logits of one head.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadLogits {
    /// The head's index in the trained model.
    pub head: usize,
    /// Number of classes.
    pub classes: usize,
    /// `[batch, classes]`.
    pub values: Vec<f32>,
}

impl Outputs {
    /// The logits of the head at `index`, `[batch, classes]`, if the file has it.
    pub fn head(&self, index: usize) -> Option<&HeadLogits> {
        self.logits.iter().find(|logits| logits.head == index)
    }

    /// No images yet; room for the heads of `metadata`.
    pub(super) fn empty(metadata: &Metadata) -> Self {
        let heads = metadata.heads.iter();
        Self {
            logits: heads
                .map(|head| HeadLogits {
                    head: head.index,
                    classes: head.classes,
                    values: Vec::new(),
                })
                .collect(),
            ..Self::default()
        }
    }

    /// Appends `batch` images: `read(name, width)` gives the output of that name, `[batch, width]`.
    pub(super) fn append<'a>(
        &mut self,
        batch: usize,
        metadata: &Metadata,
        read: impl Fn(&str, usize) -> Result<&'a [f32]>,
    ) -> Result<()> {
        for logits in &mut self.logits {
            let name = names::logits(logits.head);
            logits
                .values
                .extend_from_slice(read(&name, logits.classes)?);
        }
        let classes = default_classes(metadata)?;
        self.probabilities
            .extend_from_slice(read(names::PROBABILITIES, classes)?);
        self.embedding
            .extend_from_slice(read(names::EMBEDDING, metadata.embedding_dim)?);
        self.batch += batch;
        Ok(())
    }

    /// Appends the images of `other`, which has the same heads.
    pub(super) fn extend(&mut self, other: Self) {
        self.batch += other.batch;
        for (own, others) in self.logits.iter_mut().zip(other.logits) {
            own.values.extend(others.values);
        }
        self.probabilities.extend(other.probabilities);
        self.embedding.extend(other.embedding);
    }
}

/// Number of classes of the default head.
pub(super) fn default_classes(metadata: &Metadata) -> Result<usize> {
    let head = metadata.head(metadata.default_head);
    // Invariant: checked when the metadata were read.
    head.map(|head| head.classes)
        .ok_or_else(|| Error::Request("the default head is not in the file".to_owned()))
}
