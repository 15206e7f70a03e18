//! Where a linear evaluation stands, in a file that is replaced as a whole.
//!
//! The file is safetensors: parameters and buffers under their names, the optimiser's moments as `optimizer:NAME`, and
//! in the header the entry `selfcls.linear`, JSON with everything else and the digest of the tensors.

use super::{EpochResult, LinearConfig};
use crate::checkpoint::OptimizerState;
use crate::weights::{self, Array, StateDict};
use crate::{Error, Result, atomic};
use safetensors::tensor::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

const ENTRY: &str = "selfcls.linear";
const MOMENT: &str = "optimizer:";

/// Everything of an evaluation in progress that is not an array.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Position {
    /// The settings it was begun with.
    pub(super) config: LinearConfig,
    /// What is evaluated on what: see [`Linear`](super::Linear).
    pub(super) subject: String,
    /// Complete epochs.
    pub(super) epochs: Vec<EpochResult>,
    /// Steps made in the epoch that is not complete.
    pub(super) steps: usize,
    /// Sum of the losses of that epoch's samples so far, and their number.
    pub(super) loss: (f64, usize),
    /// Updates made by the optimiser, per parameter.
    pub(super) updates: BTreeMap<String, usize>,
    /// [`weights::digest`] of all tensors.
    sha256: String,
}

impl Position {
    pub(super) fn new(config: &LinearConfig, subject: &str) -> Self {
        Self {
            config: config.clone(),
            subject: subject.to_string(),
            epochs: Vec::new(),
            steps: 0,
            loss: (0.0, 0),
            updates: BTreeMap::new(),
            sha256: String::new(),
        }
    }
}

/// A position with its arrays.
pub(super) struct State {
    pub(super) position: Position,
    pub(super) weights: StateDict,
    pub(super) optimizer: OptimizerState,
}

impl State {
    pub(super) fn save(&self, path: &Path) -> Result<()> {
        let mut arrays = self.weights.clone();
        for (name, array) in &self.optimizer.moments {
            arrays.insert(format!("{MOMENT}{name}"), array.clone());
        }
        let mut position = self.position.clone();
        position.updates = self.optimizer.steps.clone();
        position.sha256 = weights::digest(&arrays);
        let text = serde_json::to_string(&position)
            .map_err(|error| Error::malformed(path, format!("cannot write it: {error}")))?;
        let header = HashMap::from([(ENTRY.to_string(), text)]);
        let arrays = arrays.iter().map(|(name, array)| (name.as_str(), array));
        atomic::write(path, &weights::safetensors(arrays, Some(header))?)
    }

    pub(super) fn load(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
        let fail = |error: &dyn std::fmt::Display| {
            Error::malformed(
                path,
                format!(
                    "not the state of a linear evaluation: {error}; remove it to start anew, or choose another --out"
                ),
            )
        };
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|error| fail(&error))?;
        let entries = header.metadata().as_ref();
        let text = entries
            .and_then(|entries| entries.get(ENTRY))
            .ok_or_else(|| fail(&format!("its header has no {ENTRY}")))?;
        let position: Position = serde_json::from_str(text).map_err(|error| fail(&error))?;
        let file = SafeTensors::deserialize(&bytes).map_err(|error| fail(&error))?;
        let mut all = StateDict::new();
        for (name, view) in file.tensors() {
            if view.dtype() != Dtype::F32 {
                return Err(fail(&format!("{name} is {:?}", view.dtype())));
            }
            let (words, _) = view.data().as_chunks();
            let values = words.iter().map(|&word| f32::from_le_bytes(word)).collect();
            all.insert(name, Array::new(view.shape(), values));
        }
        if weights::digest(&all) != position.sha256 {
            return Err(fail(&"its SHA-256 is another, the file is damaged"));
        }
        let (mut weights, mut moments) = (StateDict::new(), StateDict::new());
        for (name, array) in all {
            match name.strip_prefix(MOMENT) {
                Some(name) => moments.insert(name.to_string(), array),
                None => weights.insert(name, array),
            };
        }
        let optimizer = OptimizerState {
            moments,
            steps: position.updates.clone(),
        };
        Ok(Self {
            position,
            weights,
            optimizer,
        })
    }
}

/// Writes the trained part under torchvision's names: `fc.weight`, and of a trained backbone `conv1.weight`, so that
/// PyTorch and every command that takes weights can read it.
pub(super) fn save_weights(path: &Path, weights: &StateDict) -> Result<()> {
    let transformer = weights.contains_key("backbone.cls_token");
    let renamed = weights.iter().map(|(name, array)| {
        let name = name.strip_prefix("backbone.").unwrap_or(name);
        let name = match name.strip_prefix("fc.") {
            Some(rest) if transformer => format!("head.{rest}"),
            _ => name.to_string(),
        };
        (name, array.clone())
    });
    let renamed: StateDict = renamed.collect();
    let arrays = renamed.iter().map(|(name, array)| (name.as_str(), array));
    atomic::write(path, &weights::safetensors(arrays, None)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        let array = |values: &[f32]| Array::new([values.len()], values.to_vec());
        let mut position = Position::new(&LinearConfig::default(), "a model");
        position.steps = 3;
        position.loss = (1.5, 7);
        State {
            position,
            weights: StateDict::from([("fc.bias".to_string(), array(&[1.0, -2.0]))]),
            optimizer: OptimizerState {
                moments: StateDict::from([("fc.bias#0".to_string(), array(&[0.5, 0.25]))]),
                steps: BTreeMap::from([("fc.bias".to_string(), 3)]),
            },
        }
    }

    #[test]
    fn what_was_saved_is_loaded_and_damage_is_seen() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("state.safetensors");
        let saved = state();
        saved.save(&path).expect("saves");
        let loaded = State::load(&path).expect("loads");
        assert_eq!(loaded.weights, saved.weights);
        assert_eq!(loaded.optimizer, saved.optimizer);
        assert_eq!((loaded.position.steps, loaded.position.loss), (3, (1.5, 7)));
        let good = std::fs::read(&path).expect("bytes");
        let mut flipped = good.clone();
        let last = flipped.len() - 1;
        flipped[last] ^= 1;
        for bytes in [&flipped[..], &good[..good.len() - 1], &good[..9], &[]] {
            std::fs::write(&path, bytes).expect("written");
            let error = State::load(&path).err().expect("refused").to_string();
            assert!(
                error.contains("state.safetensors") && error.contains("remove it"),
                "{error}"
            );
        }
    }
}
