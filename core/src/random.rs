//! Random streams that depend on what they are for, never on who draws first.
//!
//! A stream is ChaCha8 keyed by (seed, purpose and three counters), so that view 3 of sample 17 in
//! epoch 5 is the same whichever worker makes it, and whether or not the run was interrupted before.

use rand::SeedableRng;
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

#[cfg(test)]
mod tests {
    use super::*;
    use rand::Rng;

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
}
