//! The wish to stop: of one rank, and as all ranks learn of it.

/// Who asked several ranks to stop: one is enough, and all stop after the same step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AskedBy {
    /// One rank alone, by its number.
    Rank(usize),
    /// Several ranks, or all, within one step.
    Several,
}

impl AskedBy {
    /// What a rank adds to the sums: whether it wishes to stop, and if so its number.
    pub(super) fn addends(wish: bool, rank: usize) -> [f32; 2] {
        // Numbers of ranks, and the sums of those that matter, are exact in f32.
        if wish { [1.0, rank as f32] } else { [0.0; 2] }
    }

    /// What the sums over all ranks say.
    pub(super) fn from_sums([wishes, ranks]: [f64; 2]) -> Option<Self> {
        match wishes {
            0.0 => None,
            1.0 => Some(Self::Rank(ranks as usize)),
            _ => Some(Self::Several),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::AskedBy;

    #[test]
    fn the_only_one_is_named() {
        let agreed = |wishes: [bool; 4]| {
            let mut sums = [0.0; 2];
            for (rank, wish) in wishes.into_iter().enumerate() {
                let addends = AskedBy::addends(wish, rank);
                sums = [0, 1].map(|i| sums[i] + f64::from(addends[i]));
            }
            AskedBy::from_sums(sums)
        };
        assert_eq!(agreed([false; 4]), None);
        for rank in 0..4 {
            assert_eq!(
                agreed([0, 1, 2, 3].map(|i| i == rank)),
                Some(AskedBy::Rank(rank))
            );
        }
        assert_eq!(agreed([true, false, false, true]), Some(AskedBy::Several));
        assert_eq!(agreed([true; 4]), Some(AskedBy::Several));
    }
}
