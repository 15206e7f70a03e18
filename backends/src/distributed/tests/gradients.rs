//! One, two and four ranks have the same gradients, step by step and before an optimiser has seen them.

use std::collections::BTreeMap;
use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor, TensorData};
use selfcls_core::collective::{Collective, SingleProcess};
use selfcls_core::config::{Config, OptimKind, Precision};
use selfcls_core::data::Shares;
use selfcls_core::model::{ViewBatch, state_dict};
use selfcls_core::optim::ParamGradients;
use selfcls_core::runtime::Runtime;
use selfcls_core::train::{Batch, Learner};
use selfcls_core::weights::StateDict;

use super::{on_ranks, small_network};
use crate::against_burn::tensor;
use crate::on_devices::{is_cuda, on_devices, shared_kernels};

on_devices!(
    gradients_are_those_of_one_process,
    gradients_of_parts_are_those_of_one_process,
    gradients_at_the_authors_temperatures_are_those_of_one_process,
);

/// The queue is full after four: in the later ones neighbours replace views.
const STEPS: usize = 6;

/// Of a step's whole gradient: the norm of the difference against its own. Measured: 4e-6.
const LIMIT: f64 = 1e-5;
/// Of each parameter's alone, which may be a few sums of much larger numbers. Measured: 2e-5.
const LIMIT_OF_EACH: f64 = 1e-4;
/// Now and then, in one of fifty steps, the input of a rectifier is rounded to the other side of zero: a gradient that
/// passes there is stopped here. Then the same step has to agree where its images are a hair brighter, which moves the
/// input away from zero, and would not mend a mistake. So often is it moved.
const HAIRS: usize = 3;
const HAIR: f32 = 1e-3;
/// How much farther gradients may be apart at the authors' temperatures. Measured: 7e-6 of the whole, 2e-5 of each.
const AT_THE_AUTHORS: f64 = 2.0;
/// A gradient that is nothing but rounding, such as that of a bias before batch normalisation, is compared with this part
/// of the whole.
const LEAST: f64 = 1e-2;

/// Gradients by parameter.
pub(super) type Gradients = BTreeMap<String, Vec<f32>>;

pub(super) fn values(grads: &ParamGradients) -> Gradients {
    let values = |name: &str| {
        let grad = grads.get(name).expect("named").clone();
        let values = grad.into_data().try_into_vec().expect("floats");
        (name.to_owned(), values)
    };
    grads.names().map(values).collect()
}

/// A step's gradients, and the weights after it.
#[derive(PartialEq)]
struct Step {
    gradients: Gradients,
    weights: StateDict,
}

fn config(batch: usize, parts: usize) -> Config {
    let mut config = small_network();
    config.loss.row_temperature = 0.5;
    config.loss.col_temperature = 0.25;
    config.queue.length = 4 * batch;
    config.optim.kind = OptimKind::Sgd;
    config.train.batch_size = batch;
    config.train.accumulate = parts;
    config.train.bucket_mib = 0.001;
    config
}

/// The samples `own` of a view-major tensor of two views of `batch`.
fn share(all: Tensor<4>, batch: usize, own: &std::ops::Range<usize>) -> Tensor<4> {
    let [_, channels, height, width] = all.dims();
    all.reshape([2, batch, channels * height * width])
        .slice([0..2, own.clone()])
        .reshape([2 * own.len(), channels, height, width])
}

/// A rank's shares of the parts of a step's batch, `hairs` brighter.
fn parts(
    device: &Device,
    config: &Config,
    step: u64,
    hairs: usize,
    (rank, world): (usize, usize),
) -> Vec<Batch> {
    let count = config.train.batch_size / config.train.accumulate;
    let own = Shares::new(count, world).of(rank);
    let numbers = |first: usize| {
        let values: Vec<i64> = own.clone().map(|sample| (first + sample) as i64).collect();
        Tensor::<1, Int>::from_data(TensorData::new(values, [own.len()]), device)
    };
    (0..config.train.accumulate)
        .map(|part| {
            let seed = 100 * step + 10 * part as u64;
            let views = |seed, side| {
                let all = tensor(seed, [2 * count, 3, side, side], device);
                share(all, count, &own) + HAIR * hairs as f32
            };
            let first = step as usize * config.train.batch_size + part * count;
            Batch {
                views: ViewBatch {
                    global: views(seed, 16),
                    local: Some(views(seed + 1, 8)),
                },
                indices: numbers(first),
                labels: numbers(0),
            }
        })
        .collect()
}

/// The steps of a rank, each from the weights that one process had there, if they are `given`.
fn steps(
    device: &Device,
    config: &Config,
    hairs: usize,
    peers: Arc<dyn Collective>,
    given: Option<&[Step]>,
) -> Vec<Step> {
    let place = (peers.rank(), peers.world_size());
    let kernels = shared_kernels(device, Precision::F32);
    let kernels = match place.1 {
        1 => kernels,
        _ => kernels
            .synchronised(Arc::clone(&peers))
            .expect("libtorch's"),
    };
    let runtime = Runtime {
        kernels,
        collective: peers,
        ..Runtime::new(device.clone())
    };
    let mut learner = Learner::new(config, runtime);
    (0..STEPS)
        .map(|step| {
            let parts = parts(device, config, step as u64, hairs, place);
            let (_, grads) = learner.gradients(&parts).expect("a step");
            let gradients = values(&grads);
            learner.apply(grads, 0.01);
            if let Some(given) = given {
                learner.set_weights(&given[step].weights).expect("they fit");
            }
            Step {
                gradients,
                weights: state_dict(learner.model()),
            }
        })
        .collect()
}

