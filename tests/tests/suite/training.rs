//! The training step as a whole.

use crate::fixture::{hash_images, int_tensor, values};
use crate::runner::Case;
use burn::tensor::Tensor;
use selfcls_core::Config;
use selfcls_core::config::{Arch, ModelConfig, OptimKind, Stem};
use selfcls_core::model::{ViewBatch, is_buffer, state_dict, with_state_dict};
use selfcls_core::train::{Batch, Learner};

const BATCH: usize = 4;

/// A small network with a queue of two batches.
fn config() -> Config {
    let mut config = Config::default();
    config.model.backbone = Arch::ResNet10;
    config.model.stem = Stem::CifarStride2;
    config.model.width = 2;
    config.model.hidden_dim = 8;
    config.model.dim = 4;
    config.model.heads = vec![3, 5];
    config.queue.length = 2 * BATCH;
    config
}

/// Two global views and a local one of four samples that are new in each step.
fn batch(case: &Case, step: u64) -> Batch {
    let device = &case.runtime.device;
    let view = |index: u64, size| hash_images(10 * step + index, BATCH, size, device);
    let first = step as i64 * BATCH as i64;
    let ints: Vec<i64> = (first..first + BATCH as i64).collect();
    Batch {
        views: ViewBatch {
            global: Tensor::cat(vec![view(0, 16), view(1, 16)], 0),
            local: Some(view(2, 8)),
        },
        indices: int_tensor(&ints, device),
        labels: int_tensor(&ints, device),
    }
}

/// Three steps with a queue that fills after the second: finite losses, neighbours from then on, and
/// every parameter and running statistic changed.
pub(crate) fn a_step_moves_every_parameter(case: &Case) {
    let mut learner = Learner::new(&config(), case.runtime.clone());
    let before = state_dict(learner.model());
    for step in 0..3 {
        let output = learner.step(batch(case, step), 0.1).expect("a step");
        assert!(values(output.loss)[0].is_finite());
        assert_eq!(output.assigned.dims(), [BATCH]);
        assert_eq!(
            output.neighbour_accuracy.is_some(),
            step == 2,
            "step {step}"
        );
    }
    let after = state_dict(learner.model());
    for (name, array) in &before {
        assert_ne!(array, &after[name], "{name} did not change");
        assert!(after[name].data.iter().all(|x| x.is_finite()), "{name}");
    }
    assert!(before.keys().any(|name| is_buffer(name)));
}

/// Fixed classifiers keep their bits, weight decay or not, also when the weights came from a checkpoint;
/// the rest learns.
pub(crate) fn fixed_classifiers_stay(case: &Case) {
    let mut config = config();
    config.model.fixed_classifiers = true;
    config.optim.weight_decay = 0.1;
    for kind in [OptimKind::Sgd, OptimKind::Larc, OptimKind::AdamW] {
        config.optim.kind = kind;
        let mut learner = Learner::new(&config, case.runtime.clone());
        let before = state_dict(learner.model());
        let loaded = with_state_dict(learner.model().clone(), &before).expect("its own weights");
        learner.replace(loaded, config.optim.init(), None, 0);
        learner.step(batch(case, 0), 0.1).expect("a step");
        for (name, array) in state_dict(learner.model()) {
            let fixed = name.starts_with("cls_");
            assert_eq!(before[&name] == array, fixed, "{kind:?}: {name}");
        }
    }
}

/// Stochastic depth draws by the step's number: a learner that takes over after one step makes the same
/// second step as the one that went through.
pub(crate) fn drop_path_follows_the_step(case: &Case) {
    let mut config = config();
    config.model = ModelConfig {
        backbone: Arch::VitTiny,
        width: 8,
        depth: 2,
        patch_size: 8,
        position_size: 16,
        drop_path: 0.5,
        ..config.model
    };
    config.model.stem = Stem::ImageNet;
    config.optim.kind = OptimKind::Sgd;
    config.optim.momentum = 0.0;
    config.queue.length = 0;
    let mut through = Learner::new(&config, case.runtime.clone());
    through.step(batch(case, 0), 0.1).expect("a step");
    let resumed = |steps| {
        let mut learner = Learner::new(&config, case.runtime.clone());
        let model = with_state_dict(learner.model().clone(), &state_dict(through.model()));
        learner.replace(
            model.expect("the same model"),
            config.optim.init(),
            None,
            steps,
        );
        learner.step(batch(case, 1), 0.1).expect("a step");
        state_dict(learner.model())
    };
    let (right, wrong) = (resumed(1), resumed(7));
    through.step(batch(case, 1), 0.1).expect("a step");
    let expected = state_dict(through.model());
    let name = "backbone.blocks.1.mlp.fc2.weight";
    let expected = &expected[name].data;
    case.close(name, &right[name].data, expected, 1e-6);
    let moved = wrong[name].data.iter().zip(expected);
    let largest = moved.fold(0.0_f32, |a, (x, y)| a.max((x - y).abs()));
    assert!(largest > 1e-5, "{largest}");
}
