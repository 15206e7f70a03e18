//! A vision transformer small enough for every backend, forwards and backwards, against PyTorch in f64
//! (`fixtures/make_vit_small.py`).
//!
//! Tolerances are eight times the float noise between that script's f32 and f64 (`noise.json`).

use crate::golden::{Golden, Nothing, l2, least_scale};
use crate::parity::larger;
use crate::runner::Case;
use selfcls_core::config::{Arch, ModelConfig};
use std::collections::BTreeMap;

fn golden(case: &Case) -> Golden<'_, Nothing> {
    let config = ModelConfig {
        backbone: Arch::VitTiny,
        width: 16,
        depth: 2,
        patch_size: 8,
        position_size: 16,
        hidden_dim: 24,
        dim: 8,
        heads: vec![5, 7],
        ..Default::default()
    };
    Golden::new(case, "vit_small", 4, &config)
}

/// The size that positions are laid out for, and a larger one: features, embeddings, logits.
pub(crate) fn evaluation(case: &Case) {
    let golden = golden(case);
    for size in [16, 24] {
        golden.evaluate(size);
    }
}

/// Two views at 16 pixels, two at 8: embeddings, loss, and every value of every gradient.
pub(crate) fn multi_view_step(case: &Case) {
    let golden = golden(case);
    let found = golden.step([16, 8]).gradients;
    let expected = golden.arrays.names().filter_map(|name| {
        let parameter = name.strip_prefix("grad.")?;
        Some((parameter, &*golden.arrays.float(name).data))
    });
    let expected: BTreeMap<&str, &[f32]> = expected.collect();
    let names = found.keys().map(String::as_str);
    assert!(names.eq(expected.keys().copied()));
    let least = least_scale(expected.values().map(|values| l2(values)));
    for (name, expected) in expected {
        let scale = l2(expected).max(least);
        assert_eq!(found[name].len(), expected.len(), "{name}");
        let pairs = found[name].iter().zip(expected);
        let error = pairs.map(|(&a, &e)| (a - e).abs()).fold(0.0, larger);
        let what = format!("gradient of {name}");
        case.close_to_zero(&what, f64::from(error) / scale, golden.noise.gradients());
    }
}
