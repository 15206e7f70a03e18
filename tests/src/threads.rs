//! Ranks as threads of one process, on any backend.

use burn::tensor::{Int, Tensor, TensorData};
use selfcls_core::collective::{Collective, Reduction, expect_divisor, expect_rows};
use selfcls_core::{Error, Result};
use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// A rank that failed an assertion never comes; the others must not wait for it for good.
const PATIENCE: Duration = Duration::from_secs(120);

/// What `rank` returns on each of `size` ranks that run at a time.
///
/// # Panics
/// If one of them does.
pub fn on_threads<T: Send>(size: usize, rank: impl Fn(Arc<dyn Collective>) -> T + Sync) -> Vec<T> {
    let meeting = Arc::new(Meeting::new(size));
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..size)
            .map(|number| {
                let (rank, meeting) = (&rank, Arc::clone(&meeting));
                scope.spawn(move || {
                    rank(Arc::new(ThreadRank {
                        rank: number,
                        meeting,
                    }))
                })
            })
            .collect();
        let mut results = Vec::new();
        for thread in threads {
            match thread.join() {
                Ok(result) => results.push(result),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        results
    })
}

/// One of the threads.
#[derive(Debug)]
struct ThreadRank {
    rank: usize,
    meeting: Arc<Meeting>,
}

/// Where the threads lay down what they bring, and take up what all have brought.
#[derive(Debug)]
struct Meeting {
    size: usize,
    table: Mutex<Table>,
    changed: Condvar,
    /// Those of some of the threads, by their number and the first of them.
    groups: Mutex<BTreeMap<(usize, usize), Arc<Self>>>,
}

#[derive(Debug, Default)]
struct Table {
    brought: Vec<Option<Vec<u8>>>,
    /// How many have yet to take; none while things are still being brought.
    to_take: usize,
}

impl Meeting {
    fn new(size: usize) -> Self {
        Self {
            size,
            table: Mutex::new(Table {
                brought: vec![None; size],
                to_take: 0,
            }),
            changed: Condvar::new(),
            groups: Mutex::default(),
        }
    }

    /// What all ranks bring, in rank order.
    fn exchange(&self, rank: usize, bytes: Vec<u8>) -> Result<Vec<Vec<u8>>> {
        let lost = || Error::Peers("another rank did not come".into());
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let until = |table, mut go_on: Box<dyn FnMut(&mut Table) -> bool>| {
            let waited = self
                .changed
                .wait_timeout_while(table, PATIENCE, |table| !go_on(table));
            let (table, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            (!timeout.timed_out()).then_some(table)
        };
        table = until(table, Box::new(|table| table.to_take == 0)).ok_or_else(lost)?;
        table.brought[rank] = Some(bytes);
        if table.brought.iter().all(Option::is_some) {
            table.to_take = self.size;
            self.changed.notify_all();
        }
        table = until(table, Box::new(|table| table.to_take > 0)).ok_or_else(lost)?;
        let all = table.brought.iter().flatten().cloned().collect();
        table.to_take -= 1;
        if table.to_take == 0 {
            table.brought.fill(None);
            self.changed.notify_all();
        }
        Ok(all)
    }
}

impl ThreadRank {
    fn exchange_floats(&self, values: TensorData) -> Result<Vec<Vec<f32>>> {
        let bytes = values.convert::<f32>().as_bytes().to_vec();
        let all = self.meeting.exchange(self.rank, bytes)?;
        let floats = |bytes: Vec<u8>| -> Vec<f32> {
            let (values, _) = bytes.as_chunks();
            values
                .iter()
                .map(|&bytes| f32::from_ne_bytes(bytes))
                .collect()
        };
        Ok(all.into_iter().map(floats).collect())
    }
}

impl Collective for ThreadRank {
    fn rank(&self) -> usize {
        self.rank
    }

    fn world_size(&self) -> usize {
        self.meeting.size
    }

    fn all_reduce(&self, tensor: Tensor<1>, reduction: Reduction) -> Result<Tensor<1>> {
        let device = tensor.device();
        let all = self.exchange_floats(tensor.into_data())?;
        let reduced: Vec<f32> = (0..all[self.rank].len())
            .map(|i| {
                let column = all.iter().map(|values| values[i]);
                match reduction {
                    Reduction::Sum => column.sum(),
                    Reduction::Max => column.fold(f32::NEG_INFINITY, f32::max),
                }
            })
            .collect();
        Ok(Tensor::from_floats(reduced.as_slice(), &device))
    }

    fn all_gather(&self, tensor: Tensor<2>, rows: &[usize]) -> Result<Tensor<2>> {
        let ([own, columns], device) = (tensor.dims(), tensor.device());
        expect_rows(self, own, rows)?;
        let all = self.exchange_floats(tensor.into_data())?.concat();
        let shape = [rows.iter().sum(), columns];
        Ok(Tensor::from_data(TensorData::new(all, shape), &device))
    }

    fn all_gather_int(&self, tensor: Tensor<1, Int>, counts: &[usize]) -> Result<Tensor<1, Int>> {
        expect_rows(self, tensor.dims()[0], counts)?;
        let device = tensor.device();
        let bytes = tensor.into_data().convert::<i64>().as_bytes().to_vec();
        let all = self.meeting.exchange(self.rank, bytes)?.concat();
        let (values, _) = all.as_chunks();
        let values: Vec<i64> = values
            .iter()
            .map(|&bytes| i64::from_ne_bytes(bytes))
            .collect();
        let count = values.len();
        Ok(Tensor::from_data(TensorData::new(values, [count]), &device))
    }

    fn broadcast(&self, bytes: Vec<u8>, from: usize) -> Result<Vec<u8>> {
        let all = self.meeting.exchange(self.rank, bytes)?;
        Ok(all.into_iter().nth(from).unwrap_or_default())
    }

    fn barrier(&self) -> Result<()> {
        self.meeting.exchange(self.rank, Vec::new()).map(|_| ())
    }

    fn in_groups_of(&self, size: usize) -> Result<Arc<dyn Collective>> {
        expect_divisor(self, size)?;
        let rank = self.rank % size;
        let groups = self.meeting.groups.lock();
        let mut groups = groups.unwrap_or_else(PoisonError::into_inner);
        let place = (size, self.rank - rank);
        let meeting = groups
            .entry(place)
            .or_insert_with(|| Arc::new(Meeting::new(size)));
        let meeting = Arc::clone(meeting);
        Ok(Arc::new(Self { rank, meeting }))
    }

    fn check(&self) -> Result<()> {
        Ok(())
    }

    fn leave(&self, _reason: &str) {}
}
