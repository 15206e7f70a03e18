//! Vision transformers against the authors' code, weights and inputs from an integer hash.
//!
//! Tolerances are eight times the float noise between their own f32 and f64 runs (`noise.json`).

use crate::fixture::{arrays, hash_images, hash_tensor, values};
use crate::golden::{Golden, l2, least_scale};
use crate::parity::larger;
use crate::runner::Case;
use burn::module::Module;
use selfcls_core::config::{Arch, ModelConfig};
use selfcls_core::model::{
    Backbone, Context, Noise, SelfClassifier, VisionTransformer, interpolate_positions, state_dict,
    with_state_dict,
};
use serde::Deserialize;
use std::collections::BTreeMap;

/// Values that the fixture has of a gradient, where there are so many.
const FIRST: usize = 8;

#[derive(Deserialize)]
struct First {
    /// Norm and first [`FIRST`] values (or all, if fewer).
    gradients: BTreeMap<String, Vec<f64>>,
}

fn golden(case: &Case) -> Golden<'_, First> {
    let config = ModelConfig {
        backbone: Arch::VitTiny,
        hidden_dim: 512,
        heads: vec![10, 20],
        ..Default::default()
    };
    Golden::new(case, "vit_tiny", 2, &config)
}

/// The class token and the first two patches, positions added.
fn first_tokens(golden: &Golden<'_, First>, transformer: &VisionTransformer, size: usize) {
    let tokens = transformer.tokens(golden.images(size), &golden.evaluation());
    let batch = tokens.dims()[0];
    let first = tokens.slice([0..batch, 0..3]);
    let name = format!("tokens_first3.{size}");
    golden.close(&name, first, golden.noise.evaluation());
}

/// Every eighth channel of the position embedding at `size`.
fn positions(golden: &Golden<'_, First>, transformer: &VisionTransformer, size: usize) {
    let side = size / 16;
    let positions = values(transformer.positions([side, side], &*golden.case.runtime.kernels));
    let kept: Vec<f32> = positions.into_iter().step_by(8).collect();
    let name = format!("pos.{size}");
    let expected = &golden.arrays.float(&name).data;
    let tolerance = golden.noise.evaluation();
    golden.case.close(&name, &kept, expected, tolerance);
}

fn transformer(model: &SelfClassifier) -> &VisionTransformer {
    match &model.backbone {
        Backbone::Transformer(transformer) => transformer,
        Backbone::ResNet(_) => panic!("not a transformer"),
    }
}

/// 64 pixels square and 96 by 64: features, embeddings and logits, tokens, positions.
pub(crate) fn small_images_in_evaluation(case: &Case) {
    let golden = golden(case);
    golden.evaluate(64);
    let model = golden.model.valid();
    let transformer = transformer(&model);
    positions(&golden, transformer, 64);
    positions(&golden, transformer, 96);
    first_tokens(&golden, transformer, 64);
    let context = Context::evaluation(&*case.runtime.kernels);
    let device = &case.runtime.device;
    let oblong = hash_tensor(1_000_000, [1, 3, 96, 64], device);
    let features = model.backbone.forward(oblong, &context);
    golden.close("backbone.96x64", features, golden.noise.evaluation());
}

/// 224 pixels, for which the positions are laid out, and 96.
pub(crate) fn large_images_in_evaluation(case: &Case) {
    let golden = golden(case);
    golden.evaluate(224);
    golden.evaluate(96);
    let model = golden.model.valid();
    let transformer = transformer(&model);
    first_tokens(&golden, transformer, 224);
    first_tokens(&golden, transformer, 96);
    // Theirs leave the positions as they are there: the fixture's difference is 0.
    let positions = values(transformer.positions([14, 14], &*case.runtime.kernels));
    let table = values(transformer.pos_embed.val());
    case.close("pos.224", &positions, &table, 0.0);
}

/// Two views at 64 pixels, two at 32: embeddings, loss and the gradient of every parameter, by its norm
/// and its first values.
pub(crate) fn multi_view_step(case: &Case) {
    let golden = golden(case);
    let found = golden.step([64, 32]).gradients;
    let expected = &golden.more.gradients;
    assert!(found.keys().eq(expected.keys()), "every parameter has one");
    let least = least_scale(expected.values().map(|values| values[0]));
    for (name, expected) in expected {
        let actual = &found[name];
        let scale = expected[0].max(least);
        let (norm, first) = (expected[0], &expected[1..]);
        assert_eq!(actual.len().min(FIRST), first.len(), "{name}");
        let pairs = actual.iter().zip(first);
        let differences = pairs.map(|(&a, e)| (f64::from(a) - e).abs());
        let error = differences.chain([(l2(actual) - norm).abs()]);
        let error = error.map(|e| (e / scale) as f32).fold(0.0, larger);
        let what = format!("gradient of {name}");
        case.close_to_zero(&what, error.into(), golden.noise.gradients());
    }
}

