//! How many numbers a run of the network has in memory at a time, in whatever order an engine computes them.
//!
//! Values that are no longer needed are freed, but an engine chooses the order: it may compute all of a thousand
//! branches before it adds them up. What no order can change is a value on which everything after it depends, and
//! which depends on everything before it, as between two blocks of a network: what lies before it is over when what
//! lies after it begins. So the values from one such value to the next count together.

use std::collections::BTreeMap;

/// Follows the operations in the order of the file.
pub(super) struct Together<'a> {
    /// The last operation that reads a value; none for an output, which nobody frees.
    last_reads: BTreeMap<&'a str, Option<usize>>,
    /// Values that depend on the image and will be read.
    alive: usize,
    /// Numbers since the last value that is alone.
    since: usize,
    most: usize,
}

impl<'a> Together<'a> {
    /// For operations that read the values in `reads`, and a network that gives `outputs`.
    pub(super) fn new(
        reads: impl Iterator<Item = &'a [&'a str]>,
        outputs: impl Iterator<Item = &'a str>,
    ) -> Self {
        let mut last_reads = BTreeMap::new();
        for (position, names) in reads.enumerate() {
            last_reads.extend(names.iter().map(|&name| (name, Some(position))));
        }
        last_reads.extend(outputs.map(|name| (name, None)));
        Self {
            last_reads,
            alive: 0,
            since: 0,
            most: 0,
        }
    }

    /// The value that the image is, of so many numbers.
    pub(super) fn begin(&mut self, numbers: usize) {
        self.make(numbers, 0);
    }

    /// Operation `position` makes a value of `numbers` from the values `read`, which depend on the image, and needs
    /// room for `working` more while it does.
    pub(super) fn step(&mut self, position: usize, read: &[&str], numbers: usize, working: usize) {
        self.make(numbers, working);
        for (index, name) in read.iter().enumerate() {
            let is_first = !read[..index].contains(name);
            if is_first && self.last_reads.get(name) == Some(&Some(position)) {
                self.alive -= 1;
            }
        }
        // It is the one that was just made: no other is read later. A value that nobody reads stays alive, so all
        // earlier ones have gone into this one.
        if self.alive == 1 {
            self.since = numbers;
        }
    }

    fn make(&mut self, numbers: usize, working: usize) {
        self.alive += 1;
        self.since = self.since.saturating_add(numbers);
        self.most = self.most.max(self.since.saturating_add(working));
    }

    /// The most numbers at a time.
    pub(super) fn most(&self) -> usize {
        self.most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Operations as what they read, what they make and its numbers; the first reads `x` of 10 numbers.
    fn most(operations: &[(&[&str], &str, usize)], outputs: &[&str]) -> usize {
        let reads = operations.iter().map(|(reads, ..)| *reads);
        let mut together = Together::new(reads, outputs.iter().copied());
        together.begin(10);
        for (position, (reads, _, numbers)) in operations.iter().enumerate() {
            together.step(position, reads, *numbers, 0);
        }
        together.most()
    }

    #[test]
    fn a_chain_has_two_values_at_a_time() {
        let chain: [(&[&str], _, _); 4] = [
            (&["x"], "a", 20),
            (&["a"], "b", 30),
            (&["b"], "c", 5),
            (&["c"], "d", 5),
        ];
        assert_eq!(most(&chain, &["d"]), 50);
        // A value that is given out, or that nobody reads, is there to the end.
        assert_eq!(most(&chain, &["a", "d"]), 60);
        let mut dead = chain.to_vec();
        dead.insert(1, (&["x"], "unread", 100));
        assert_eq!(most(&dead, &["d"]), 170);
    }

    #[test]
    fn branches_count_together_up_to_where_they_meet() {
        let block: [(&[&str], _, _); 5] = [
            (&["x"], "a", 10),
            (&["a"], "b", 10),
            (&["b", "x"], "c", 10),
            (&["c", "c"], "d", 10),
            (&["d"], "e", 10),
        ];
        assert_eq!(most(&block, &["e"]), 40);
        // Each is read at once in this order; another order has all of them.
        let names: Vec<String> = (0..100).map(|n| format!("r{n}")).collect();
        let sums: Vec<String> = (0..100).map(|n| format!("s{n}")).collect();
        let reads: Vec<[&str; 2]> = (0..100)
            .map(|n| [names[n].as_str(), if n == 0 { "x" } else { &sums[n - 1] }])
            .collect();
        let fan: Vec<(&[&str], &str, usize)> = (0..100)
            .flat_map(|n| {
                let relu: (&[&str], &str, usize) = (&["x"], &names[n], 10);
                [relu, (&reads[n], &sums[n], 10)]
            })
            .collect();
        assert_eq!(most(&fan, &["s99"]), 2010);
    }

    #[test]
    fn room_to_work_in_is_needed_once() {
        let mut together = Together::new([&["x"][..], &["a"]].into_iter(), ["b"].into_iter());
        together.begin(1);
        together.step(0, &["x"], 1, 100);
        together.step(1, &["a"], 1, 50);
        assert_eq!(together.most(), 102);
    }
}
