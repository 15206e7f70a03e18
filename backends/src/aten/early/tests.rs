//! Gradients that leave while the backward pass goes on are those that leave behind it.

#![allow(deprecated, reason = "burn 0.22 is the last line with burn-tch")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use burn::tensor::{Device, Int, Tensor, TensorData};
use selfcls_core::collective::{Collective, PendingSum, Reduction};
use selfcls_core::config::{Arch, Config, OptimConfig, Precision};
use selfcls_core::kernels::{BatchNormOutput, Kernels, RunningStatistics};
use selfcls_core::model::{ViewBatch, state_dict};
use selfcls_core::optim::ParamGradients;
use selfcls_core::optim::rule::{ParamUpdate, Updated};
use selfcls_core::runtime::Runtime;
use selfcls_core::train::{Batch, Learner};

use crate::against_burn::tensor;
use crate::distributed::tests::{on_ranks, small_network};
use crate::on_devices::{is_cuda, kernels, on_devices};

on_devices!(
    gradients_are_those_that_leave_behind_the_pass,
    buckets_leave_before_the_pass_has_ended,
    an_overflow_on_one_rank_is_skipped_by_all,
);

/// The same kernels without giving anything early.
#[derive(Debug)]
struct Late(Arc<dyn Kernels>);

impl Kernels for Late {
    fn precision(&self) -> Precision {
        self.0.precision()
    }

    fn weight_layout(&self, weight: Tensor<4>) -> Tensor<4> {
        self.0.weight_layout(weight)
    }

    fn conv2d(
        &self,
        input: Tensor<4>,
        weight: Tensor<4>,
        stride: usize,
        padding: usize,
        groups: usize,
    ) -> Tensor<4> {
        self.0.conv2d(input, weight, stride, padding, groups)
    }

    fn batch_norm_train(
        &self,
        input: Tensor<4>,
        weight: Tensor<1>,
        bias: Tensor<1>,
        running: RunningStatistics,
        momentum: f64,
        eps: f64,
    ) -> BatchNormOutput {
        self.0
            .batch_norm_train(input, weight, bias, running, momentum, eps)
    }

    fn batch_norm_eval(
        &self,
        input: Tensor<4>,
        weight: Tensor<1>,
        bias: Tensor<1>,
        running: RunningStatistics,
        eps: f64,
    ) -> Tensor<4> {
        self.0.batch_norm_eval(input, weight, bias, running, eps)
    }

    fn relu(&self, input: Tensor<4>) -> Tensor<4> {
        self.0.relu(input)
    }

    fn gelu(&self, input: Tensor<3>) -> Tensor<3> {
        self.0.gelu(input)
    }

    fn layer_norm(
        &self,
        input: Tensor<3>,
        weight: Tensor<1>,
        bias: Tensor<1>,
        eps: f64,
    ) -> Tensor<3> {
        self.0.layer_norm(input, weight, bias, eps)
    }

    fn attention(&self, qkv: Tensor<3>, heads: usize) -> Tensor<3> {
        self.0.attention(qkv, heads)
    }

    fn add_relu(&self, lhs: Tensor<4>, rhs: Tensor<4>) -> Tensor<4> {
        self.0.add_relu(lhs, rhs)
    }

    fn update(&self, config: &OptimConfig, lr: f64, params: Vec<ParamUpdate>) -> Vec<Updated> {
        self.0.update(config, lr, params)
    }
}

/// What a rank does with its peers, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    /// Adds up at once; in a backward pass, sums of batch normalisation.
    Reduces,
    /// Lets a bucket leave.
    Begins,
    /// Takes a bucket's sum.
    Takes,
}

/// Peers that write down what is asked of them.
#[derive(Debug)]
struct Recording {
    peers: Arc<dyn Collective>,
    acts: Arc<Mutex<Vec<Act>>>,
    /// Whether the gradients that this rank sends have overflowed.
    overflows: Arc<AtomicBool>,
}

impl Recording {
    fn note(&self, act: Act) {
        self.acts.lock().expect("one thread").push(act);
    }
}

#[derive(Debug)]
struct RecordedSum {
    sum: Box<dyn PendingSum>,
    acts: Arc<Mutex<Vec<Act>>>,
}

impl PendingSum for RecordedSum {
    fn wait(self: Box<Self>) -> selfcls_core::Result<Tensor<1>> {
        self.acts.lock().expect("one thread").push(Act::Takes);
        self.sum.wait()
    }
}

impl Collective for Recording {
    fn rank(&self) -> usize {
        self.peers.rank()
    }

    fn world_size(&self) -> usize {
        self.peers.world_size()
    }

    fn all_reduce(
        &self,
        tensor: Tensor<1>,
        reduction: Reduction,
    ) -> selfcls_core::Result<Tensor<1>> {
        self.note(Act::Reduces);
        self.peers.all_reduce(tensor, reduction)
    }