/// Grids of 5x5 and 2x2 stretched and shrunk, oblong too.
pub(crate) fn positions_at_other_sizes(case: &Case) {
    let expected = arrays("positions");
    let device = &case.runtime.device;
    for (grid, rows, columns) in [(5, 2, 9), (5, 5, 4), (5, 5, 6), (5, 11, 5), (2, 3, 1)] {
        // The fixture's values are a tenth of the hash's range.
        let positions = hash_tensor(grid as u64, [1, 1 + grid * grid, 3], device).mul_scalar(0.1);
        let resampled =
            interpolate_positions(positions, grid, [rows, columns], &*case.runtime.kernels);
        assert_eq!(resampled.dims(), [1, 1 + rows * columns, 3]);
        let name = format!("{grid}.{rows}x{columns}");
        let expected = &expected.float(&name).data;
        case.close(&name, &values(resampled), expected, 1e-6);
    }
}

/// In training, equal noise gives equal embeddings, another step or pass others; evaluation draws nothing.
pub(crate) fn drop_path_repeats_itself(case: &Case) {
    let config = ModelConfig {
        backbone: Arch::VitTiny,
        width: 16,
        depth: 3,
        patch_size: 8,
        position_size: 16,
        drop_path: 0.5,
        head_layers: 0,
        dim: 16,
        heads: vec![2],
        ..Default::default()
    };
    let device = &case.runtime.device;
    let model = config.init(device, 1);
    let kernels = &*case.runtime.kernels;
    let images = hash_images(0, 8, 16, device);
    let features = |context: &Context<'_>| values(model.backbone.forward(images.clone(), context));
    let train = |noise| features(&Context::training(kernels, noise));
    let noise = Noise::new(1, 7, 0);
    let first = train(noise);
    case.close("the same noise", &train(noise), &first, 1e-5);
    let unlike = |other: &[f32]| {
        let rows = first.chunks(16).zip(other.chunks(16));
        rows.filter(|(a, b)| a.iter().zip(*b).any(|(a, b)| (a - b).abs() > 1e-3))
            .count()
    };
    assert!(unlike(&train(Noise::new(1, 8, 0))) > 0, "another step");
    assert!(unlike(&train(noise.next_pass())) > 0, "another pass");
    // Six branches, of which the first block's two are always kept: some samples keep all, some do not.
    let still = features(&Context::evaluation(kernels));
    assert!((1..=8).contains(&unlike(&still)), "{}", unlike(&still));

    let without = ModelConfig {
        drop_path: 0.0,
        ..config.clone()
    };
    let plain = without.init(device, 1).backbone;
    let plain = plain.forward(images.clone(), &Context::training(kernels, noise));
    case.close("nothing dropped", &values(plain), &still, 1e-5);
}

/// In training each block's branches are skipped at its own rate: 0, a half and all of `drop_path`. Only one branch of
/// the network does anything, so a sample that skips it looks as if nothing did.
pub(crate) fn each_block_drops_its_share(case: &Case) {
    const SAMPLES: usize = 2000;
    let config = ModelConfig {
        backbone: Arch::VitTiny,
        width: 8,
        depth: 3,
        patch_size: 8,
        position_size: 8,
        drop_path: 0.5,
        head_layers: 0,
        dim: 8,
        heads: vec![2],
        ..Default::default()
    };
    let device = &case.runtime.device;
    let fresh = config.init(device, 1);
    let context = Context::training(&*case.runtime.kernels, Noise::new(3, 5, 0));
    // The same patch everywhere: what is skipped alone tells samples apart.
    let images = hash_images(0, 1, 8, device).expand([SAMPLES, 3, 8, 8]);
    let features = |only: &str| -> Vec<f32> {
        let mut state = state_dict(&fresh);
        for (name, array) in &mut state {
            let ends_branch = name.contains(".attn.proj.") || name.contains(".mlp.fc2.");
            if ends_branch && !name.starts_with(only) {
                array.data.fill(0.0);
            } else if ends_branch && name.ends_with("weight") {
                array.data.iter_mut().for_each(|x| *x *= 100.0);
            }
        }
        let model = with_state_dict(fresh.clone(), &state).expect("its own names");
        values(model.backbone.forward(images.clone(), &context))
    };
    let idle = features("none");
    for (block, rate) in [(0, 0.0), (1, 0.25), (2, 0.5)] {
        for branch in ["attn", "mlp"] {
            let active = features(&format!("backbone.blocks.{block}.{branch}"));
            let rows = active.chunks(8).zip(idle.chunks(8));
            let skipped = rows
                .filter(|(a, b)| a.iter().zip(*b).all(|(a, b)| (a - b).abs() < 1e-5))
                .count() as f64;
            let share = skipped / SAMPLES as f64;
            let deviation = (rate * (1.0 - rate) / SAMPLES as f64).sqrt();
            assert!(
                (share - rate).abs() <= 4.0 * deviation,
                "block {block}, {branch}: {share} skipped, {rate} expected"
            );
        }
    }
}
