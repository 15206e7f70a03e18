//! The training step as a whole.

use crate::fixture::{hash_images, int_tensor, values};
use crate::runner::Case;
use burn::tensor::Tensor;
use selfcls_core::Config;
use selfcls_core::config::{Arch, Stem};
use selfcls_core::model::{ViewBatch, is_buffer, state_dict};
use selfcls_core::train::{Batch, Learner};

const BATCH: usize = 4;

/// Three steps with a queue that fills after the second: finite losses, neighbours from then on, and
/// every parameter and running statistic changed.
pub fn a_step_moves_every_parameter(case: &Case) {
    let mut config = Config::default();
    config.model.backbone = Arch::ResNet10;
    config.model.stem = Stem::CifarStride2;
    config.model.width = 2;
    config.model.hidden_dim = 8;
    config.model.dim = 4;
    config.model.heads = vec![3, 5];
    config.queue.length = 2 * BATCH;
    let mut learner = Learner::new(&config, case.runtime.clone());
    let before = state_dict(learner.model());
    for step in 0..3 {
        let device = &case.runtime.device;
        let view = |index: u64, size| hash_images(10 * step + index, BATCH, size, device);
        let first = step as i64 * BATCH as i64;
        let ints: Vec<i64> = (first..first + BATCH as i64).collect();
        let batch = Batch {
            views: ViewBatch {
                global: Tensor::cat(vec![view(0, 16), view(1, 16)], 0),
                local: Some(view(2, 8)),
            },
            indices: int_tensor(&ints, device),
            labels: int_tensor(&ints, device),
        };
        let output = learner.step(batch, 0.1).expect("a step");
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