/// How far two steps' gradients are apart.
#[derive(Debug, Default)]
pub(super) struct Apart {
    /// The norm of the difference, as a part of the gradient's.
    pub(super) whole: f64,
    /// The same of the parameter where it is largest.
    pub(super) each: f64,
    /// That parameter.
    pub(super) name: String,
}

impl Apart {
    pub(super) fn of(ours: &Gradients, theirs: &Gradients) -> Self {
        assert!(ours.keys().eq(theirs.keys()));
        let squares =
            |values: &mut dyn Iterator<Item = f32>| values.map(|x| f64::from(x * x)).sum::<f64>();
        let each: Vec<(&String, f64, f64)> = theirs
            .iter()
            .map(|(name, theirs)| {
                let pairs = ours[name].iter().zip(theirs);
                let off = squares(&mut pairs.map(|(a, e)| a - e));
                (name, off, squares(&mut theirs.iter().copied()))
            })
            .collect();
        let off: f64 = each.iter().map(|(_, off, _)| off).sum();
        let size: f64 = each.iter().map(|(_, _, size)| size).sum();
        assert!(off.is_finite() && size > 0.0);
        let mut apart = Self {
            whole: (off / size).sqrt(),
            ..Self::default()
        };
        for (name, off, own) in each {
            let each = off.sqrt() / own.sqrt().max(LEAST * size.sqrt());
            if each > apart.each {
                apart.each = each;
                apart.name.clone_from(name);
            }
        }
        apart
    }

    fn is_rounding(&self, times: f64) -> bool {
        self.whole <= times * LIMIT && self.each <= times * LIMIT_OF_EACH
    }
}

/// How far every step of `world` ranks is from that of one process, at images so many hairs brighter.
fn all_apart(device: &Device, config: &Config, hairs: usize, world: usize) -> Vec<Apart> {
    let alone = steps(device, config, hairs, Arc::new(SingleProcess), None);
    for pair in alone.windows(2) {
        let whole = Apart::of(&pair[0].gradients, &pair[1].gradients).whole;
        assert!(whole > 0.1, "they are all the same");
    }
    let ranks = on_ranks(world, |peers| {
        steps(device, config, hairs, peers, Some(&alone))
    });
    for rank in &ranks[1..] {
        let equal = rank.iter().zip(&ranks[0]);
        assert!(equal.into_iter().all(|(a, b)| a.gradients == b.gradients));
    }
    let pairs = ranks[0].iter().zip(&alone);
    pairs
        .map(|(ours, theirs)| Apart::of(&ours.gradients, &theirs.gradients))
        .collect()
}

/// All steps are within `times` the limits; one that is not is, where its images are a hair brighter.
fn are_equal(device: &Device, what: &str, config: &Config, times: f64) {
    // cuDNN takes another algorithm for another number of images.
    let times = if is_cuda(device) { 10.0 * times } else { times };
    for world in [2, 4] {
        let mut left: Vec<usize> = (0..STEPS).collect();
        for hairs in 0..=HAIRS {
            let apart = all_apart(device, config, hairs, world);
            left.retain(|&step| !apart[step].is_rounding(times));
            let most = apart.iter().map(|step| step.whole).fold(0.0, f64::max);
            let each = apart.iter().map(|step| step.each).fold(0.0, f64::max);
            eprintln!(
                "{what}, {world} ranks, {hairs} hairs: {most:.1e}, each {each:.1e}; left {left:?}"
            );
            for &step in &left {
                let Apart { whole, each, name } = &apart[step];
                eprintln!("  step {step}: {whole:.1e} of the whole, {each:.1e} of {name}");
            }
            // More than one would be no accident.
            assert!(left.len() <= 1, "{what}, {world} ranks: {apart:?}");
            if left.is_empty() {
                break;
            }
        }
        assert!(
            left.is_empty(),
            "{what}, {world} ranks: step {left:?} differs"
        );
    }
}

/// Two ranks of equal shares, four of unequal ones.
fn gradients_are_those_of_one_process(device: &Device) {
    are_equal(device, "10 images", &config(10, 1), 1.0);
}

fn gradients_of_parts_are_those_of_one_process(device: &Device) {
    are_equal(device, "2 parts of 6 images", &config(12, 2), 1.0);
}

/// They multiply rounding: one process that takes a batch in reverse order is as far from itself.
fn gradients_at_the_authors_temperatures_are_those_of_one_process(device: &Device) {
    let mut config = config(10, 1);
    let usual = Config::default().loss;
    assert_eq!((usual.row_temperature, usual.col_temperature), (0.1, 0.05));
    config.loss.row_temperature = usual.row_temperature;
    config.loss.col_temperature = usual.col_temperature;
    are_equal(
        device,
        "10 images, at 0.1 and 0.05",
        &config,
        AT_THE_AUTHORS,
    );
}