    fn begin_sum(&self, tensor: Tensor<1>) -> selfcls_core::Result<Box<dyn PendingSum>> {
        self.note(Act::Begins);
        let tensor = match self.overflows.load(Ordering::Relaxed) {
            true => tensor + f32::INFINITY,
            false => tensor,
        };
        Ok(Box::new(RecordedSum {
            sum: self.peers.begin_sum(tensor)?,
            acts: Arc::clone(&self.acts),
        }))
    }

    fn all_gather(&self, tensor: Tensor<2>, rows: &[usize]) -> selfcls_core::Result<Tensor<2>> {
        self.peers.all_gather(tensor, rows)
    }

    fn all_gather_int(
        &self,
        tensor: Tensor<1, Int>,
        counts: &[usize],
    ) -> selfcls_core::Result<Tensor<1, Int>> {
        self.peers.all_gather_int(tensor, counts)
    }

    fn broadcast(&self, bytes: Vec<u8>, from: usize) -> selfcls_core::Result<Vec<u8>> {
        self.peers.broadcast(bytes, from)
    }

    fn barrier(&self) -> selfcls_core::Result<()> {
        self.peers.barrier()
    }

    fn in_groups_of(&self, size: usize) -> selfcls_core::Result<Arc<dyn Collective>> {
        self.peers.in_groups_of(size)
    }

    fn check(&self) -> selfcls_core::Result<()> {
        self.peers.check()
    }

    fn leave(&self, reason: &str) {
        self.peers.leave(reason);
    }
}

/// Images of each rank in a step.
const OWN: usize = 4;

/// A small network, and buckets so small that nearly every gradient has its own.
fn config(world: usize) -> Config {
    let mut config = small_network();
    config.queue.length = 0;
    config.train.batch_size = world * OWN;
    config.train.bucket_mib = 0.001;
    config
}

fn batches(device: &Device, rank: usize, parts: usize) -> Vec<Batch> {
    let count = OWN / parts;
    let numbers = |value: i64| {
        let values = TensorData::new(vec![value; count], [count]);
        Tensor::<1, Int>::from_data(values, device)
    };
    (0..parts)
        .map(|part| {
            let seed = 10 * (rank * parts + part) as u64;
            Batch {
                views: ViewBatch {
                    global: tensor(seed, [2 * count, 3, 16, 16], device),
                    local: Some(tensor(seed + 1, [2 * count, 3, 8, 8], device)),
                },
                indices: numbers(seed as i64),
                labels: numbers(-1),
            }
        })
        .collect()
}

fn values(grads: &ParamGradients) -> BTreeMap<String, Vec<f32>> {
    let names: Vec<String> = grads.names().map(str::to_owned).collect();
    names
        .into_iter()
        .map(|name| {
            let grad = grads.get(&name).expect("named").clone();
            let values = grad.into_data().try_into_vec().expect("floats");
            (name, values)
        })
        .collect()
}

/// A learner among `peers`, whose acts are recorded, and the first scale of fp16 lowered, which is made to overflow.
fn learner(
    device: &Device,
    peers: Arc<dyn Collective>,
    config: &Config,
    early: bool,
) -> (Learner, Arc<Mutex<Vec<Act>>>, Arc<AtomicBool>) {
    let (acts, overflows) = (Arc::default(), Arc::default());
    let peers: Arc<dyn Collective> = Arc::new(Recording {
        peers,
        acts: Arc::clone(&acts),
        overflows: Arc::clone(&overflows),
    });
    let kernels = kernels(device, config.train.precision)
        .synchronised(Arc::clone(&peers))
        .expect("libtorch's");
    let runtime = Runtime {
        kernels: if early {
            kernels
        } else {
            Arc::new(Late(kernels))
        },
        collective: peers,
        ..Runtime::new(device.clone())
    };
    let mut learner = Learner::new(config, runtime);
    if let Some(mut scale) = learner.loss_scale() {
        scale.factor = 64.0;
        learner.set_loss_scale(Some(scale));
    }
    (learner, acts, overflows)
}

/// The gradients of two equal steps, and what happened in the second.
fn two_steps(
    device: &Device,
    peers: Arc<dyn Collective>,
    config: &Config,
    early: bool,
) -> ([BTreeMap<String, Vec<f32>>; 2], Vec<Act>) {
    let rank = peers.rank();
    let (mut learner, acts, _) = learner(device, peers, config, early);
    let parts = batches(device, rank, config.train.accumulate);
    let first = learner.gradients(&parts).expect("a step").1;
    acts.lock().expect("one thread").clear();
    let second = learner.gradients(&parts).expect("a step").1;
    let seen = acts.lock().expect("one thread").clone();
    ([values(&first), values(&second)], seen)
}

