//! The training step as a whole.

use crate::fixture::{hash_images, int_tensor, values};
use crate::runner::Case;
use burn::tensor::{Device, Tensor};
use selfcls_core::Config;
use selfcls_core::config::{Arch, ClassifierInit, HeadInit, ModelConfig, OptimKind, Stem};
use selfcls_core::data::Shares;
use selfcls_core::model::{Context, Noise, ViewBatch, is_buffer, state_dict, with_state_dict};
use selfcls_core::optim::ParamGradients;
use selfcls_core::runtime::Runtime;
use selfcls_core::train::{Batch, Learner};
use selfcls_core::weights::StateDict;
use selfcls_tests::on_threads;

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

/// A transformer whose samples skip half of the last block's branches, with the same queue and head.
fn transformer() -> Config {
    let mut config = config();
    config.model = ModelConfig {
        backbone: Arch::VitTiny,
        width: 8,
        depth: 2,
        patch_size: 8,
        position_size: 16,
        drop_path: 0.5,
        stem: Stem::ImageNet,
        ..config.model
    };
    config
}

/// Samples `first` to `first + BATCH`: two global views of 16 pixels, one local of 8.
fn batch(first: usize, device: &Device) -> Batch {
    let view = |index: u64, size| hash_images(10 * first as u64 + index, BATCH, size, device);
    let ints: Vec<i64> = (first as i64..(first + BATCH) as i64).collect();
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
    let config = config();
    let mut learner = Learner::new(&config, case.runtime.clone());
    let before = state_dict(learner.model());
    for step in 0..3 {
        let batch = batch(step * BATCH, &case.runtime.device);
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

/// What a copy for inference was made with stays as it was: a step writes running statistics and parameters in place, but
/// not where the copy holds them.
pub(crate) fn a_copy_is_not_changed_by_a_step(case: &Case) {
    let mut learner = Learner::new(&config(), case.runtime.clone());
    let step = |learner: &mut Learner, first| {
        let output = learner.step(batch(first, &case.runtime.device), 0.1);
        output.expect("a step");
    };
    for first in [0, BATCH] {
        step(&mut learner, first);
        let copy = learner.inference_model();
        let before = state_dict(&copy);
        step(&mut learner, first);
        let (unchanged, after) = (state_dict(&copy), state_dict(learner.model()));
        for (name, array) in &before {
            assert_eq!(array, &unchanged[name], "{name} of the copy");
            assert_ne!(array, &after[name], "{name} did not change");
        }
    }
}

/// The fraction of neighbours with the sample's own label, where it is known: each image is met again under another
/// number, so its neighbour is itself, and one of four keeps its label. Of two ranks each finds its own part of it.
pub(crate) fn neighbours_of_the_same_label_are_counted(case: &Case) {
    let mut config = transformer();
    config.model.head_bn = false;
    config.model.drop_path = 0.0;
    config.queue.length = BATCH;
    config.train.batch_size = BATCH;
    config.optim.kind = OptimKind::Sgd;
    let accuracy = |runtime: &Runtime, labels: [i64; BATCH]| -> f32 {
        let peers = &runtime.collective;
        let own = Shares::new(BATCH, peers.world_size()).of(peers.rank());
        let part = |first: i64, labels: &[i64]| {
            let whole = batch(0, &runtime.device);
            let of_view = |views: Tensor<4>| {
                let own = own.clone();
                views
                    .split(BATCH, 0)
                    .into_iter()
                    .map(move |view| view.slice([own.clone()]))
            };
            let indices: Vec<i64> = own.clone().map(|i| first + i as i64).collect();
            Batch {
                views: ViewBatch {
                    global: Tensor::cat(of_view(whole.views.global).collect(), 0),
                    local: whole
                        .views
                        .local
                        .map(|local| Tensor::cat(of_view(local).collect(), 0)),
                },
                indices: int_tensor(&indices, &runtime.device),
                labels: int_tensor(&labels[own.clone()], &runtime.device),
            }
        };
        let mut learner = Learner::new(&config, runtime.clone());
        // With initial weights all images look so much alike that rounding would choose among neighbours.
        let mut state = state_dict(learner.model());
        for (name, array) in &mut state {
            if name.starts_with("backbone.") && name.ends_with(".weight") && array.shape.len() > 1 {
                array.data.iter_mut().for_each(|x| *x *= 10.0);
            }
        }
        learner.set_weights(&state).expect("its own names");
        let first = learner.step(part(0, &[0, 1, 2, 3]), 0.0).expect("a step");
        assert!(first.neighbour_accuracy.is_none());
        let second = learner.step(part(100, &labels), 0.0).expect("a step");
        values(second.neighbour_accuracy.expect("a full queue"))[0]
    };
    let labels = [0, 9, 9, 9];
    let alone = accuracy(&case.runtime, labels);
    case.close_scalar("alone", alone, 0.25, 1e-6);
    let of_ranks = on_threads(2, |peers| {
        let mut runtime = case.runtime.clone();
        runtime.collective = peers;
        accuracy(&runtime, labels)
    });
    case.close_scalar("of two ranks", of_ranks.iter().sum(), 0.25, 1e-6);
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
        learner
            .step(batch(0, &case.runtime.device), 0.1)
            .expect("a step");
        for (name, array) in state_dict(learner.model()) {
            let fixed = name.starts_with("cls_");
            assert_eq!(before[&name] == array, fixed, "{kind:?}: {name}");
        }
    }
}

/// Stochastic depth draws by the step's number: a learner that takes over after one step makes the same
/// second step as the one that went through.
pub(crate) fn drop_path_follows_the_step(case: &Case) {
    let mut config = transformer();
    config.optim.kind = OptimKind::Sgd;
    config.optim.momentum = 0.0;
    config.queue.length = 0;
    let mut through = Learner::new(&config, case.runtime.clone());
    through
        .step(batch(0, &case.runtime.device), 0.1)
        .expect("a step");
    let resumed = |steps| {
        let mut learner = Learner::new(&config, case.runtime.clone());
        let model = with_state_dict(learner.model().clone(), &state_dict(through.model()));
        learner.replace(
            model.expect("the same model"),
            config.optim.init(),
            None,
            steps,
        );
        learner
            .step(batch(BATCH, &case.runtime.device), 0.1)
            .expect("a step");
        state_dict(learner.model())
    };
    let (right, wrong) = (resumed(1), resumed(7));
    through
        .step(batch(BATCH, &case.runtime.device), 0.1)
        .expect("a step");
    let expected = state_dict(through.model());
    let name = "backbone.blocks.1.mlp.fc2.weight";
    let expected = &expected[name].data;
    case.close(name, &right[name].data, expected, 1e-6);
    let moved = wrong[name].data.iter().zip(expected);
    let largest = moved.fold(0.0_f32, |a, (x, y)| a.max((x - y).abs()));
    assert!(largest > 1e-5, "{largest}");
}

/// With statistics of each part's own.
pub(crate) fn parts_of_a_batch_give_its_gradients(case: &Case) {
    in_parts(case, config());
}

/// Where samples skip branches, a part skips the same ones in both of its passes.
pub(crate) fn parts_skip_the_same_branches_twice(case: &Case) {
    in_parts(case, transformer());
}

/// A step on a batch in three parts, against the same mathematics in one graph: every part embedded by
/// itself, all logits compared at once, one backward pass through everything. Loss, gradients, running
/// statistics, queue and neighbours agree.
fn in_parts(case: &Case, mut config: Config) {
    const PARTS: usize = 3;
    let device = &case.runtime.device;
    config.queue.length = 2 * PARTS * BATCH;
    let mut learner = Learner::new(&config, case.runtime.clone());
    let parts = |step: usize| -> Vec<Batch> {
        (0..PARTS)
            .map(|part| batch((PARTS * step + part) * BATCH, device))
            .collect()
    };
    // Two steps fill the queue.
    for step in 0..2 {
        learner.step_in_parts(&parts(step), 0.1).expect("a step");
    }
    let queue = learner.queue().expect("a queue").clone();
    assert!(queue.is_full());
    let parts = parts(2);

    // The reference, on a copy: its running statistics would otherwise be those of the learner.
    let model = with_state_dict(
        config.model.init(&device.clone().autodiff(), 0),
        &state_dict(learner.model()),
    )
    .expect("the same model");
    let embeddings: Vec<Tensor<3>> = parts
        .iter()
        .enumerate()
        .map(|(number, part)| {
            let noise = Noise::new(config.train.seed, 2, number as u32);
            let context = Context::training(&*case.runtime.kernels, noise);
            let embeddings = model.embed(part.views.clone(), &context);
            embeddings.reshape([3, BATCH, config.model.dim])
        })
        .collect();
    let embeddings = Tensor::cat(embeddings, 1);
    let samples = PARTS * BATCH;
    let first = embeddings
        .clone()
        .slice(0..1)
        .squeeze_dim::<2>(0)
        .without_autodiff();
    let indices = Tensor::cat(parts.iter().map(|part| part.indices.clone()).collect(), 0);
    let neighbours = queue.nearest(first, indices).embeddings;
    let rest = embeddings.slice(1..3);
    let embeddings = Tensor::cat(vec![neighbours.autodiff().unsqueeze_dim(0), rest], 0);
    let logits: Vec<Tensor<3>> = model
        .logits(embeddings.reshape([3 * samples, config.model.dim]))
        .into_iter()
        .map(|logits| {
            let classes = logits.dims()[1];
            logits.reshape([3, samples, classes])
        })
        .collect();
    let loss = config.loss.init();
    let expected_loss = values(loss.forward(&logits, 2).expect("a loss"));
    // The loss's own gradient is held against autodiff elsewhere: its noise would hide that of the parts.
    let heads = logits.len() as f64;
    let pull = logits.into_iter().map(|logits| {
        let (_, gradient) = loss.value_and_gradient(logits.clone(), 2).expect("views");
        (logits * (gradient / heads)).sum()
    });
    let pull = pull.reduce(|a, b| a + b).expect("a head");
    let mut grads = pull.backward();
    let expected = ParamGradients::take(&model, &mut grads);

    let (output, actual) = learner.gradients(&parts).expect("gradients");
    case.close("loss", &values(output.loss), &expected_loss, 1e-6);
    assert_eq!(output.assigned.dims(), [samples]);
    assert!(output.neighbour_accuracy.is_some());
    let names: Vec<&str> = expected.names().collect();
    assert_eq!(names, actual.names().collect::<Vec<_>>());
    let largest = |values: &[f32]| values.iter().fold(0.0_f32, |s, x| s.max(x.abs()));
    let of = |grads: &ParamGradients, name: &str| values(grads.get(name).expect("one").clone());
    let overall = names.iter().map(|name| largest(&of(&expected, name)));
    let overall = overall.fold(0.0_f32, f32::max);
    for name in names {
        let (actual, expected) = (of(&actual, name), of(&expected, name));
        // Against the largest gradient of the parameter, but not where that is rounding itself: a shift
        // before batch normalisation has no gradient.
        let scale = largest(&expected).max(1e-3 * overall);
        let unit = |values: &[f32]| values.iter().map(|x| x / scale).collect::<Vec<_>>();
        let what = format!("gradient {name}");
        case.close(&what, &unit(&actual), &unit(&expected), 2e-4);
    }
    // Each part has moved the statistics once, as in the reference, though it was embedded twice.
    let (actual, expected) = (state_dict(learner.model()), state_dict(&model));
    for (name, array) in expected.iter().filter(|(name, _)| is_buffer(name)) {
        case.close(name, &actual[name].data, &array.data, 1e-6);
    }

    let message = learner.gradients(&[]).expect_err("no parts");
    assert!(message.to_string().contains("batch"));
}

/// The first arXiv version: orthogonal directions, a gain that stays 1, PyTorch's initial head, no queue,
/// its loss, plain SGD. And classifiers that are fixed altogether.
pub(crate) fn the_first_version(case: &Case) {
    let mut config = config();
    config.model.classifier_init = ClassifierInit::Orthogonal;
    config.model.classifier_gain = false;
    config.model.head_init = HeadInit::Uniform;
    config.loss.normalise_targets = false;
    config.loss.normalise_predictions = false;
    config.queue.length = 0;
    config.optim.kind = OptimKind::Sgd;
    for fixed in [false, true] {
        config.model.fixed_classifiers = fixed;
        let mut learner = Learner::new(&config, case.runtime.clone());
        let before = state_dict(learner.model());
        // Three classes in four dimensions: orthonormal rows; five: orthonormal columns.
        for (head, classes) in [(0, 3), (1, 5)] {
            let v = &before[&format!("cls_{head}.weight_v")].data;
            let at = |row: usize, column: usize| v[row * 4 + column];
            let (vectors, length) = (classes.min(4), classes.max(4));
            let entry = |vector: usize, i: usize| match classes <= 4 {
                true => at(vector, i),
                false => at(i, vector),
            };
            for a in 0..vectors {
                for b in 0..vectors {
                    let dot: f32 = (0..length).map(|i| entry(a, i) * entry(b, i)).sum();
                    let expected = if a == b { 1.0 } else { 0.0 };
                    assert!((dot - expected).abs() < 1e-6, "head {head}: {a} {b} {dot}");
                }
            }
        }
        // Features are 16 wide: U(-1/4, 1/4), bias included.
        for name in ["mlp_head.mlp.0.weight", "mlp_head.mlp.0.bias"] {
            let values = &before[name].data;
            assert!(values.iter().all(|x| x.abs() <= 0.25) && values.iter().any(|x| *x != 0.0));
        }
        let output = learner.step(batch(0, &case.runtime.device), 0.1);
        let output = output.expect("a step");
        assert!(values(output.loss)[0].is_finite() && output.neighbour_accuracy.is_none());
        let after = state_dict(learner.model());
        for (name, array) in &before {
            let still = name.ends_with("weight_g") || (fixed && name.starts_with("cls_"));
            assert_eq!(array == &after[name], still, "{name}, fixed: {fixed}");
        }
    }
}

/// Views that are run apart are each embedded as if it were alone, in the order of the others; in evaluation
/// there is no difference.
pub(crate) fn views_apart(case: &Case) {
    let device = &case.runtime.device;
    let mut config = config().model;
    let together = config.init(device, 0);
    config.views_apart = true;
    let apart = config.init(device, 0);
    let views = batch(0, device).views;
    let training = Context::training(&*case.runtime.kernels, Noise::default());
    let embeddings = values(apart.embed(views.clone(), &training));
    let local = views.local.clone().expect("local views");
    let alone: Vec<f32> = views
        .global
        .clone()
        .split(BATCH, 0)
        .into_iter()
        .chain([local])
        .flat_map(|view| values(together.embed_images(view, &training)))
        .collect();
    case.close("each alone", &embeddings, &alone, 1e-5);
    let mixed = values(together.embed(views.clone(), &training));
    let differ = mixed
        .iter()
        .zip(&embeddings)
        .any(|(a, b)| (a - b).abs() > 1e-2);
    assert!(differ, "the statistics of one view are those of all");

    let evaluation = Context::evaluation(&*case.runtime.kernels);
    let of = |images: &Tensor<4>| values(apart.embed_images(images.clone(), &evaluation));
    let one = views.global.clone().slice(0..1);
    let (all, one) = (of(&views.global), of(&one));
    case.close("in evaluation", &all[..config.dim], &one, 1e-5);
}

/// Local views of the global ones' size go through the backbone with them: one pass, one set of statistics, which
/// the running ones take up once. Recomputed steps do the same.
pub(crate) fn local_views_of_the_global_size(case: &Case) {
    let device = &case.runtime.device;
    let mut config = config();
    config.queue.length = 0;
    let view = |index: u64| hash_images(index, BATCH, 16, device);
    let global = Tensor::cat(vec![view(0), view(1)], 0);
    let local = Tensor::cat(vec![view(2), view(3), view(4)], 0);
    let views = ViewBatch {
        global: global.clone(),
        local: Some(local.clone()),
    };
    let training = Context::training(&*case.runtime.kernels, Noise::default());
    let [ours, expected] = [(); 2].map(|()| config.model.init(device, 0));
    let together = expected.embed_images(Tensor::cat(vec![global, local], 0), &training);
    let embeddings = ours.embed(views.clone(), &training);
    case.close("embeddings", &values(embeddings), &values(together), 1e-5);
    let close_statistics = |what: &str, actual: &StateDict, expected: &StateDict| {
        for (name, array) in expected.iter().filter(|(name, _)| is_buffer(name)) {
            let what = format!("{what}{name}");
            case.close(&what, &actual[name].data, &array.data, 1e-6);
        }
    };
    let (actual, expected) = (state_dict(&ours), state_dict(&expected));
    close_statistics("", &actual, &expected);

    config.train.recompute = true;
    let mut learner = Learner::new(&config, case.runtime.clone());
    let indices = int_tensor(&[0, 1, 2, 3], device);
    let batch = Batch {
        views,
        indices: indices.clone(),
        labels: indices,
    };
    learner.gradients(&[batch]).expect("gradients");
    close_statistics("recomputed, ", &state_dict(learner.model()), &expected);
}

/// Computing activations again changes no number: loss, gradients and statistics are those of the plain step, for
/// a residual network and a transformer that draws.
pub(crate) fn recomputed_activations_give_the_same_gradients(case: &Case) {
    let mut residual = config();
    residual.optim.kind = OptimKind::Sgd;
    let mut transformer = transformer();
    transformer.optim.kind = OptimKind::Sgd;
    for mut config in [residual, transformer] {
        let batch = || batch(0, &case.runtime.device);
        let mut plain = Learner::new(&config, case.runtime.clone());
        config.train.recompute = true;
        let mut again = Learner::new(&config, case.runtime.clone());
        let (expected, expected_grads) = plain.gradients(&[batch()]).expect("gradients");
        let (actual, actual_grads) = again.gradients(&[batch()]).expect("gradients");
        case.close("loss", &values(actual.loss), &values(expected.loss), 1e-6);
        let names: Vec<&str> = expected_grads.names().collect();
        assert_eq!(names, actual_grads.names().collect::<Vec<_>>());
        for name in names {
            let of = |grads: &ParamGradients| values(grads.get(name).expect("one").clone());
            let what = format!("gradient {name}");
            // Sums over both resolutions are taken in another order; a bias in front of batch normalisation
            // has no gradient but the rounding of large numbers that cancel.
            let idle = name == "mlp_head.mlp.0.bias";
            let tolerance = if idle { 5e-3 } else { 1e-4 };
            case.close(&what, &of(&actual_grads), &of(&expected_grads), tolerance);
        }
        let (actual, expected) = (state_dict(again.model()), state_dict(plain.model()));
        for (name, array) in expected.iter().filter(|(name, _)| is_buffer(name)) {
            case.close(name, &actual[name].data, &array.data, 1e-6);
        }
    }
}
