//! Several ranks against one, on any backend: ranks are threads here.

use crate::fixture::{arrays, hash_images, hash_tensor, int_tensor, json, values};
use crate::loss::Expected;
use crate::runner::Case;
use burn::tensor::{Device, Tensor};
use selfcls_core::Config;
use selfcls_core::collective::{Collective, SingleProcess};
use selfcls_core::config::{Arch, LossConfig, OptimKind};
use selfcls_core::data::Shares;
use selfcls_core::loss::{Groups, Loss};
use selfcls_core::model::{ViewBatch, state_dict};
use selfcls_core::runtime::Runtime;
use selfcls_core::train::{Batch, Learner};
use selfcls_core::weights::StateDict;
use selfcls_tests::on_threads;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A rank's share of `logits`, `[views, batch, classes]`, through the loss: its contribution and the gradient
/// of the whole loss with respect to the share.
fn contribution(
    loss: &Loss,
    logits: &Tensor<3>,
    globals: usize,
    peers: &dyn Collective,
) -> (f32, Vec<f32>) {
    let [views, batch, classes] = logits.dims();
    let own = Shares::new(batch, peers.world_size()).of(peers.rank());
    let share = logits.clone().slice([0..views, own, 0..classes]);
    let (loss, gradient) = loss
        .value_and_gradient_across(share, globals, batch, peers)
        .expect("a loss");
    (values(loss)[0], values(gradient))
}

/// Shares' gradients, `[views, share, classes]` each, as that of the batch.
fn joined(gradients: &[Vec<f32>], [views, batch, classes]: [usize; 3]) -> Vec<f32> {
    let shares = Shares::new(batch, gradients.len());
    let mut joined = Vec::new();
    for view in 0..views {
        for (rank, gradient) in gradients.iter().enumerate() {
            let length = shares.of(rank).len() * classes;
            joined.extend_from_slice(&gradient[view * length..(view + 1) * length]);
        }
    }
    joined
}

/// The cases of `loss::loss_and_gradients`, the first head of each, with the batch on three ranks: the sums
/// that ranks exchange make the loss of the whole batch, and its gradient.
pub(crate) fn shares_give_the_loss_of_the_batch(case: &Case) {
    let device = case.runtime.device.clone().autodiff();
    let fixture = arrays("loss");
    for (name, expected) in json::<BTreeMap<String, Expected>>("loss") {
        if expected.heads > 1 {
            continue;
        }
        let loss = expected.loss();
        let logits: Tensor<3> = fixture.tensor(&format!("{name}.in.0"), &device);
        let shape = logits.dims();
        let results = on_threads(3, |peers| {
            contribution(&loss, &logits, expected.globals, &*peers)
        });
        let sum = results.iter().map(|(loss, _)| loss).sum();
        let [of_loss, of_gradient] = Expected::tolerances(&name);
        case.close_scalar(&format!("loss {name}"), sum, expected.loss, of_loss);
        let gradients: Vec<Vec<f32>> = results.into_iter().map(|(_, gradient)| gradient).collect();
        case.close(
            &format!("gradient {name}"),
            &joined(&gradients, shape),
            &fixture.float(&format!("{name}.grad.0")).data,
            of_gradient,
        );
    }
}

/// Groups of a batch that are compared alone: the loss is the mean of theirs, and the gradient of each is that of
/// its own loss, divided by their number. On one rank, on two that hold whole groups, on four of which two share one.
pub(crate) fn groups_give_the_mean_of_their_losses(case: &Case) {
    const SHAPE: [usize; 3] = [3, 8, 5];
    let [views, batch, classes] = SHAPE;
    let device = case.runtime.device.clone().autodiff();
    let loss = LossConfig::default().init();
    let logits: Tensor<3> = hash_tensor(77, SHAPE, &device);
    for (ranks, samples, sharing) in [(1, 4, 1), (1, 2, 1), (2, 4, 1), (2, 2, 1), (4, 4, 2)] {
        let count = batch / samples;
        let mut expected = (0.0, Vec::new());
        for group in 0..count {
            let rows = group * samples..(group + 1) * samples;
            let leaf = logits.clone().slice([0..views, rows, 0..classes]);
            let leaf = leaf.detach().require_grad();
            let value = loss.head(leaf.clone(), 2).expect("a loss");
            let grads = value.backward();
            let gradient = leaf.grad(&grads).expect("a gradient") / count as f64;
            expected.0 += values(value)[0] / count as f32;
            expected.1.push(values(gradient));
        }
        let results = on_threads(ranks, |peers| {
            let own = Shares::new(batch, ranks).of(peers.rank());
            let share = logits.clone().slice([0..views, own, 0..classes]);
            let groups = Groups {
                own: samples / sharing,
                samples,
                count,
                peers: peers.in_groups_of(sharing).expect("groups"),
            };
            let result = loss.value_and_gradient_in_groups(share, 2, &groups);
            let (value, gradient) = result.expect("a loss");
            (values(value)[0], values(gradient))
        });
        let what = format!("{count} groups on {ranks} ranks");
        let sum = results.iter().map(|(loss, _)| loss).sum();
        case.close_scalar(&format!("loss, {what}"), sum, f64::from(expected.0), 1e-6);
        let gradients: Vec<Vec<f32>> = results.into_iter().map(|(_, gradient)| gradient).collect();
        case.close(
            &format!("gradient, {what}"),
            &joined(&gradients, SHAPE),
            &joined(&expected.1, SHAPE),
            1e-5,
        );
    }
    let groups = Groups {
        own: 3,
        samples: 3,
        count: 2,
        peers: Arc::new(SingleProcess),
    };
    let result = loss.value_and_gradient_in_groups(logits, 2, &groups);
    let message = result.expect_err("8 are not threes").to_string();
    assert!(message.contains("loss.group"), "{message}");
}

