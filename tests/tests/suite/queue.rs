//! The nearest-neighbour queue.

use crate::fixture::{Arrays, arrays, hash_images, int_tensor, int_values, json, values};
use crate::runner::Case;
use burn::tensor::{Int, Tensor};
use selfcls_core::queue::Queue;
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct History {
    queue_len: usize,
    dim: usize,
    log: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    op: String,
    i: Option<usize>,
    before_push: Option<usize>,
    n: Option<usize>,
    ptr: usize,
    full: bool,
}

/// Positions after every push, neighbours before it and the contents at the end, over wrapping and exactly filling batches.
pub(crate) fn contents_and_neighbours(case: &Case) {
    let fixture = arrays("queue");
    let histories: BTreeMap<String, History> = json("queue");
    for name in ["wrap", "exact"] {
        replay(case, name, &histories[name], &fixture);
    }
}

fn replay(case: &Case, name: &str, history: &History, fixture: &Arrays) {
    let device = &case.runtime.device;
    let mut queue = Queue::new(history.queue_len, history.dim, device);
    let labels_of = |key: &str| -> Tensor<1, Int> { fixture.int_tensor(key, device) };
    let last = history.log.iter().filter_map(|entry| entry.i).max();
    for entry in &history.log {
        if let Some(i) = entry.i {
            let key = |what: &str| format!("{name}.{i}.{what}");
            queue.push(
                fixture.tensor(&key("push"), device),
                fixture.int_tensor(&key("push_idx"), device),
                labels_of(&key("push_targets")),
            );
            let state = queue.state();
            assert_eq!(
                (state.next, state.full),
                (entry.ptr, entry.full),
                "{name} push {i}"
            );
            // The fixture holds the contents after the last push only.
            if entry.i == last {
                let expected = &fixture.float(&key("queue")).data;
                case.close(&key("queue"), &state.embeddings, expected, 0.0);
                assert_eq!(state.indices, fixture.int(&key("queue_indices")));
                let labels: Vec<f32> = state.labels.iter().map(|&label| label as f32).collect();
                assert_eq!(labels, fixture.float(&key("queue_targets")).data);
            }
        } else if let Some(i) = entry.before_push.filter(|_| entry.full) {
            assert_eq!(entry.op, "get_nn");
            let key = |what: &str| format!("{name}.{i}.{what}");
            let found = queue.nearest(
                fixture.tensor(&key("query"), device),
                fixture.int_tensor(&key("query_idx"), device),
            );
            case.close(
                &key("nn"),
                &values(found.embeddings),
                &fixture.float(&key("nn")).data,
                0.0,
            );
            let labels: Vec<f32> = int_values(found.labels)
                .into_iter()
                .map(|label| label as f32)
                .collect();
            assert_eq!(
                labels,
                fixture.float(&key("nn_targets")).data,
                "{name} neighbours {i}"
            );
        }
    }
}

/// Of a batch longer than the queue the last rows stay, at the places a row-by-row push would use.
pub(crate) fn a_batch_longer_than_the_queue(case: &Case) {
    let device = &case.runtime.device;
    let history: BTreeMap<String, History> = json("queue");
    let history = &history["batch_gt_queue"];
    let mut queue = Queue::new(history.queue_len, 1, device);
    let mut by_row = vec![0_i64; history.queue_len];
    let mut next = 0;
    for entry in &history.log {
        let n = entry.n.expect("a push");
        let indices: Vec<i64> = (0..n as i64).map(|i| 100 + i).collect();
        let embeddings = Tensor::ones([n, 1], device);
        let ints = || int_tensor(&indices, device);
        queue.push(embeddings, ints(), ints());
        for &index in &indices {
            by_row[next % history.queue_len] = index;
            next += 1;
        }
        let state = queue.state();
        assert_eq!((state.next, state.full), (entry.ptr, entry.full));
        assert_eq!(state.indices, by_row);
    }
}

/// However many rows are searched at a time, the neighbours are the same: with unequal last blocks, with
/// blocks of one row, and where the two best lie in one block or in two.
pub(crate) fn the_block_size_changes_nothing(case: &Case) {
    const LENGTH: usize = 23;
    const DIM: usize = 5;
    let device = &case.runtime.device;
    let embeddings = |k: u64, rows: usize| -> Tensor<2> {
        hash_images(k, rows * DIM, 1, device)
            .slice([0..rows * DIM, 0..1])
            .reshape([rows, DIM])
    };
    let ints = |range: std::ops::Range<i64>| int_tensor(&range.collect::<Vec<_>>(), device);
    let mut queue = Queue::new(LENGTH, DIM, device);
    queue.push(
        embeddings(0, LENGTH),
        ints(0..LENGTH as i64),
        ints(100..100 + LENGTH as i64),
    );
    // Half of the queries are rows of the queue themselves, under their own index.
    let queries = Tensor::cat(
        vec![embeddings(0, LENGTH).slice(4..12), embeddings(1, 8)],
        0,
    );
    let own = int_tensor(&(4..12).chain(100..108).collect::<Vec<i64>>(), device);
    let whole = queue.clone().with_block(LENGTH);
    let expected = whole.nearest(queries.clone(), own.clone());
    let expected_labels = int_values(expected.labels);
    for (row, &label) in expected_labels.iter().take(8).enumerate() {
        assert_ne!(label, 104 + row as i64, "a query found itself");
    }
    for rows in [1, 2, 7, 22, 1000] {
        let found = queue
            .clone()
            .with_block(rows)
            .nearest(queries.clone(), own.clone());
        assert_eq!(int_values(found.labels), expected_labels, "{rows} rows");
        case.close(
            &format!("neighbours, {rows} rows"),
            &values(found.embeddings),
            &values(expected.embeddings.clone()),
            0.0,
        );
    }
    let automatic = queue.nearest(queries, own);
    assert_eq!(int_values(automatic.labels), expected_labels);
}
