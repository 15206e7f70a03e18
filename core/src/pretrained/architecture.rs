//! What the shapes of weights tell about the model they are of.

use crate::config::ModelConfig;
use crate::weights::StateDict;
use crate::{Error, Result};
use std::collections::BTreeSet;

/// The configuration of the model that `state` is of: `base`, with everything replaced that names and
/// shapes decide. They do not tell LeakyReLU from ReLU, nor the stride of a 3x3 stem (taken as `base`
/// says, or 1), nor whether classifiers were fixed.
///
/// Without a head or classifiers in `state` those of `base` stay.
///
/// # Errors
/// If the backbone is none that this version has.
pub fn architecture(state: &StateDict, base: &ModelConfig) -> Result<ModelConfig> {
    let fail = |reason: String| Error::Checkpoint(format!("the weights {reason}"));
    let mut table = toml::Table::try_from(base).map_err(|error| fail(error.to_string()))?;
    let mut set = |key: &str, value: toml::Value| {
        table.insert(key.into(), value);
    };
    if has(state, "backbone.patch_embed.") {
        vision_transformer(state, &mut set).map_err(fail)?;
    } else {
        residual(state, base, &mut set).map_err(fail)?;
    }
    head(state, &mut set);
    let classifiers: Vec<toml::Value> = (0..)
        .map_while(|head| shape(state, &format!("cls_{head}.weight_v")))
        .map(|shape| integer(shape.first().copied().unwrap_or_default()))
        .collect();
    if !classifiers.is_empty() {
        set("heads", classifiers.into());
    }
    table.try_into().map_err(|error: toml::de::Error| {
        fail(format!(
            "are of a model that this version does not have: {}",
            error.message()
        ))
    })
}

fn residual(
    state: &StateDict,
    base: &ModelConfig,
    set: &mut impl FnMut(&str, toml::Value),
) -> Result<(), String> {
    let Some(stem) = shape(state, "backbone.conv1.weight").filter(|shape| shape.len() == 4) else {
        return Err(
            "have no backbone.conv1.weight and no backbone.patch_embed: of no known backbone"
                .into(),
        );
    };
    let blocks: Vec<usize> = (1..=4)
        .map(|stage| numbers(state, &format!("backbone.layer{stage}.")).len())
        .collect();
    let inner = shape(state, "backbone.layer1.0.conv2.weight").filter(|shape| shape.len() == 4);
    let bottleneck = has(state, "backbone.layer1.0.conv3.");
    // How much wider than the stem the 3x3 convolution of a bottleneck is, and its groups.
    let (factor, groups) = match inner {
        Some(inner) if bottleneck => (inner[0] / stem[0].max(1), inner[0] / inner[1].max(1)),
        _ => (1, 1),
    };
    let name = match (blocks.as_slice(), bottleneck, factor, groups) {
        ([1, 1, 1, 1], false, ..) => "resnet10",
        ([2, 2, 2, 2], false, ..) => "resnet18",
        ([3, 4, 6, 3], false, ..) => "resnet34",
        ([3, 4, 6, 3], true, 1, 1) => "resnet50",
        ([3, 4, 23, 3], true, 1, 1) => "resnet101",
        ([3, 8, 36, 3], true, 1, 1) => "resnet152",
        ([3, 4, 6, 3], true, 2, 1) => "wide_resnet50_2",
        ([3, 4, 23, 3], true, 2, 1) => "wide_resnet101_2",
        ([3, 4, 6, 3], true, 2, 32) => "resnext50_32x4d",
        ([3, 4, 23, 3], true, 4, 32) => "resnext101_32x8d",
        ([3, 4, 23, 3], true, 4, 64) => "resnext101_64x4d",
        _ => {
            return Err(format!(
                "have {blocks:?} blocks in the four stages, of {factor} times the width in {groups} groups: of no known ResNet"
            ));
        }
    };
    set("backbone", name.into());
    set("width", integer(stem[0]));
    match (stem[2], base.stem) {
        (7, _) => set("stem", "image-net".into()),
        (3, crate::config::Stem::ImageNet) => set("stem", "cifar".into()),
        (3, _) => {}
        (kernel, _) => {
            return Err(format!(
                "have a stem of {kernel}x{kernel}; 7x7 and 3x3 are known"
            ));
        }
    }
    Ok(())
}

fn vision_transformer(
    state: &StateDict,
    set: &mut impl FnMut(&str, toml::Value),
) -> Result<(), String> {
    let patch = shape(state, "backbone.patch_embed.proj.weight").filter(|shape| shape.len() == 4);
    let positions = shape(state, "backbone.pos_embed").filter(|shape| shape.len() == 3);
    let (Some(patch), Some(positions)) = (patch, positions) else {
        return Err("have no patch embedding or positions of the usual shapes".into());
    };
    let (width, size) = (patch[0], patch[2]);
    // One position is the class token's.
    let side = ((positions[1].saturating_sub(1)) as f64).sqrt().round() as usize;
    let name = match width {
        0..288 => "vit_tiny",
        288..576 => "vit_small",
        _ => "vit_base",
    };
    set("backbone", name.into());
    set("width", integer(width));
    set("depth", integer(numbers(state, "backbone.blocks.").len()));
    set("patch_size", integer(size));
    set("position_size", integer(side * size));
    Ok(())
}

fn head(state: &StateDict, set: &mut impl FnMut(&str, toml::Value)) {
    let mut layers: Vec<(usize, &[usize])> = state
        .iter()
        .filter_map(|(name, array)| {
            // A single layer has no number.
            let number = match name.strip_prefix("mlp_head.mlp.")? {
                "weight" => 0,
                layer => layer.strip_suffix(".weight")?.parse().ok()?,
            };
            (array.shape.len() == 2).then_some((number, array.shape.as_slice()))
        })
        .collect();
    layers.sort_unstable();
    let classifier = shape(state, "cls_0.weight_v");
    match (layers.first(), layers.last()) {
        (Some((_, first)), Some((_, last))) => {
            set("head_layers", integer(layers.len()));
            set("dim", integer(last[0]));
            if layers.len() > 1 {
                set("hidden_dim", integer(first[0]));
                let norm = state
                    .keys()
                    .any(|name| name.starts_with("mlp_head.") && name.ends_with(".running_mean"));
                set("head_bn", norm.into());
            }
        }
        _ => {
            if let Some(&[_, dim]) = classifier {
                set("head_layers", integer(0));
                set("dim", integer(dim));
            }
        }
    }
}

fn integer(value: usize) -> toml::Value {
    // Invariant: lengths of axes of arrays in memory fit i64.
    toml::Value::Integer(value as i64)
}

fn has(state: &StateDict, prefix: &str) -> bool {
    state.keys().any(|name| name.starts_with(prefix))
}

fn shape<'a>(state: &'a StateDict, name: &str) -> Option<&'a [usize]> {
    state.get(name).map(|array| array.shape.as_slice())
}

/// The numbers that follow `prefix`.
fn numbers(state: &StateDict, prefix: &str) -> BTreeSet<usize> {
    state
        .keys()
        .filter_map(|name| name.strip_prefix(prefix)?.split('.').next()?.parse().ok())
        .collect()
}
