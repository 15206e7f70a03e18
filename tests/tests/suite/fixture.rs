//! The fixtures: arrays in safetensors, parameters in JSON, weights from an integer hash.

use burn::tensor::{Device, Int, Tensor, TensorData};
use safetensors::{Dtype, SafeTensors};
use selfcls_core::weights::{Array, StateDict};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A file among the fixtures: those of `SELFCLS_FIXTURES` where that is set, for tests that run elsewhere than they were
/// built.
pub(crate) fn path(file: &str) -> PathBuf {
    let folder = std::env::var_os("SELFCLS_FIXTURES").map(PathBuf::from);
    folder
        .unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures"))
        .join(file)
}

/// The arrays of a fixture.
pub(crate) struct Arrays {
    floats: StateDict,
    ints: BTreeMap<String, Vec<i64>>,
}

/// Reads `<name>.safetensors`.
pub(crate) fn arrays(name: &str) -> Arrays {
    let bytes = std::fs::read(path(&format!("{name}.safetensors"))).expect("a fixture");
    let file = SafeTensors::deserialize(&bytes).expect("safetensors");
    let (mut floats, mut ints) = (StateDict::new(), BTreeMap::new());
    for (name, view) in file.tensors() {
        let bytes = view.data();
        match view.dtype() {
            Dtype::F32 => {
                let data = bytes
                    .as_chunks()
                    .0
                    .iter()
                    .map(|&b| f32::from_le_bytes(b))
                    .collect();
                floats.insert(name, Array::new(view.shape(), data));
            }
            Dtype::I64 => {
                let data = bytes
                    .as_chunks()
                    .0
                    .iter()
                    .map(|&b| i64::from_le_bytes(b))
                    .collect();
                ints.insert(name, data);
            }
            Dtype::U16 => {
                let data = bytes
                    .as_chunks()
                    .0
                    .iter()
                    .map(|&b| i64::from(u16::from_le_bytes(b)))
                    .collect();
                ints.insert(name, data);
            }
            other => panic!("{name} is {other:?}"),
        }
    }
    Arrays { floats, ints }
}

/// Reads `<name>.json`.
pub(crate) fn json<T: DeserializeOwned>(name: &str) -> T {
    let text = std::fs::read_to_string(path(&format!("{name}.json"))).expect("a fixture");
    serde_json::from_str(&text).expect("JSON of the expected form")
}

impl Arrays {
    /// The float array `name`.
    pub(crate) fn float(&self, name: &str) -> &Array {
        self.floats
            .get(name)
            .unwrap_or_else(|| panic!("no array {name}"))
    }

    /// The names of the float arrays.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.floats.keys().map(String::as_str)
    }

    /// The integer array `name`.
    pub(crate) fn int(&self, name: &str) -> &[i64] {
        self.ints
            .get(name)
            .unwrap_or_else(|| panic!("no integers {name}"))
    }

    /// Whether there are integers `name`.
    pub(crate) fn has_int(&self, name: &str) -> bool {
        self.ints.contains_key(name)
    }

    /// The float array `name` on a device.
    pub(crate) fn tensor<const D: usize>(&self, name: &str, device: &Device) -> Tensor<D> {
        tensor(self.float(name), device)
    }

    /// The integers `name` on a device.
    pub(crate) fn int_tensor(&self, name: &str, device: &Device) -> Tensor<1, Int> {
        int_tensor(self.int(name), device)
    }
}

/// An array on a device.
pub(crate) fn tensor<const D: usize>(array: &Array, device: &Device) -> Tensor<D> {
    Tensor::from_data(
        TensorData::new(array.data.clone(), array.shape.clone()),
        device,
    )
}

/// Integers on a device.
pub(crate) fn int_tensor(values: &[i64], device: &Device) -> Tensor<1, Int> {
    Tensor::from_data(TensorData::new(values.to_vec(), [values.len()]), device)
}

/// A tensor's values.
pub(crate) fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor
        .into_data()
        .convert::<f32>()
        .try_into_vec()
        .expect("floats")
}

/// A tensor's integers.
pub(crate) fn int_values(tensor: Tensor<1, Int>) -> Vec<i64> {
    tensor
        .into_data()
        .convert::<i64>()
        .try_into_vec()
        .expect("integers")
}

/// Uniform numbers in [-0.5, 0.5) from an integer hash: the i-th of stream k.
fn hash_uniform(k: u64, i: u64) -> f32 {
    let mut z = (k << 32)
        .wrapping_add(i)
        .wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^= z >> 31;
    (z >> 40) as f32 / 16_777_216.0 - 0.5
}

/// The weights that the fixtures of whole models were computed with: a function of each tensor's
/// position in the state dict, its name and its shape.
pub(crate) fn hash_weights(keys: &[(String, Vec<usize>)]) -> StateDict {
    keys.iter()
        .enumerate()
        .filter(|(_, (name, _))| !name.ends_with("num_batches_tracked"))
        .map(|(k, (name, shape))| {
            let count: usize = shape.iter().product();
            let fan_in = count / shape[0];
            let (scale, shift) = if name.ends_with("running_mean") {
                (0.2, 0.0)
            } else if name.ends_with("running_var") {
                (0.5, 1.0)
            } else if name.ends_with("weight_g") {
                (0.4, 1.0)
            } else if name.ends_with("weight_v") {
                (2.0, 0.0)
            } else if name.ends_with("cls_token") || name.ends_with("pos_embed") {
                (0.4, 0.0)
            } else if name.ends_with("bias") {
                (0.2, 0.0)
            } else if shape.len() == 1 {
                (0.4, 1.0)
            } else {
                (2.0 * (6.0 / fan_in as f64).sqrt() as f32, 0.0)
            };
            let data = (0..count as u64)
                .map(|i| shift + scale * hash_uniform(k as u64, i))
                .collect();
            (name.clone(), Array::new(shape.clone(), data))
        })
        .collect()
}

/// The input images of view `view`, `[batch, 3, size, size]`.
pub(crate) fn hash_images(view: u64, batch: usize, size: usize, device: &Device) -> Tensor<4> {
    hash_tensor(1_000_000 + view, [batch, 3, size, size], device)
}

/// Numbers in [-2, 2) from stream `k` of the hash.
pub(crate) fn hash_tensor<const D: usize>(k: u64, shape: [usize; D], device: &Device) -> Tensor<D> {
    let count = shape.iter().product::<usize>() as u64;
    let data = (0..count).map(|i| 4.0 * hash_uniform(k, i)).collect();
    tensor(&Array::new(shape, data), device)
}
