//! A batch over several ranks: whose samples are where, and gathering them in order.

use super::step::Batch;
use crate::collective::{Collective, SingleProcess};
use crate::config::Coupling;
use crate::data::Shares;
use crate::kernels::Kernels;
use crate::loss::Groups;
use crate::{Error, Result};
use burn::tensor::{Device, Int, Tensor};
use std::ops::Range;
use std::sync::Arc;

/// How a batch is divided: into parts, one after the other, and each part among the ranks.
#[derive(Debug)]
pub(super) struct Layout<'a> {
    peers: &'a Arc<dyn Collective>,
    parts: usize,
    /// Samples of each rank in a part; none where there is one rank, and parts of any size.
    shares: Option<Shares>,
    /// Samples of all ranks in all parts.
    pub(super) batch: usize,
}

impl<'a> Layout<'a> {
    /// The layout of a batch of which `parts` are this rank's. Among several ranks it is one of `batch`
    /// samples in all.
    ///
    /// # Errors
    /// If there are no parts, or they are not this rank's shares.
    pub(super) fn new(
        peers: &'a Arc<dyn Collective>,
        batch: usize,
        parts: &[Batch],
    ) -> Result<Self> {
        let sizes: Vec<usize> = parts.iter().map(|part| part.indices.dims()[0]).collect();
        if sizes.is_empty() {
            return Err(Error::Invalid("a step needs a batch".into()));
        }
        let mut layout = Self {
            peers,
            parts: sizes.len(),
            shares: None,
            batch: sizes.iter().sum(),
        };
        let world = peers.world_size();
        if world == 1 {
            return Ok(layout);
        }
        let shares = Shares::new(batch / sizes.len(), world);
        let own = shares.of(peers.rank()).len();
        if !batch.is_multiple_of(sizes.len()) || sizes.iter().any(|&size| size != own) {
            return Err(Error::Invalid(format!(
                "rank {} of {world} brings parts of {sizes:?} samples to a batch of train.batch_size = {batch}; its share of each is {own}",
                peers.rank()
            )));
        }
        layout.shares = Some(shares);
        layout.batch = batch;
        Ok(layout)
    }

    /// Where this rank's samples are in a part, and how many the part has, if it is divided.
    pub(super) fn own_share(&self) -> Option<(Range<usize>, usize)> {
        let of = |shares: Shares| (shares.of(self.peers.rank()), self.batch / self.parts);
        self.shares.map(of)
    }

    /// The groups that the loss compares, of `group` samples each (0: all). `sharing` keeps the ranks that share
    /// one from step to step; all ranks call this together.
    ///
    /// # Errors
    /// If the batch cannot be divided so, or a peer fails.
    pub(super) fn groups(
        &self,
        group: usize,
        sharing: &mut Option<Arc<dyn Collective>>,
    ) -> Result<Groups> {
        let world = self.peers.world_size();
        let coupling =
            Coupling::new(group, self.batch, self.parts, world).map_err(Error::Invalid)?;
        let all = || Arc::clone(self.peers);
        let share = self.own_share().map_or(self.batch, |(own, _)| own.len());
        let (own, peers) = match coupling {
            Coupling::Batch => (self.sizes()[self.peers.rank()], all()),
            Coupling::Parts(parts) => (share * parts, all()),
            Coupling::Own(samples) => {
                let alone: Arc<dyn Collective> = Arc::new(SingleProcess);
                (samples, alone)
            }
            Coupling::Ranks(ranks) => {
                let peers = match sharing.take() {
                    Some(peers) if peers.world_size() == ranks => peers,
                    _ => self.peers.in_groups_of(ranks)?,
                };
                *sharing = Some(Arc::clone(&peers));
                (share, peers)
            }
        };
        let samples = match coupling {
            Coupling::Batch => self.batch,
            _ => group,
        };
        Ok(Groups {
            own,
            samples,
            count: self.batch / samples,
            peers,
        })
    }

    /// All ranks' rows of `rows`, `[own batch, dim]`, in the order in which one process would have them.
    ///
    /// # Errors
    /// If a peer fails.
    pub(super) fn gather(&self, rows: Tensor<2>, kernels: &dyn Kernels) -> Result<Tensor<2>> {
        let gathered = self.peers.all_gather(rows, &self.sizes())?;
        Ok(match self.order(kernels, &gathered.device()) {
            Some(order) => gathered.select(0, order),
            None => gathered,
        })
    }

    /// All ranks' values of `values`, `[own batch]`, in the order in which one process would have them.
    ///
    /// # Errors
    /// If a peer fails.
    pub(super) fn gather_int(
        &self,
        values: Tensor<1, Int>,
        kernels: &dyn Kernels,
    ) -> Result<Tensor<1, Int>> {
        let gathered = self.peers.all_gather_int(values, &self.sizes())?;
        Ok(match self.order(kernels, &gathered.device()) {
            Some(order) => gathered.select(0, order),
            None => gathered,
        })
    }

    /// Samples of each rank, in all parts.
    fn sizes(&self) -> Vec<usize> {
        match self.shares {
            Some(shares) => shares
                .sizes()
                .iter()
                .map(|size| size * self.parts)
                .collect(),
            None => vec![self.batch],
        }
    }

    /// Where the samples of the batch are among those gathered rank by rank; none where they are in order.
    fn order(&self, kernels: &dyn Kernels, device: &Device) -> Option<Tensor<1, Int>> {
        let shares = self.shares.filter(|_| self.parts > 1)?;
        Some(kernels.upload_ints(places(shares, self.parts), device))
    }
}

/// Ranks bring all their parts together, a batch has part by part the shares of all ranks.
fn places(shares: Shares, parts: usize) -> Vec<i64> {
    let sizes = shares.sizes();
    let mut places = Vec::new();
    for part in 0..parts {
        let mut first = 0;
        for &size in &sizes {
            let start = first + part * size;
            places.extend((start..start + size).map(|place| place as i64));
            first += parts * size;
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_back_in_order() {
        // Two parts of five samples among two ranks: rank 0 brings 0 1 2 and 5 6 7, rank 1 3 4 and 8 9.
        let gathered = [0, 1, 2, 5, 6, 7, 3, 4, 8, 9];
        let places = places(Shares::new(5, 2), 2);
        let ordered: Vec<i64> = places
            .iter()
            .map(|&place| gathered[place as usize])
            .collect();
        assert_eq!(ordered, (0..10).collect::<Vec<_>>());
    }
}
