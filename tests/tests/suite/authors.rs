//! A checkpoint as the authors' code writes it, read, run and trained on.
//!
//! Their training stopped collapsed, at a loss of the mean of ln 10 and ln 20, with a queue half full;
//! its two further steps take neighbours all the same and push nothing (the fixture's own recipe).

use crate::fixture::{arrays, hash_images, int_tensor, path, values};
use crate::runner::Case;
use burn::tensor::Tensor;
use selfcls_core::Config;
use selfcls_core::config::{LossConfig, ModelConfig, OptimConfig, OptimKind};
use selfcls_core::model::{Context, Noise, SelfClassifier, ViewBatch, state_dict, with_state_dict};
use selfcls_core::pretrained::{AuthorsCheckpoint, architecture, authors_checkpoint};
use selfcls_core::queue::Queue;
use selfcls_core::train::{Batch, Learner};

const BATCH: usize = 4;
/// The learning rate of the two steps.
const LR: f64 = 2.4;
/// The sample numbers of the batch: some are in the queue.
const SAMPLES: [i64; BATCH] = [4, 1, 6, 3];

fn checkpoint() -> (AuthorsCheckpoint, ModelConfig) {
    let path = path("authors_checkpoint.pth.tar");
    let checkpoint = authors_checkpoint(&path).expect("a checkpoint of the authors");
    let model = architecture(&checkpoint.model, &ModelConfig::default()).expect("a ResNet-18");
    (checkpoint, model)
}

/// Features, embeddings, logits and queue of the loaded checkpoint.
pub(crate) fn checkpoint_in_evaluation(case: &Case) {
    let (checkpoint, config) = checkpoint();
    let expected = arrays("authors_checkpoint");
    let queue = checkpoint.queue.expect("a queue");
    case.close(
        "queue",
        &queue.embeddings,
        &expected.float("queue").data,
        0.0,
    );
    let labels: Vec<f32> = queue.labels.iter().map(|&label| label as f32).collect();
    assert_eq!(labels, expected.float("queue_targets").data);
    assert_eq!(queue.indices, expected.int("queue_indices"));

    let device = &case.runtime.device;
    let model = with_state_dict(config.init(device, 0), &checkpoint.model).expect("fits");
    let context = Context::evaluation(&*case.runtime.kernels);
    let images = hash_images(0, BATCH, 64, device);
    let features = model.backbone.forward(images.clone(), &context);
    // The float noise of the authors' own code is 4e-7 of the embeddings.
    let close = |name: &str, actual: Vec<f32>| {
        case.close(name, &actual, &expected.float(name).data, 2e-6);
    };
    close("backbone", values(features));
    let embeddings = model.embed_images(images, &context);
    close("embd", values(embeddings.clone()));
    for (head, logits) in model.logits(embeddings).into_iter().enumerate() {
        close(&format!("logits.{head}"), values(logits));
    }
}

/// Two further steps with the optimiser's history and the queue of the file: losses, every parameter
/// and every running statistic.
pub(crate) fn training_resumed_from_the_checkpoint(case: &Case) {
    let (checkpoint, config) = checkpoint();
    let expected = arrays("authors_resumed");
    let device = case.runtime.device.clone().autodiff();
    let mut model: SelfClassifier =
        with_state_dict(config.init(&device, 0), &checkpoint.model).expect("fits");
    let queue = checkpoint.queue.expect("a queue");
    let queue = Queue::from_state(queue, config.dim, &device).expect("fits");
    assert_eq!(checkpoint.optimizer.momentum, Some(0.9));
    let mut optimizer = OptimConfig {
        kind: OptimKind::Larc,
        weight_decay: checkpoint.optimizer.weight_decays.expect("told")[0],
        ..Default::default()
    }
    .init();
    optimizer
        .restore(checkpoint.optimizer.state, &device)
        .expect("complete");
    let context = Context::training(&*case.runtime.kernels, Noise::default());
    let loss = LossConfig::default().init();
    let mut losses = Vec::new();
    for _ in 0..2 {
        let view = |index| hash_images(index, BATCH, 64, &device);
        let views = ViewBatch {
            global: Tensor::cat(vec![view(0), view(1)], 0),
            local: None,
        };
        let embeddings = model.embed(views, &context);
        let first = embeddings.clone().slice(0..BATCH).without_autodiff();
        let indices = int_tensor(&SAMPLES, &case.runtime.device);
        let neighbours = queue.nearest(first, indices).embeddings.autodiff();
        let embeddings = Tensor::cat(vec![neighbours, embeddings.slice(BATCH..2 * BATCH)], 0);
        let logits: Vec<Tensor<3>> = model
            .logits(embeddings)
            .into_iter()
            .map(|logits| {
                let classes = logits.dims()[1];
                logits.reshape([2, BATCH, classes])
            })
            .collect();
        let loss = loss.forward(&logits, 2).expect("a loss");
        let mut grads = loss.backward();
        losses.extend(values(loss));
        model = optimizer.step(LR, model, &mut grads, &*case.runtime.kernels);
    }
    case.close("losses", &losses, &expected.float("loss").data, 1e-5);
    // The float noise of these two steps (PyTorch, f32 against f64) is 1e-6 of a tensor's largest value.
    // Not so in the classifiers: collapsed, they have next to no gradient, and LARC scales its noise up to
    // the size of a step: 7e-5 there.
    let state = state_dict(&model);
    let names: Vec<&str> = expected.names().filter(|&name| name != "loss").collect();
    assert_eq!(names, state.keys().map(String::as_str).collect::<Vec<_>>());
    for name in names {
        let tolerance = if name.starts_with("cls_") { 2e-4 } else { 1e-5 };
        case.close(
            name,
            &state[name].data,
            &expected.float(name).data,
            tolerance,
        );
    }
    // The steps were no small thing: the file's own weights are far from where they end.
    let moved = &expected.float("backbone.conv1.weight").data;
    let before = &checkpoint.model["backbone.conv1.weight"].data;
    assert!(moved.iter().zip(before).any(|(a, b)| (a - b).abs() > 1e-3));
}

