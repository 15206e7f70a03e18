//! How the samples of a batch are divided among ranks.

use std::ops::Range;

/// Contiguous shares, in rank order, as equal as can be: where `total` does not divide, the first ranks
/// take one sample more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shares {
    total: usize,
    ranks: usize,
}

impl Shares {
    /// The shares of `total` samples; no ranks count as one.
    pub fn new(total: usize, ranks: usize) -> Self {
        Self {
            total,
            ranks: ranks.max(1),
        }
    }

    /// The samples of `rank`.
    pub fn of(&self, rank: usize) -> Range<usize> {
        let (each, more) = (self.total / self.ranks, self.total % self.ranks);
        let start = |rank: usize| rank * each + rank.min(more);
        start(rank)..start(rank + 1)
    }

    /// How many samples each rank has.
    pub fn sizes(&self) -> Vec<usize> {
        (0..self.ranks).map(|rank| self.of(rank).len()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_follow_each_other_and_differ_by_one() {
        for (total, ranks) in [(0, 1), (7, 1), (8, 4), (10, 4), (3, 5), (4092, 66)] {
            let shares = Shares::new(total, ranks);
            let mut next = 0;
            for rank in 0..ranks {
                let share = shares.of(rank);
                assert_eq!(share.start, next);
                assert!(share.len() == total / ranks || share.len() == total.div_ceil(ranks));
                next = share.end;
            }
            assert_eq!(next, total);
            assert_eq!(shares.sizes().iter().sum::<usize>(), total);
        }
        assert_eq!(Shares::new(10, 4).sizes(), [3, 3, 2, 2]);
    }
}
