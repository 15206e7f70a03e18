//! One, two and four processes with the same total batch make the same training.

use crate::binary_for;
use crate::start::{Place, config};
use selfcls_core::Config;
use selfcls_core::checkpoint::{self, Snapshot};
use selfcls_core::model::is_buffer;
use std::path::Path;

/// Losses, step by step.
fn losses(run: &Path) -> Vec<f64> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).expect("a journal");
    let lines = text
        .lines()
        .map(|line| -> serde_json::Value { serde_json::from_str(line).expect("JSON") });
    let steps = lines.filter(|line| line["kind"] == "step");
    steps
        .map(|line| line["loss"].as_f64().expect("a number"))
        .collect()
}

pub(crate) fn newest(run: &Path) -> Snapshot {
    let path = checkpoint::find(run).expect("a checkpoint");
    checkpoint::load(&path).expect("loads")
}

/// Parameters that begin at zero, and have hardly moved, are compared on the scale of the others.
const LEAST_SCALE: f32 = 0.01;

/// The largest difference, as a part of the largest expected value.
fn difference(actual: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(actual.len(), expected.len());
    let scale = expected.iter().fold(LEAST_SCALE, |a, b| a.max(b.abs()));
    let pairs = actual.iter().zip(expected);
    // Not `f32::max`, which would swallow a NaN.
    let worst = pairs.map(|(a, e)| (a - e).abs()).fold(0.0_f32, |worst, d| {
        if d > worst || d.is_nan() { d } else { worst }
    });
    worst / scale
}

/// Losses, batch statistics and the queue; measured: 2e-6, 2e-6 and 5e-6.
const LIMIT: f32 = 1e-5;
/// Weights and the optimiser's history, which with SGD is a sum of gradients; measured: 9e-6. Where a
/// rectifier's input is rounded to the other side of zero, a gradient changes by more than rounding.
const LIMIT_OF_GRADIENTS: f32 = 1e-4;

/// How far two runs may be apart.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    /// Losses, batch statistics and the queue.
    pub(crate) values: f32,
    /// Weights and the optimiser's history.
    pub(crate) weights: f32,
}

/// Compares all that two runs have left.
pub(crate) fn assert_equal(what: &str, actual: &Path, expected: &Path) {
    let limits = Limits {
        values: LIMIT,
        weights: LIMIT_OF_GRADIENTS,
    };
    assert_within(limits, what, actual, expected);
}

/// Compares all that two runs have left.
pub(crate) fn assert_within(limits: Limits, what: &str, actual: &Path, expected: &Path) {
    let scale = |run: &Path| newest(run).manifest.loss_scale;
    assert_eq!(scale(actual), scale(expected), "{what}");
    let found = differences(actual, expected);
    for difference in &found {
        let limit = match difference.kind {
            Kind::Value => limits.values,
            Kind::Weight => limits.weights,
        };
        let Difference { name, size, .. } = difference;
        assert!(*size <= limit, "{what}: {name} is off by {size:e}");
    }
    let worst = found.iter().max_by(|a, b| a.size.total_cmp(&b.size));
    if let Some(Difference { name, size, .. }) = worst {
        eprintln!("{what}: largest difference {size:.1e}, of {name}");
    }
}

/// How far two runs are apart.
pub(crate) fn apart(one: &Path, other: &Path) -> Limits {
    let found = differences(one, other);
    let most = |kind: Kind| {
        let sizes = found.iter().filter(|found| found.kind == kind);
        sizes.map(|found| found.size).fold(0.0, f32::max)
    };
    Limits {
        values: most(Kind::Value),
        weights: most(Kind::Weight),
    }
}

/// What a [`Limits`] limits.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Value,
    Weight,
}

/// How far something is off.
struct Difference {
    name: String,
    kind: Kind,
    size: f32,
}

/// All differences between what two runs have left.
fn differences(actual: &Path, expected: &Path) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut compare = |name: &str, kind: Kind, size: f32| {
        found.push(Difference {
            name: name.to_owned(),
            kind,
            size,
        });
    };
    let (ours, theirs) = (losses(actual), losses(expected));
    assert_eq!(ours.len(), theirs.len(), "{}", actual.display());
    for (step, (a, e)) in ours.iter().zip(&theirs).enumerate() {
        let size = ((a - e).abs() / e.abs()) as f32;
        compare(&format!("loss of step {step}"), Kind::Value, size);
    }
    let (ours, theirs) = (newest(actual), newest(expected));
    assert_eq!(ours.manifest.position.step, theirs.manifest.position.step);
    for (name, array) in &theirs.model {
        let kind = match is_buffer(name) {
            true => Kind::Value,
            false => Kind::Weight,
        };
        compare(name, kind, difference(&ours.model[name].data, &array.data));
    }
    let all = theirs.optimizer.moments.values();
    let all = all.flat_map(|array| &array.data);
    let largest = all.fold(0.0_f32, |a, b| a.max(b.abs()));
    for (name, array) in &theirs.optimizer.moments {
        // Against all gradients: a bias before batch normalisation has none but rounding.
        let unit = |values: &[f32]| -> Vec<f32> {
            values
                .iter()
                .map(|value| value / largest)
                .chain([1.0])
                .collect()
        };
        let ours = unit(&ours.optimizer.moments[name].data);
        compare(name, Kind::Weight, difference(&ours, &unit(&array.data)));
    }
    let (ours, theirs) = (ours.queue.expect("a queue"), theirs.queue.expect("a queue"));
    assert_eq!(ours.indices, theirs.indices, "the order of the queue");
    assert_eq!((ours.next, ours.full), (theirs.next, true));
    let size = difference(&ours.embeddings, &theirs.embeddings);
    compare("queue", Kind::Value, size);
    found
}