/// AdamW over the authors' three groups, two moments and a count for each parameter, and a full queue.
pub(crate) fn adamw_in_groups_resumed(case: &Case) {
    let config = OptimConfig {
        kind: OptimKind::AdamW,
        weight_decay: 0.05,
        no_bias_weight_decay: true,
        backbone_weight_decay: 0.2,
        ..Default::default()
    };
    trained_on(case, "authors_adamw", &config, 0.02);
}

/// LARC around SGD with biases in a group of their own: the file numbers parameters group by group.
pub(crate) fn larc_in_groups_resumed(case: &Case) {
    let config = OptimConfig {
        kind: OptimKind::Larc,
        weight_decay: 0.05,
        no_bias_weight_decay: true,
        ..Default::default()
    };
    trained_on(case, "authors_groups", &config, 0.8);
}

/// Reads `<name>.pth.tar` (see `fixtures/make_authors_checkpoints.py`) and trains on for two steps as the trainer
/// does, neighbours and pushes included. The expected values are computed in f64.
fn trained_on(case: &Case, name: &str, optim: &OptimConfig, lr: f64) {
    const BATCH: usize = 8;
    const SIZE: usize = 32;
    let path = path(&format!("{name}.pth.tar"));
    let file = authors_checkpoint(&path).expect("a checkpoint of the authors");
    let expected = arrays(name);
    assert_eq!(file.optimizer.adamw, optim.kind == OptimKind::AdamW);
    assert_eq!(file.epoch, 3);
    let backbone = match optim.backbone_weight_decay {
        -1.0 => optim.weight_decay,
        decay => decay,
    };
    let decays = [optim.weight_decay, 0.0, backbone];
    assert_eq!(file.optimizer.weight_decays, Some(decays));
    let steps = if file.optimizer.adamw { 2 } else { 0 };
    assert!(file.optimizer.state.steps.values().all(|&s| s == steps));

    let mut config = Config {
        model: architecture(&file.model, &ModelConfig::default()).expect("a ResNet-18"),
        optim: optim.clone(),
        ..Default::default()
    };
    let queue = file.queue.expect("a queue");
    config.queue.length = queue.labels.len();
    let mut learner = Learner::new(&config, case.runtime.clone());
    let model = with_state_dict(learner.model().clone(), &file.model).expect("fits");
    let queue = Queue::from_state(queue, config.model.dim, &case.runtime.device).expect("fits");
    let mut optimizer = config.optim.init();
    let state = file.optimizer.state;
    optimizer
        .restore(state, &case.runtime.device)
        .expect("complete");
    learner.replace(model, optimizer, Some(queue), 2);

    let adamw = optim.kind.is_adamw();
    let mut losses = Vec::new();
    for number in 2..4_u64 {
        let view = |view| hash_images(10 * number + view, BATCH, SIZE, &case.runtime.device);
        let first = number as i64 * BATCH as i64;
        let samples: Vec<i64> = (first..first + BATCH as i64).collect();
        let batch = Batch {
            views: ViewBatch {
                global: Tensor::cat(vec![view(0), view(1)], 0),
                local: None,
            },
            indices: int_tensor(&samples, &case.runtime.device),
            labels: int_tensor(&samples, &case.runtime.device),
        };
        losses.extend(values(learner.step(batch, lr).expect("a step").loss));
    }
    case.close("losses", &losses, &expected.float("loss").data, 1e-4);
    let queue = learner.queue().expect("still").state();
    case.close(
        "queue",
        &queue.embeddings,
        &expected.float("queue").data,
        2e-4,
    );
    assert_eq!(queue.indices, expected.int("queue_indices"));
    for (name, array) in state_dict(learner.model()) {
        // A bias in front of batch normalisation has no gradient but rounding, which either optimiser scales
        // up to a part of its step; the running mean behind it follows.
        let idle = ["mlp_head.mlp.0.bias", "mlp_head.mlp.1.running_mean"].contains(&&*name);
        // LARC moves weights by a few ten-thousandths of themselves in a step.
        let (usual, idling) = if adamw {
            (2e-4, lr as f32)
        } else {
            (2e-5, 1e-3)
        };
        let tolerance = if idle { idling } else { usual };
        case.close(&name, &array.data, &expected.float(&name).data, tolerance);
    }
    let before = &file.model["backbone.conv1.weight"].data;
    let moved = &expected.float("backbone.conv1.weight").data;
    assert!(moved.iter().zip(before).any(|(a, b)| (a - b).abs() > 1e-4));
}
