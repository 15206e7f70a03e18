//! The other ways to train, with one, two and four processes: optimisers, precisions, recomputation, and batch
//! statistics of groups.

use crate::binary_for;
use crate::equality::{Limits, apart, assert_within, newest};
use crate::start::{Place, config};
use selfcls_core::Config;
use selfcls_core::config::{OptimKind, Precision};
use selfcls_core::model::is_buffer;

fn equal_one(name: &str, config: &Config, limits: Limits) {
    let Some(binary) = binary_for(name) else {
        return;
    };
    let place = Place::new(binary);
    place.train("alone", config, 1);
    for world in [2, 4] {
        let run = format!("of-{world}");
        place.train(&run, config, world);
        let what = format!("{name}, {world} processes");
        assert_within(limits, &what, &place.path(&run), &place.path("alone"));
    }
}

/// As with SGD.
const F32: Limits = Limits {
    values: 1e-5,
    weights: 1e-4,
};

/// It divides by norms, and is blind to the size of a gradient. All gradients travel together.
#[test]
fn larc() {
    let mut config = config();
    config.train.bucket_mib = Config::default().train.bucket_mib;
    config.optim.kind = OptimKind::Larc;
    equal_one("variants::larc", &config, F32);
}

/// It divides by each gradient's own size: one that is nothing but rounding would take a full step in a random
/// direction, as that of a bias before batch normalisation does.
#[test]
fn adamw() {
    for kind in [OptimKind::AdamW, OptimKind::LarcAdamW] {
        let mut config = config();
        config.optim.kind = kind;
        config.model.head_bn = false;
        equal_one("variants::adamw", &config, ADAM);
    }
}

/// Measured: queue 1.1e-5, weights and moments 8e-6.
const ADAM: Limits = Limits {
    values: 5e-5,
    weights: 5e-4,
};

/// Groups of samples that the loss compares alone lie within the share of one of two processes, and are the shares of
/// two of four; what would cut through a share is refused by all.
#[test]
fn groups_of_the_loss() {
    let mut config = config();
    config.train.batch_size = 12;
    config.queue.length = 24;
    config.loss.group = 6;
    equal_one("variants::groups_of_the_loss", &config, F32);
    let Some(binary) = binary_for("variants::groups_of_the_loss") else {
        return;
    };
    let place = Place::new(binary);
    config.loss.group = 4;
    let ranks = place.start("cut", &config, 2, |_| Some(Vec::new()));
    for ended in ranks.wait() {
        let said = &ended.stderr;
        assert_eq!(ended.status.code(), Some(2), "{said}");
        assert!(said.contains("loss.group = 4 cuts"), "{said}");
    }
}

#[test]
fn recomputation() {
    let mut config = config();
    config.train.recompute = true;
    equal_one("variants::recomputation", &config, F32);
}

/// Neighbours replace nothing: among embeddings that are so close, rounding would decide who is the nearest.
fn half(precision: Precision) -> Config {
    let mut config = config();
    config.train.precision = precision;
    config.queue.replace = false;
    config.train.epochs = 1;
    config
}

/// The last bit is 4e-3 of a value, and a rounding of f32 decides now and then which way it goes: so runs are compared
/// with what the precision itself changes.
#[test]
fn bf16() {
    let Some(binary) = binary_for("variants::bf16") else {
        return;
    };
    let place = Place::new(binary);
    place.train("exact", &half(Precision::F32), 1);
    place.train("noisy", &half(Precision::Bf16), 1);
    let noise = apart(&place.path("noisy"), &place.path("exact"));
    let limits = Limits {
        values: 2.0 * noise.values,
        weights: 2.0 * noise.weights,
    };
    equal_one("variants::bf16", &half(Precision::Bf16), limits);
}

/// The first scales overflow: all skip the same steps and arrive at the same scale. Measured: 4e-3.
#[test]
fn fp16() {
    let limits = Limits {
        values: 2e-2,
        weights: 2e-2,
    };
    equal_one("variants::fp16", &half(Precision::Fp16), limits);
}

/// Pairs of four ranks share their statistics: what two ranks do that keep theirs to themselves, and another
/// training than that with shared ones.
#[test]
fn groups_share_batch_statistics() {
    let Some(binary) = binary_for("variants::groups_share_batch_statistics") else {
        return;
    };
    let place = Place::new(binary);
    let mut config = config();
    config.train.batch_size = 12;
    config.queue.length = 24;
    let mut train = |run: &str, world: usize, size: usize| {
        config.train.syncbn_group_size = size;
        place.train(run, &config, world);
        place.path(run)
    };
    let pairs = train("pairs", 4, 2);
    let apart = train("apart", 2, 1);
    let whole = train("whole", 2, 0);
    assert_within(F32, "pairs", &pairs, &apart);
    let (ours, theirs) = (newest(&pairs).model, newest(&whole).model);
    let differs = theirs
        .iter()
        .filter(|(name, _)| is_buffer(name))
        .any(|(name, array)| {
            let pairs = ours[name].data.iter().zip(&array.data);
            pairs.into_iter().any(|(a, b)| (a - b).abs() > 1e-3)
        });
    assert!(differs, "groups have statistics of their own");
}
