//! Which samples of a batch the loss compares with each other (`loss.group`), where the batch is divided
//! into parts and among ranks.

/// How groups of samples lie on parts and ranks. They are consecutive in the order in which one process has
/// the batch: part after part, in each the shares of the ranks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coupling {
    /// The whole batch is one group.
    Batch,
    /// A group is this many parts, with the shares of all ranks.
    Parts(usize),
    /// A group is the shares of this many ranks in one part.
    Ranks(usize),
    /// A group is this many consecutive samples of one rank.
    Own(usize),
}

impl Coupling {
    /// How groups of `group` samples (0: the batch) lie on a batch of `batch` samples in `parts` parts, each
    /// divided among `ranks`. `parts` must divide `batch`.
    ///
    /// # Errors
    /// The reason why they cannot: a group is parts, or shares, or lies within a share.
    pub fn new(group: usize, batch: usize, parts: usize, ranks: usize) -> Result<Self, String> {
        if group == 0 || group == batch {
            return Ok(Self::Batch);
        }
        if group < 2 || !batch.is_multiple_of(group) {
            return Err(format!(
                "loss.group = {group} must divide train.batch_size = {batch} and be at least 2, or 0 for the whole batch"
            ));
        }
        let part = batch / parts.max(1);
        if ranks <= 1 {
            return Ok(Self::Own(group));
        }
        if group.is_multiple_of(part) {
            return Ok(Self::Parts(group / part));
        }
        let share = part / ranks;
        if part.is_multiple_of(ranks) && share.is_multiple_of(group) {
            return Ok(Self::Own(group));
        }
        if part.is_multiple_of(ranks)
            && group.is_multiple_of(share)
            && ranks.is_multiple_of(group / share)
        {
            return Ok(Self::Ranks(group / share));
        }
        let shares = match part % ranks {
            0 => format!("{share}"),
            _ => format!("{share} or {}", share + 1),
        };
        Err(format!(
            "loss.group = {group} cuts through what the {ranks} ranks have of train.batch_size = {batch}, {shares} images each at a time (train.accumulate = {parts}); a group must lie within one rank's, or be those of 2 or more ranks whose number divides {ranks}: choose another loss.group or another number of ranks"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_parts_or_shares_or_lie_within_one() {
        for (group, batch, parts, ranks, expected) in [
            (0, 24, 2, 3, Coupling::Batch),
            (24, 24, 1, 1, Coupling::Batch),
            (8, 24, 1, 1, Coupling::Own(8)),
            // On one rank a group may go across parts.
            (8, 24, 6, 1, Coupling::Own(8)),
            // 4096 images on 16 ranks, and on one in parts.
            (256, 4096, 1, 16, Coupling::Own(256)),
            (256, 4096, 1, 8, Coupling::Own(256)),
            (256, 4096, 1, 32, Coupling::Ranks(2)),
            (256, 4096, 4, 4, Coupling::Own(256)),
            (256, 4096, 4, 16, Coupling::Ranks(4)),
            (1024, 4096, 4, 16, Coupling::Parts(1)),
            (2048, 4096, 4, 16, Coupling::Parts(2)),
            // Whole parts need no equal shares.
            (8, 24, 3, 3, Coupling::Parts(1)),
        ] {
            let found = Coupling::new(group, batch, parts, ranks);
            assert_eq!(found, Ok(expected), "{group} {batch} {parts} {ranks}");
        }
        for (group, batch, parts, ranks, said) in [
            (1, 24, 1, 1, "loss.group = 1"),
            (5, 24, 1, 1, "must divide train.batch_size = 24"),
            (48, 24, 1, 1, "must divide"),
            (6, 24, 1, 3, "8 images each"),
            (12, 24, 1, 3, "12 cuts"),
            (2, 20, 1, 3, "6 or 7 images"),
        ] {
            let message = Coupling::new(group, batch, parts, ranks).expect_err("refused");
            assert!(message.contains(said), "{message}");
        }
    }
}
