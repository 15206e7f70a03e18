//! Weights in half precision, cast once for all passes through a network that belong together: one per resolution.

use burn::module::ParamId;
use burn::tensor::Tensor;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// The weights that the passes over one batch have cast so far. It lives no longer than they do: the model is theirs
/// meanwhile, so no update comes in between, and the memory is free again afterwards.
#[derive(Debug, Default)]
pub struct Casts(Mutex<HashMap<ParamId, Tensor<4>>>);

impl Casts {
    /// The cast of `weight`: the one made before, or else what `cast` makes.
    pub(super) fn once(&self, weight: ParamId, cast: impl FnOnce() -> Tensor<4>) -> Tensor<4> {
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        made.entry(weight).or_insert_with(cast).clone()
    }
}
