//! Random streams that depend on what they are for, never on who draws first.
//!
//! A stream is ChaCha8 keyed by (seed, purpose and three counters), so that view 3 of sample 17 in
//! epoch 5 is the same whichever worker makes it, and whether or not the run was interrupted before.

use rand::{Rng, SeedableRng};
pub use rand_chacha::ChaCha8Rng as Stream;

/// What a stream is for; keeps equal counters of different purposes apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Initial weights; counter: position of the tensor.
    Weights,
    /// The order of an epoch; counter: epoch.
    Shuffle,
    /// A view; counters: epoch, sample, view.
    View,
    /// Procedural images; counters: split, sample.
    Images,
    /// Anything in evaluation that draws (subsets, sampled pictures).
    Evaluation,
    /// Branches that samples skip in training; counters: step, part and pass, layer.
    DropPath,
}

/// The stream for `purpose` and up to three counters.
pub fn stream(seed: u64, purpose: Purpose, counters: [u64; 3]) -> Stream {
    let [a, b, c] = counters;
    // The purpose shares a word with the first counter, which never comes near 2^56.
    let a = a ^ ((purpose as u64 + 1) << 56);
    let mut key = [0u8; 32];
    for (slot, word) in key.chunks_exact_mut(8).zip([seed, a, b, c]) {
        slot.copy_from_slice(&word.to_le_bytes());
    }
    Stream::from_seed(key)
}

/// The few ways in which numbers are drawn. Written out here rather than taken from a library, whose
/// next version may draw differently: each call but [`Draw::shuffle`] takes one word of the stream.
pub trait Draw: Rng {
    /// Uniform in [0, 1), in steps of 2^-53.
    fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (0.5f64).powi(53)
    }

    /// Uniform in [`low`, `high`).
    fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// True with probability `p`.
    fn chance(&mut self, p: f64) -> bool {
        self.unit() < p
    }

    /// Uniform in `0..count`; 0 if there is nothing to choose from.
    fn below(&mut self, count: usize) -> usize {
        // The bias of scaling one word is at most count / 2^64.
        ((u128::from(self.next_u64()) * count as u128) >> 64) as usize
    }

    /// A uniformly random order (Fisher and Yates, from the back), one word per item but the first.
    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

impl<R: Rng + ?Sized> Draw for R {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_keys_equal_streams_and_nothing_else() {
        let first = |seed, purpose, counters| stream(seed, purpose, counters).next_u64();
        let base = first(1, Purpose::View, [2, 3, 4]);
        assert_eq!(base, first(1, Purpose::View, [2, 3, 4]));
        for other in [
            first(2, Purpose::View, [2, 3, 4]),
            first(1, Purpose::Images, [2, 3, 4]),
            first(1, Purpose::View, [3, 3, 4]),
            first(1, Purpose::View, [2, 4, 4]),
            first(1, Purpose::View, [2, 3, 5]),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn draws_stay_in_range_and_shuffles_permute() {
        let mut draw = stream(0, Purpose::Evaluation, [0; 3]);
        for _ in 0..1000 {
            assert!((2.0..3.0).contains(&draw.uniform(2.0, 3.0)));
            assert!(draw.below(7) < 7);
        }
        assert!(!draw.chance(0.0) && draw.chance(1.0));
        assert_eq!(draw.below(0), 0);
        let mut items: Vec<_> = (0..100).collect();
        draw.shuffle(&mut items);
        assert_ne!(items, (0..100).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..100).collect::<Vec<_>>());
    }
}
