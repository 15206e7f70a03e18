//! The forms that a file can have.

use selfcls_core::metadata::{InputKind, WeightKind};
use selfcls_export::{ExternalData, FileOptions, HeadSelection, Output};

/// A form and what to call it.
pub(crate) type Form = (&'static str, FileOptions);

fn outputs(chosen: &[Output]) -> Option<std::collections::BTreeSet<Output>> {
    Some(chosen.iter().copied().collect())
}

/// Forms of every network.
pub(crate) fn of_all() -> Vec<Form> {
    let plain = FileOptions::default();
    let opset = |opset| FileOptions {
        opset: Some(opset),
        ..plain.clone()
    };
    vec![
        ("plain", plain.clone()),
        ("opset18", opset(18)),
        ("opset19", opset(19)),
        ("opset20", opset(20)),
        ("opset21", opset(21)),
        (
            "everything",
            FileOptions {
                outputs: outputs(&Output::ALL),
                ..plain.clone()
            },
        ),
        (
            "features",
            FileOptions {
                outputs: outputs(&[Output::Features]),
                ..plain.clone()
            },
        ),
        (
            "second-head",
            FileOptions {
                heads: HeadSelection::Only(vec![1]),
                outputs: outputs(&[Output::Probabilities]),
                ..plain.clone()
            },
        ),
        (
            "batch3",
            FileOptions {
                batch: Some(3),
                ..plain.clone()
            },
        ),
        (
            "uint8",
            FileOptions {
                input: InputKind::Uint8,
                ..plain.clone()
            },
        ),
        (
            "f16",
            FileOptions {
                weights: WeightKind::F16,
                outputs: outputs(&Output::ALL),
                ..plain.clone()
            },
        ),
        (
            "external",
            FileOptions {
                external: ExternalData::Always,
                ..plain.clone()
            },
        ),
        (
            "external-f16",
            FileOptions {
                external: ExternalData::Always,
                weights: WeightKind::F16,
                ..plain
            },
        ),
    ]
}

/// And of residual networks only.
pub(crate) fn of_residual() -> Vec<Form> {
    vec![
        (
            "free-size",
            FileOptions {
                dynamic_size: true,
                ..FileOptions::default()
            },
        ),
        (
            "free-size-uint8",
            FileOptions {
                dynamic_size: true,
                input: InputKind::Uint8,
                ..FileOptions::default()
            },
        ),
    ]
}

/// Files that resize by themselves.
pub(crate) fn that_resize() -> Vec<Form> {
    let any = FileOptions {
        input: InputKind::Any,
        ..FileOptions::default()
    };
    vec![
        ("any", any.clone()),
        (
            "any-opset21",
            FileOptions {
                opset: Some(21),
                ..any.clone()
            },
        ),
        (
            "any-batch2",
            FileOptions {
                batch: Some(2),
                ..any
            },
        ),
    ]
}