/// Whole batches, parts, recomputed blocks, and half precision with and without a scale: each weight is used
/// twice in a step or more often.
fn cases(world: usize) -> Vec<(&'static str, Config)> {
    let with = |change: fn(&mut Config)| {
        let mut config = config(world);
        change(&mut config);
        config
    };
    vec![
        ("whole", with(|_| ())),
        ("parts", with(|config| config.train.accumulate = 2)),
        ("recomputed", with(|config| config.train.recompute = true)),
        (
            "bf16",
            with(|config| config.train.precision = Precision::Bf16),
        ),
        (
            "fp16",
            with(|config| config.train.precision = Precision::Fp16),
        ),
        (
            "apart",
            with(|config| {
                config.model.views_apart = true;
                config.views.local_count = 0;
            }),
        ),
    ]
}

/// Tokens instead of maps, and hardly any batch normalisation.
fn transformer(world: usize) -> Config {
    let mut config = config(world);
    config.model.backbone = Arch::VitTiny;
    config.model.width = 8;
    config.model.depth = 2;
    config.model.patch_size = 8;
    config.model.position_size = 16;
    config
}

fn gradients_are_those_that_leave_behind_the_pass(device: &Device) {
    for world in [2, 4] {
        // Four ranks on few cores take their time.
        let some = cases(world).into_iter().take(12 / world);
        for (name, config) in some.chain([("transformer", transformer(world))]) {
            let results = on_ranks(world, |peers| {
                let early = two_steps(device, Arc::clone(&peers), &config, true).0;
                let late = two_steps(device, peers, &config, false).0;
                (early, late)
            });
            for (early, late) in &results {
                for (step, (early, late)) in early.iter().zip(late).enumerate() {
                    assert!(early.keys().eq(late.keys()), "{name}");
                    let all = late.values().flatten();
                    let scale = all.fold(0.0_f32, |a, b| a.max(b.abs()));
                    assert!(scale.is_finite() && scale > 0.0, "{name}: {scale}");
                    for (param, late) in late {
                        // A sum of two is the same in any order; that of four is not, nor is any inside cuDNN.
                        let limit = match (is_cuda(device), config.train.precision) {
                            (false, _) if world == 2 => 0.0,
                            (false, _) => 1e-6 * scale,
                            (true, Precision::F32) => 1e-4 * scale,
                            (true, _) => 3e-2 * scale,
                        };
                        for (a, e) in early[param].iter().zip(late) {
                            assert!(
                                (a - e).abs() <= limit,
                                "{name}, {world} ranks, step {step}, {param}: {a} for {e}"
                            );
                        }
                    }
                }
                assert_eq!(early, &results[0].0, "{name}: between ranks");
            }
        }
    }
}

/// In the order of events, not by the clock: between sums of batch normalisation, which the backward pass makes,
/// buckets leave, and none is waited for before the pass is over.
fn buckets_leave_before_the_pass_has_ended(device: &Device) {
    for (name, config) in cases(2) {
        for early in [true, false] {
            let acts = on_ranks(2, |peers| two_steps(device, peers, &config, early).1);
            assert_eq!(acts[0], acts[1], "{name}: the same on all ranks");
            let acts = &acts[0];
            let first_taken = acts.iter().position(|&act| act == Act::Takes);
            let last_reduced = acts.iter().rposition(|&act| act == Act::Reduces);
            assert!(first_taken > last_reduced, "{name}: {acts:?}");
            // Those of the classifiers leave before the pass begins: one change from leaving to reducing.
            let within = acts
                .windows(2)
                .filter(|pair| pair == &[Act::Begins, Act::Reduces])
                .count();
            if early {
                assert!(within > 4, "{name}: {acts:?}");
            } else {
                assert!(within <= 1, "{name}: {acts:?}");
            }
        }
    }
}

/// Gradients are judged by their sum: where one rank's have overflowed, all leave the weights and lower the scale.
fn an_overflow_on_one_rank_is_skipped_by_all(device: &Device) {
    let mut config = config(2);
    config.train.precision = Precision::Fp16;
    let results = on_ranks(2, |peers| {
        let rank = peers.rank();
        let (mut learner, _, overflows) = learner(device, peers, &config, true);
        let mut states = vec![(state_dict(learner.model()), 64.0)];
        // The first step agrees on the buckets, the second sends them early.
        for overflow in [rank == 1, rank == 1, false] {
            overflows.store(overflow, Ordering::Relaxed);
            let [batch] = <[Batch; 1]>::try_from(batches(device, rank, 1)).expect("one part");
            learner.step(batch, 0.1).expect("a step");
            let scale = learner.loss_scale().expect("fp16 has one");
            states.push((state_dict(learner.model()), scale.factor));
        }
        states
    });
    assert!(results[0] == results[1], "ranks differ");
    let weight = |step: usize| &results[0][step].0["backbone.conv1.weight"];
    let scales: Vec<f64> = results[0].iter().map(|(_, scale)| *scale).collect();
    assert_eq!(scales, [64.0, 32.0, 16.0, 16.0]);
    assert!(weight(0) == weight(1) && weight(0) == weight(2), "skipped");
    assert!(weight(2) != weight(3), "and made when all is well");
}
