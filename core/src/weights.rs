//! Named arrays: the form in which weights travel between a device, a checkpoint and an exported file.

use crate::{Error, Result};
use safetensors::tensor::{Dtype, TensorView, serialize};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};

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

    fn bytes(&self) -> Vec<u8> {
        self.data.iter().flat_map(|x| x.to_le_bytes()).collect()
    }
}

/// Parameters and buffers by torchvision's / the authors' names, e.g. `backbone.layer1.0.conv1.weight`,
/// `mlp_head.mlp.0.bias`, `cls_0.weight_g`.
pub type StateDict = BTreeMap<String, Array>;

/// A safetensors file of the arrays, with these entries in its header.
///
/// # Errors
/// If the format cannot hold them.
pub(crate) fn safetensors<'a>(
    arrays: impl IntoIterator<Item = (&'a str, &'a Array)>,
    header: Option<HashMap<String, String>>,
) -> Result<Vec<u8>> {
    let fail = |error| Error::Checkpoint(format!("cannot write a safetensors file: {error}"));
    let tensors: Vec<(&str, &Array, Vec<u8>)> = arrays
        .into_iter()
        .map(|(name, array)| (name, array, array.bytes()))
        .collect();
    let views = tensors
        .iter()
        .map(|(name, array, bytes)| {
            let view = TensorView::new(Dtype::F32, array.shape.clone(), bytes)?;
            Ok((*name, view))
        })
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()
        .map_err(fail)?;
    serialize(views, header).map_err(fail)
}

/// SHA-256 of names, shapes and values, lower-case hexadecimal: whether weights are the same to the bit.
pub fn digest(weights: &StateDict) -> String {
    let mut hash = Sha256::new();
    for (name, array) in weights {
        hash.update(format!("{name} {:?} ", array.shape));
        hash.update(array.bytes());
    }
    let hash = hash.finalize();
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_changed_bit_changes_the_digest() {
        let with = |name: &str, shape: &[usize], value: f32| {
            let array = Array::new(shape, vec![1.0, value]);
            digest(&StateDict::from([(name.to_string(), array)]))
        };
        let base = with("a", &[2], 0.0);
        assert_eq!(base, with("a", &[2], 0.0));
        for other in [
            with("a", &[2], -0.0),
            with("b", &[2], 0.0),
            with("a", &[1, 2], 0.0),
        ] {
            assert_ne!(base, other);
        }
    }
}