fn ranks_equal_one(name: &str, config: &Config, worlds: &[usize]) {
    let Some(binary) = binary_for(name) else {
        return;
    };
    let place = Place::new(binary);
    place.train("alone", config, 1);
    for &world in worlds {
        let run = format!("of-{world}");
        let ended = place.train(&run, config, world);
        assert_equal(
            &format!("{world} processes"),
            &place.path(&run),
            &place.path("alone"),
        );
        // Rank 0 prints the checkpoint and nothing else does, not even gloo.
        let path = checkpoint::find(&place.path(&run)).expect("a checkpoint");
        assert_eq!(ended[0].stdout, format!("{}\n", path.display()));
        assert!(ended[1..].iter().all(|ended| ended.stdout.is_empty()));
        assert!(
            ended[1..]
                .iter()
                .all(|ended| !ended.stderr.contains("epoch"))
        );
        assert!(place.path(&run).join("log.rank1.txt").is_file());
    }
}

/// Ten images: five and five, or three, three, two and two.
#[test]
fn two_and_four_processes_train_as_one() {
    ranks_equal_one("two_and_four_processes_train_as_one", &config(), &[2, 4]);
}

/// Two parts of six images: two, two, one and one of each.
#[test]
fn parts_are_divided_among_processes() {
    let mut config = config();
    config.train.batch_size = 12;
    config.queue.length = 24;
    config.train.accumulate = 2;
    ranks_equal_one("parts_are_divided_among_processes", &config, &[2, 4]);
}

/// Rank 0 alone reads the weights to begin with. The others have drawn their own, and get those of rank 0 with their running
/// statistics.
#[test]
fn ranks_begin_with_the_weights_of_the_first() {
    let Some(binary) = binary_for("ranks_begin_with_the_weights_of_the_first") else {
        return;
    };
    let place = Place::new(binary);
    let mut other = config();
    other.train.seed = 1;
    place.train("other", &other, 1);
    let from = vec![
        "--pretrained".to_owned(),
        place.path("other").display().to_string(),
    ];
    for world in [1, 2, 4] {
        let run = format!("of-{world}");
        let ranks = place.start(&run, &config(), world, |_| Some(from.clone()));
        for ended in ranks.wait() {
            assert!(ended.status.success(), "{}", ended.stderr);
        }
        assert_equal(
            &format!("{world} processes from other weights"),
            &place.path(&run),
            &place.path("of-1"),
        );
    }
    // Ranks that had kept their own would have been noticed.
    place.train("own", &config(), 1);
    let first = |run: &str| losses(&place.path(run))[0];
    let apart = (first("own") - first("of-1")).abs();
    assert!(apart > 1e-3, "{apart}");
}

/// Of 43 images three are left over, and no rank trains on them.
#[test]
fn a_short_last_batch_is_left_out_by_all() {
    let Some(binary) = binary_for("a_short_last_batch_is_left_out_by_all") else {
        return;
    };
    let place = Place::new(binary);
    let data = vec!["--data".to_owned(), "shapes:43".to_owned()];
    // Of other images in another order; measured: queue 1.2e-5.
    let limits = Limits {
        values: 3.0 * LIMIT,
        weights: LIMIT_OF_GRADIENTS,
    };
    for world in [1, 2, 4] {
        let run = format!("of-{world}");
        let ranks = place.start(&run, &config(), world, |_| Some(data.clone()));
        for ended in ranks.wait() {
            assert!(ended.status.success(), "{}", ended.stderr);
        }
        let run = place.path(&run);
        let (ours, theirs) = (losses(&run), losses(&place.path("of-1")));
        assert_eq!(ours.len(), 2 * 4, "{world} processes");
        for (a, e) in ours.iter().zip(&theirs) {
            assert!((a - e).abs() <= f64::from(LIMIT) * e.abs(), "{a} for {e}");
        }
        let what = format!("43 images, {world} processes");
        assert_within(limits, &what, &run, &place.path("of-1"));
    }
}
