//! Several ranks against one, on any backend: ranks are threads here.

use crate::fixture::{arrays, hash_images, int_tensor, json, values};
use crate::loss::Expected;
use crate::runner::Case;
use burn::tensor::{Device, Tensor};
use selfcls_core::Config;
use selfcls_core::collective::Collective;
use selfcls_core::config::{Arch, LossConfig, OptimKind};
use selfcls_core::data::Shares;
use selfcls_core::loss::Loss;
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
        let noise = expected.noise(&name);
        case.close_scalar(&format!("loss {name}"), sum, expected.loss, 1e-6 * noise);
        let gradients: Vec<Vec<f32>> = results.into_iter().map(|(_, gradient)| gradient).collect();
        case.close(
            &format!("gradient {name}"),
            &joined(&gradients, shape),
            &fixture.float(&format!("{name}.grad.0")).data,
            1e-5 * noise,
        );
    }
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

const BATCH: usize = 10;
const STEPS: usize = 4;

/// A small transformer: no batch normalisation, which needs kernels of its own to be shared; samples skip
/// branches, and the queue is full after two steps.
fn config() -> Config {
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
    config.queue.length = 2 * BATCH;
    config.optim.kind = OptimKind::Sgd;
    config.train.batch_size = BATCH;
    config.train.accumulate = 2;
    config
}

/// Samples `own` of the part that begins at sample `first`.
fn part(first: usize, own: std::ops::Range<usize>, device: &Device) -> Batch {
    let size = BATCH / 2;
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

fn course(runtime: &Runtime) -> Course {
    let config = config();
    let peers = Arc::clone(&runtime.collective);
    let shares = Shares::new(BATCH / 2, peers.world_size());
    let mut learner = Learner::new(&config, runtime.clone());
    let (mut losses, mut accuracies) = (Vec::new(), Vec::new());
    for step in 0..STEPS {
        let parts = [0, 1].map(|number| {
            let first = step * BATCH + number * BATCH / 2;
            part(first, shares.of(peers.rank()), &runtime.device)
        });
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
    let alone = course(&case.runtime);
    let ranks = on_threads(3, |peers| {
        let mut runtime = case.runtime.clone();
        runtime.collective = peers;
        course(&runtime)
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
        for (name, array) in &alone.weights {
            case.close(name, &rank.weights[name].data, &array.data, 1e-5);
            assert_eq!(
                rank.weights[name], ranks[0].weights[name],
                "{name} between ranks"
            );
        }
    }
}
