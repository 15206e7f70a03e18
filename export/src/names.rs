//! The names at the file's border, shared by both halves of the crate.

/// The one input.
pub(crate) const IMAGE: &str = "image";
/// Softmax of the default head.
pub(crate) const PROBABILITIES: &str = "probabilities";
/// The unit embedding.
pub(crate) const EMBEDDING: &str = "embedding";
/// The backbone's output.
pub(crate) const FEATURES: &str = "features";

/// The logits of the head at `index` in the trained model.
pub(crate) fn logits(index: usize) -> String {
    format!("logits.{index}")
}
