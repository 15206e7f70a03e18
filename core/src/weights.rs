//! Named arrays: the form in which weights travel between a device, a checkpoint and an exported file.

use std::collections::BTreeMap;

/// A dense `f32` array, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    /// Length of each axis; empty for a scalar.
    pub shape: Vec<usize>,
    /// The values; as many as the product of `shape`.
    pub data: Vec<f32>,
}

impl Array {
    /// An array of `shape` over `data`.
    ///
    /// # Panics
    /// If the lengths disagree: the caller computes both.
    pub fn new(shape: impl Into<Vec<usize>>, data: Vec<f32>) -> Self {
        let shape = shape.into();
        assert_eq!(
            shape.iter().product::<usize>(),
            data.len(),
            "array of shape {shape:?}"
        );
        Self { shape, data }
    }
}

/// Parameters and buffers by torchvision's / the authors' names, e.g. `backbone.layer1.0.conv1.weight`,
/// `mlp_head.mlp.0.bias`, `cls_0.weight_g`.
pub type StateDict = BTreeMap<String, Array>;