/// The authors' code with two workers: the loss that each reports, its gradient with respect to its own
/// logits (twice that of one process, for they sum over workers before they average), and averaged
/// gradients of weights.
pub(crate) fn two_workers_of_the_authors(case: &Case) {
    const WORKERS: usize = 2;
    let device = case.runtime.device.clone().autodiff();
    let fixture = arrays("two_workers");
    let loss = LossConfig::default().init();
    for (name, heads) in [("v2_b8_c10", 1), ("v4_b6_heads", 2)] {
        let results = on_threads(WORKERS, |peers| {
            let rank = peers.rank();
            let of_rank = |what: String| -> Tensor<3> {
                fixture.tensor(&format!("rank{rank}.{name}.{what}"), &device)
            };
            let mut total = 0.0;
            let mut gradients = Vec::new();
            for head in 0..heads {
                // Both from logits given, and from weights and embeddings through to the weights.
                let logits = of_rank(format!("in.{head}"));
                let batch = WORKERS * logits.dims()[1];
                let part = loss.value_and_gradient_across(logits, 2, batch, &*peers);
                let (own, of_logits) = part.expect("a loss");
                total += values(own)[0] / heads as f32;

                let weight: Tensor<2> = fixture.tensor(&format!("{name}.W.{head}"), &device);
                let weight = weight.require_grad();
                let embeddings = of_rank("emb".into());
                let logits = embeddings.matmul(weight.clone().transpose().unsqueeze_dim(0));
                let part = loss.value_and_gradient_across(logits.clone(), 2, batch, &*peers);
                let pull = (logits * part.expect("a loss").1.autodiff()).sum();
                let of_weight = weight.grad(&pull.backward()).expect("a gradient");
                gradients.push((values(of_logits), values(of_weight)));
            }
            (total, gradients)
        });
        let times = |values: &[f32], factor: f32| -> Vec<f32> {
            values.iter().map(|value| value * factor).collect()
        };
        for (rank, (total, gradients)) in results.iter().enumerate() {
            let of_rank = |what: &str| fixture.float(&format!("rank{rank}.{name}.{what}"));
            let reported = f64::from(of_rank("loss").data[0]);
            let ours = total * WORKERS as f32;
            case.close_scalar(&format!("loss {name}"), ours, reported, 2e-6);
            for (head, (of_logits, _)) in gradients.iter().enumerate() {
                case.close(
                    &format!("gradient {name}"),
                    &times(of_logits, (WORKERS as f32) / heads as f32),
                    &of_rank(&format!("grad.{head}")).data,
                    1e-5,
                );
            }
        }
        for head in 0..heads {
            let of = |rank: usize| &results[rank].1[head].1;
            let sum: Vec<f32> = of(0).iter().zip(of(1)).map(|(a, b)| a + b).collect();
            case.close(
                &format!("gradient of weights {name}"),
                &times(&sum, 1.0 / heads as f32),
                &fixture
                    .float(&format!("rank0.{name}.ddp_gradW.{head}"))
                    .data,
                1e-5,
            );
        }
    }
}

const STEPS: usize = 4;

/// How a batch is divided.
#[derive(Clone, Copy)]
struct Division {
    batch: usize,
    parts: usize,
    /// Samples that the loss compares; 0: all.
    group: usize,
    /// Ranks beside the one that is alone.
    ranks: usize,
}

/// A small transformer: no batch normalisation, which needs kernels of its own to be shared; samples skip
/// branches, and the queue is full after two steps.
fn config(division: Division) -> Config {
    let mut config = Config::default();
    config.model.backbone = Arch::VitTiny;
    config.model.width = 8;
    config.model.depth = 2;
    config.model.patch_size = 8;
    config.model.position_size = 16;
    config.model.drop_path = 0.3;
    config.model.head_bn = false;
    config.model.hidden_dim = 8;
    config.model.dim = 4;
    config.model.heads = vec![3, 5];
    config.queue.length = 2 * division.batch;
    config.optim.kind = OptimKind::Sgd;
    config.train.batch_size = division.batch;
    config.train.accumulate = division.parts;
    config.loss.group = division.group;
    config
}

