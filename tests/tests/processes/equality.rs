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

/// Compares all that two runs have left.
fn assert_equal(what: &str, actual: &Path, expected: &Path) {
    let (ours, theirs) = (losses(actual), losses(expected));
    assert_eq!(ours.len(), theirs.len(), "{what}");
    for (step, (a, e)) in ours.iter().zip(&theirs).enumerate() {
        assert!(
            (a - e).abs() <= f64::from(LIMIT) * e.abs(),
            "{what}: loss of step {step}: {a} for {e}"
        );
    }
    let (ours, theirs) = (newest(actual), newest(expected));
    assert_eq!(ours.manifest.position.step, theirs.manifest.position.step);
    let mut worst = (0.0, String::new());
    let mut compare = |name: &str, actual: &[f32], expected: &[f32], limit: f32| {
        let difference = difference(actual, expected);
        assert!(
            difference <= limit,
            "{what}: {name} is off by {difference:e}"
        );
        if difference > worst.0 {
            worst = (difference, name.to_owned());
        }
    };
    for (name, array) in &theirs.model {
        let limit = if is_buffer(name) {
            LIMIT
        } else {
            LIMIT_OF_GRADIENTS
        };
        compare(name, &ours.model[name].data, &array.data, limit);
    }
    let largest = theirs
        .optimizer
        .moments
        .values()
        .flat_map(|array| &array.data);
    let largest = largest.fold(0.0_f32, |a, b| a.max(b.abs()));
    for (name, array) in &theirs.optimizer.moments {
        // Against all gradients: a bias before batch normalisation has none but rounding.
        let unit = |values: &[f32]| -> Vec<f32> {
            values
                .iter()
                .map(|value| value / largest)
                .chain([1.0])
                .collect()
        };
        compare(
            name,
            &unit(&ours.optimizer.moments[name].data),
            &unit(&array.data),
            LIMIT_OF_GRADIENTS,
        );
    }
    let (ours, theirs) = (ours.queue.expect("a queue"), theirs.queue.expect("a queue"));
    assert_eq!(
        ours.indices, theirs.indices,
        "{what}: the order of the queue"
    );
    assert_eq!((ours.next, ours.full), (theirs.next, true));
    compare("queue", &ours.embeddings, &theirs.embeddings, LIMIT);
    eprintln!("{what}: largest difference {:.1e}, of {}", worst.0, worst.1);
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
    ranks_equal_one("parts_are_divided_among_processes", &config, &[4]);
}

/// A rank asks to stop, all do after the same step; another number of ranks goes on, and then one process,
/// and the end is that of an undisturbed process.
#[test]
fn other_numbers_of_processes_go_on() {
    let Some(binary) = binary_for("other_numbers_of_processes_go_on") else {
        return;
    };
    let place = Place::new(binary);
    let mut config = config();
    config.train.epochs = 6;
    place.train("undisturbed", &config, 1);
    let run = place.path("moved");
    let mut stopped_at = 0;
    for (world, rank, steps) in [(2, 1, 2), (4, 2, 10)] {
        let mut ranks = place.start("moved", &config, world, |_| Some(Vec::new()));
        ranks.reached(&run, steps);
        ranks.signal(rank, "TERM");
        for (number, ended) in ranks.wait().into_iter().enumerate() {
            // Those that were not asked themselves leave the larger code to the one that was.
            let code = if number == rank { 130 } else { 75 };
            assert_eq!(ended.status.code(), Some(code), "{}", ended.stderr);
        }
        let step = newest(&run).manifest.position.step;
        assert!(step > stopped_at, "{step}");
        stopped_at = step;
    }
    place.train("moved", &config, 1);
    assert_equal("moved", &run, &place.path("undisturbed"));
}
