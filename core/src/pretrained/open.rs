//! Weights wherever they are: a run, a checkpoint, a file.

use super::read::read;
use crate::checkpoint::{self, Manifest};
use crate::config::{PretrainedConfig, PretrainedParts};
use crate::weights::StateDict;
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::path::Path;

/// Weights and what is known of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Weights {
    /// Parameters and buffers under our names.
    pub state: StateDict,
    /// Where they are from: `selfcls` or a project of [`LAYOUTS`](super::LAYOUTS).
    pub project: &'static str,
    /// What was knowingly left out, and how many tensors of it.
    pub dropped: BTreeMap<String, usize>,
    /// The manifest, of our own checkpoints.
    pub manifest: Option<Manifest>,
}

/// Opens `path`: a folder is a run or a checkpoint, a file as [`read()`] takes it.
///
/// # Errors
/// As [`checkpoint::load_model`] and [`read()`].
pub fn open(path: &Path, ignore: &[String]) -> Result<Weights> {
    if path.is_file() {
        let weights = read(path, ignore)?;
        return Ok(Weights {
            state: weights.state,
            project: weights.project,
            dropped: weights.dropped,
            manifest: None,
        });
    }
    let (manifest, state) = checkpoint::load_model(&checkpoint::find(path)?)?;
    Ok(Weights {
        state,
        project: "selfcls",
        dropped: BTreeMap::new(),
        manifest: Some(manifest),
    })
}

/// `fresh`, the state of a new model, with the parts that `config` asks for replaced by those of its
/// file. None if no file is configured.
///
/// # Errors
/// If the file cannot be read, or of those parts anything is missing that is not named to be, unexpected or of
/// another shape: all of it is listed.
pub fn select(config: &PretrainedConfig, fresh: StateDict) -> Result<Option<StateDict>> {
    if config.file.is_empty() {
        return Ok(None);
    }
    let path = Path::new(&config.file);
    let weights = open(path, &config.ignored())?;
    merge(fresh, weights.state, config.parts, &config.may_be_missing())
        .map(Some)
        .map_err(|reason| Error::malformed(path, reason))
}

/// `fresh`, the state of a new model, with `backbone` in it.
///
/// # Errors
/// If it does not fit, listing everything.
pub fn with_backbone(fresh: StateDict, backbone: &StateDict) -> Result<StateDict> {
    merge(fresh, backbone.clone(), PretrainedParts::Backbone, &[]).map_err(Error::Checkpoint)
}

fn merge(
    mut fresh: StateDict,
    given: StateDict,
    parts: PretrainedParts,
    may_be_missing: &[String],
) -> Result<StateDict, String> {
    let mut problems = Vec::new();
    let allowed = |name: &str| may_be_missing.iter().any(|start| name.starts_with(start));
    for (name, array) in &fresh {
        if parts.include(name) && !given.contains_key(name) && !allowed(name) {
            problems.push(format!("{name} {:?} is missing", array.shape));
        }
    }
    let only_backbone = !given.keys().any(|name| !name.starts_with("backbone."));
    for (name, array) in given {
        if !parts.include(&name) {
            continue;
        }
        match fresh.get_mut(&name) {
            None => problems.push(format!("{name} is not part of the model")),
            Some(place) if place.shape != array.shape => problems.push(format!(
                "{name} is {:?}, the model needs {:?}",
                array.shape, place.shape
            )),
            Some(place) => *place = array,
        }
    }
    if problems.is_empty() {
        return Ok(fresh);
    }
    let hint = if only_backbone && parts != PretrainedParts::Backbone {
        "; the file holds a backbone only: set pretrained.parts to backbone"
    } else {
        "; set model.* to the model they are of, pretrained.parts to what fits, or name in pretrained.missing what may begin anew"
    };
    Err(format!(
        "these weights do not fit: {}{hint}",
        problems.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::Array;

    fn state(names: &[(&str, f32)]) -> StateDict {
        names
            .iter()
            .map(|&(name, value)| (name.to_string(), Array::new([1], vec![value])))
            .collect()
    }

    #[test]
    fn parts_are_replaced_and_must_fit() {
        let fresh = state(&[("backbone.a", 0.0), ("mlp_head.b", 0.0), ("cls_0.c", 0.0)]);
        let given = state(&[("backbone.a", 1.0), ("mlp_head.b", 2.0), ("cls_0.c", 3.0)]);
        for (parts, expected) in [
            (PretrainedParts::Backbone, [1.0, 0.0, 0.0]),
            (PretrainedParts::Head, [1.0, 2.0, 0.0]),
            (PretrainedParts::All, [1.0, 2.0, 3.0]),
        ] {
            let merged = merge(fresh.clone(), given.clone(), parts, &[]).expect("fits");
            let names = [
                ("backbone.a", expected[0]),
                ("mlp_head.b", expected[1]),
                ("cls_0.c", expected[2]),
            ];
            assert_eq!(merged, state(&names));
        }
        // Classifiers of other sizes do not matter where they are not taken.
        let mut other = given.clone();
        other.insert("cls_0.c".into(), Array::new([2], vec![0.0; 2]));
        other.insert("cls_1.c".into(), Array::new([2], vec![0.0; 2]));
        assert!(merge(fresh.clone(), other.clone(), PretrainedParts::Head, &[]).is_ok());
        let message = merge(fresh.clone(), other, PretrainedParts::All, &[]).expect_err("refused");
        assert!(
            message.contains("cls_0.c is [2]") && message.contains("cls_1.c is not part"),
            "{message}"
        );
        let backbone = state(&[("backbone.a", 1.0)]);
        let message =
            merge(fresh.clone(), backbone.clone(), PretrainedParts::All, &[]).expect_err("refused");
        assert!(
            message.contains("mlp_head.b [1] is missing") && message.contains("backbone only"),
            "{message}"
        );
        // What is named may be missing, and nothing else.
        let named = |names: &str| {
            let config = PretrainedConfig {
                missing: names.into(),
                ..Default::default()
            };
            let (fresh, backbone) = (fresh.clone(), backbone.clone());
            merge(
                fresh,
                backbone,
                PretrainedParts::All,
                &config.may_be_missing(),
            )
        };
        let message = named("cls_").expect_err("the head is not named");
        assert!(!message.contains("cls_0") && message.contains("mlp_head.b"));
        let merged = named("cls_0., mlp_head.").expect("all is named");
        let names = [("backbone.a", 1.0), ("mlp_head.b", 0.0), ("cls_0.c", 0.0)];
        assert_eq!(merged, state(&names));
    }
}