/// Samples `own` of the part of `size` samples that begins at sample `first`.
fn part(first: usize, size: usize, own: std::ops::Range<usize>, device: &Device) -> Batch {
    let view = |index: u64, pixels: usize| {
        let all = hash_images(100 * first as u64 + index, size, pixels, device);
        all.slice([own.clone(), 0..3, 0..pixels, 0..pixels])
    };
    let ints: Vec<i64> = own.clone().map(|i| (first + i) as i64).collect();
    // All alike: embeddings of noise are so close that rounding chooses among neighbours.
    let labels = vec![1; ints.len()];
    Batch {
        views: ViewBatch {
            global: Tensor::cat(vec![view(0, 16), view(1, 16)], 0),
            local: Some(view(2, 8)),
        },
        indices: int_tensor(&ints, device),
        labels: int_tensor(&labels, device),
    }
}

/// Losses, neighbour accuracies, and weights and queue at the end.
struct Course {
    losses: Vec<f32>,
    accuracies: Vec<f32>,
    weights: StateDict,
    queue: (Vec<f32>, Vec<i64>),
}

fn course(runtime: &Runtime, division: Division) -> Course {
    let config = config(division);
    let peers = Arc::clone(&runtime.collective);
    config
        .validate_for_ranks(peers.world_size())
        .expect("possible");
    let size = division.batch / division.parts;
    let shares = Shares::new(size, peers.world_size());
    let mut learner = Learner::new(&config, runtime.clone());
    let (mut losses, mut accuracies) = (Vec::new(), Vec::new());
    for step in 0..STEPS {
        let of_part = |number| {
            let first = step * division.batch + number * size;
            part(first, size, shares.of(peers.rank()), &runtime.device)
        };
        let parts: Vec<Batch> = (0..division.parts).map(of_part).collect();
        let output = learner.step_in_parts(&parts, 0.5).expect("a step");
        losses.push(values(output.loss)[0]);
        accuracies.extend(output.neighbour_accuracy.map(|value| values(value)[0]));
    }
    let queue = learner.queue().expect("a queue").state();
    Course {
        losses,
        accuracies,
        weights: state_dict(learner.model()),
        queue: (queue.embeddings, queue.indices),
    }
}

/// Four steps in two parts each, with neighbours and skipped branches: parts of five samples on three ranks
/// (two, two and one) are parts of five on one.
pub(crate) fn steps_are_those_of_one_process(case: &Case) {
    let division = Division {
        batch: 10,
        parts: 2,
        group: 0,
        ranks: 3,
    };
    steps_agree(case, division);
}

/// The same where the loss compares fewer samples than the batch: a part of all ranks, part of one rank's share, the
/// shares of two ranks of four.
pub(crate) fn groups_are_those_of_one_process(case: &Case) {
    let mut losses = Vec::new();
    for (batch, parts, group, ranks) in [(10, 2, 5, 3), (12, 1, 3, 2), (12, 1, 6, 4), (12, 1, 0, 2)]
    {
        let division = Division {
            batch,
            parts,
            group,
            ranks,
        };
        losses.push(steps_agree(case, division));
    }
    // Groups are another loss than the batch.
    assert!((losses[1][0] - losses[3][0]).abs() > 1e-5, "{losses:?}");
}

/// Returns the losses.
fn steps_agree(case: &Case, division: Division) -> Vec<f32> {
    let alone = course(&case.runtime, division);
    let ranks = on_threads(division.ranks, |peers| {
        let mut runtime = case.runtime.clone();
        runtime.collective = peers;
        course(&runtime, division)
    });
    let sum = |of: fn(&Course) -> &Vec<f32>| -> Vec<f32> {
        let mut sum = vec![0.0; of(&ranks[0]).len()];
        for rank in &ranks {
            for (sum, value) in sum.iter_mut().zip(of(rank)) {
                *sum += value;
            }
        }
        sum
    };
    case.close("losses", &sum(|course| &course.losses), &alone.losses, 5e-6);
    assert_eq!(alone.accuracies.len(), STEPS - 2);
    let accuracies = sum(|course| &course.accuracies);
    case.close("accuracies", &accuracies, &alone.accuracies, 1e-6);
    for rank in &ranks {
        assert_eq!(rank.queue.1, alone.queue.1, "the order of the queue");
        case.close("queue", &rank.queue.0, &alone.queue.0, 1e-5);
        // Fewer samples in a group, larger gradients.
        let tolerance = if division.group == 0 { 1e-5 } else { 3e-5 };
        for (name, array) in &alone.weights {
            case.close(name, &rank.weights[name].data, &array.data, tolerance);
            assert_eq!(
                rank.weights[name], ranks[0].weights[name],
                "{name} between ranks"
            );
        }
    }
    alone.losses
}
