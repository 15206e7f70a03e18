//! Our weights as other programs read them.

use super::pickle::Writer;
use super::torch::{Content, torch_file};
use crate::weights::{self, Array, StateDict};
use crate::{Error, Result};

/// Which part of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The backbone under its own names, without `backbone.`: what torchvision's models have.
    Backbone,
    /// Backbone, head and classifiers.
    Whole,
}

/// A `.pth` file that `torch.load(..., weights_only=True)` opens. Of the backbone it is what
/// `torchvision.models.resnet18()` and the like take with `load_state_dict(..., strict=True)` once
/// their `fc` is an `nn.Identity()`. The whole model is laid out as the authors' checkpoints are, which their
/// scripts take with `--pretrained`: under `state_dict`, with `module.` before every name.
///
/// # Errors
/// If `state` has no backbone.
pub fn torchvision(state: &StateDict, part: Part) -> Result<Vec<u8>> {
    let (container, prefix) = match part {
        Part::Backbone => (None, ""),
        Part::Whole => (Some("state_dict"), "module."),
    };
    let mut entries = Vec::new();
    for (name, array) in select(state, part)? {
        let name = format!("{prefix}{name}");
        // Batch normalisation counts its batches; that count, which we do not keep, has no effect
        // unless momentum is switched off, but `strict=True` wants it.
        let counter = name
            .strip_suffix("running_var")
            .map(|start| format!("{start}num_batches_tracked"));
        entries.push((name, Content::Floats(array)));
        entries.extend(counter.map(|name| (name, Content::Integer(0))));
    }
    torch_file(&entries, container)
        .map_err(|error| Error::Checkpoint(format!("cannot write a .pth file: {error}")))
}

/// A safetensors file.
///
/// # Errors
/// If `state` has no backbone.
pub fn safetensors(state: &StateDict, part: Part) -> Result<Vec<u8>> {
    let selected = select(state, part)?;
    let arrays = selected.iter().map(|(name, array)| (name.as_str(), *array));
    weights::safetensors(arrays, None)
}

/// A `.pkl` file for `MODEL.WEIGHTS` of detectron2: a residual backbone as numpy arrays, renamed as in
/// MoCo's `convert-pretrain-to-detectron2.py`.
///
/// # Errors
/// If `state` has no residual backbone.
pub fn detectron2(state: &StateDict) -> Result<Vec<u8>> {
    let backbone = select(state, Part::Backbone)?;
    if let Some((name, _)) = backbone.iter().find(|(name, _)| {
        !["conv1.", "bn1.", "layer"]
            .iter()
            .any(|start| name.starts_with(start))
    }) {
        return Err(Error::Checkpoint(format!(
            "{name} is not of a ResNet; detectron2's own backbones are, and no other can be written for it"
        )));
    }
    let mut pickle = Writer::new(3);
    pickle.empty_dict().mark().text("model").empty_dict().mark();
    for (name, array) in backbone {
        pickle.text(&detectron2_name(&name));
        numpy(&mut pickle, array);
    }
    pickle.set_items();
    pickle.text("__author__").text("selfcls");
    pickle.text("matching_heuristics").bool(true);
    pickle.set_items();
    Ok(pickle.finish())
}

/// `layer1.0.downsample.1.weight` to `res2.0.shortcut.norm.weight`, `bn1.bias` to `stem.conv1.norm.bias`.
fn detectron2_name(name: &str) -> String {
    let mut name = name.to_string();
    if !name.starts_with("layer") {
        name = format!("stem.{name}");
    }
    for stage in (1..=4).rev() {
        name = name.replace(&format!("layer{stage}."), &format!("res{}.", stage + 1));
    }
    for number in 1..=3 {
        name = name.replace(&format!("bn{number}."), &format!("conv{number}.norm."));
    }
    name.replace("downsample.0.", "shortcut.")
        .replace("downsample.1.", "shortcut.norm.")
}

/// `numpy.ndarray`, as numpy pickles itself.
fn numpy(pickle: &mut Writer, array: &Array) {
    pickle
        .global("numpy.core.multiarray", "_reconstruct")
        .mark()
        .global("numpy", "ndarray")
        .sizes(&[0])
        .bytes(b"b")
        .tuple()
        .call();
    // (version, shape, dtype, Fortran order, bytes)
    pickle.mark().size(1).sizes(&array.shape);
    pickle
        .global("numpy", "dtype")
        .mark()
        .text("f4")
        .bool(false)
        .bool(true)
        .tuple()
        .call();
    // (version, byte order, ...)
    pickle.mark().size(3).text("<").none().none().none();
    pickle.int(-1).int(-1).size(0).tuple().build();
    pickle
        .bool(false)
        .bytes(&little_endian(array))
        .tuple()
        .build();
}

/// The arrays of a part, under the names they have outside.
fn select(state: &StateDict, part: Part) -> Result<Vec<(String, &Array)>> {
    if !state.keys().any(|name| name.starts_with("backbone.")) {
        return Err(Error::Checkpoint("the weights have no backbone".into()));
    }
    let selected = state.iter().filter_map(|(name, array)| match part {
        Part::Backbone => Some((name.strip_prefix("backbone.")?.to_string(), array)),
        Part::Whole => Some((name.clone(), array)),
    });
    Ok(selected.collect())
}

fn little_endian(array: &Array) -> Vec<u8> {
    array.data.iter().flat_map(|x| x.to_le_bytes()).collect()
}
