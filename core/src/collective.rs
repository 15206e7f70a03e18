//! What the processes of a run say to each other.
//!
//! The trait holds what training asks of its peers. No gradient passes through it: a step is cut where
//! ranks meet ([`train`](crate::train)), so all tensors here are without autodiff. Every rank must call the
//! same operations in the same order; one that does not, or is gone, becomes an [`Error::Peers`] of all
//! others. [`SingleProcess`] is the world of one.

use crate::{Error, Result};
use burn::tensor::{Int, Tensor};
use std::fmt::Debug;
use std::sync::Arc;

/// How values of several ranks become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reduction {
    /// Their sum.
    Sum,
    /// The largest of them.
    Max,
}

/// The processes of a run, seen from one of them.
///
/// After an operation has failed all later ones fail with the same error at once, those of the groups
/// included: peers that are out of step cannot be brought back.
pub trait Collective: Send + Sync + Debug {
    /// This process, from 0 to [`world_size`](Self::world_size) - 1.
    fn rank(&self) -> usize;

    /// Number of processes.
    fn world_size(&self) -> usize;

    /// How many of them run on this machine and share its processors.
    fn local_size(&self) -> usize {
        1
    }

    /// Reduces the ranks' tensors, of equal length, element by element. Every rank gets the same bits.
    ///
    /// # Errors
    /// [`Error::Peers`], naming the operation and, where it can be told, the rank that is to blame.
    fn all_reduce(&self, tensor: Tensor<1>, reduction: Reduction) -> Result<Tensor<1>>;

    /// Begins to add up the ranks' tensors, of equal length, and returns while that may still go on. All ranks must
    /// begin the same sums in the same order; where an implementation lets them go on by themselves, whatever
    /// else is called in between.
    ///
    /// # Errors
    /// As [`all_reduce`](Self::all_reduce).
    fn begin_sum(&self, tensor: Tensor<1>) -> Result<Box<dyn PendingSum>> {
        let sum = self.all_reduce(tensor, Reduction::Sum)?;
        Ok(Box::new(Done(sum)))
    }

    /// Concatenates the ranks' rows in rank order; rank `r` brings `rows[r]` of them.
    ///
    /// # Errors
    /// As [`all_reduce`](Self::all_reduce); [`Error::Invalid`] if this rank's rows are not as many.
    fn all_gather(&self, tensor: Tensor<2>, rows: &[usize]) -> Result<Tensor<2>>;

    /// Concatenates the ranks' integers in rank order; rank `r` brings `counts[r]` of them.
    ///
    /// # Errors
    /// As [`all_gather`](Self::all_gather).
    fn all_gather_int(&self, tensor: Tensor<1, Int>, counts: &[usize]) -> Result<Tensor<1, Int>>;

    /// The bytes of rank `from`, on all ranks; what the others bring is ignored.
    ///
    /// # Errors
    /// As [`all_reduce`](Self::all_reduce).
    fn broadcast(&self, bytes: Vec<u8>, from: usize) -> Result<Vec<u8>>;

    /// Returns once every rank has called it.
    ///
    /// # Errors
    /// As [`all_reduce`](Self::all_reduce).
    fn barrier(&self) -> Result<()>;

    /// This rank's group when `size` ranks each form one: the first `size`, the next, and so on. All ranks
    /// call it together. `size` must divide the world's.
    ///
    /// # Errors
    /// As [`all_reduce`](Self::all_reduce); [`Error::Invalid`] for a size that does not divide.
    fn in_groups_of(&self, size: usize) -> Result<Arc<dyn Collective>>;

    /// Whether everything so far went well: operations inside a forward or backward pass cannot return
    /// their errors, and leave them here.
    ///
    /// # Errors
    /// The first error, if there was one.
    fn check(&self) -> Result<()>;

    /// Tells the others that this rank ends before its time, and why. They fail with that reason.
    fn leave(&self, reason: &str);
}

/// A sum over ranks that may still be under way.
pub trait PendingSum: Send + Debug {
    /// The sum. Every rank gets the same bits.
    ///
    /// # Errors
    /// As [`Collective::all_reduce`].
    fn wait(self: Box<Self>) -> Result<Tensor<1>>;

    /// The sum, cut into pieces of these lengths, which together are its own. An implementation may give each for one
    /// that may be written to, though they lie in one piece of memory.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    fn wait_in_pieces(self: Box<Self>, lengths: &[usize]) -> Result<Vec<Tensor<1>>> {
        let sum = self.wait()?;
        let mut start = 0;
        let pieces = lengths.iter().map(|length| {
            let range = start..start + length;
            start = range.end;
            sum.clone().slice(range)
        });
        Ok(pieces.collect())
    }
}

/// A sum that is there.
#[derive(Debug)]
struct Done(Tensor<1>);

impl PendingSum for Done {
    fn wait(self: Box<Self>) -> Result<Tensor<1>> {
        Ok(self.0)
    }
}

/// A run of one process.
#[derive(Debug, Clone, Copy, Default)]
pub struct SingleProcess;

impl Collective for SingleProcess {
    fn rank(&self) -> usize {
        0
    }

    fn world_size(&self) -> usize {
        1
    }

    fn all_reduce(&self, tensor: Tensor<1>, _reduction: Reduction) -> Result<Tensor<1>> {
        Ok(tensor)
    }

    fn all_gather(&self, tensor: Tensor<2>, rows: &[usize]) -> Result<Tensor<2>> {
        expect_rows(self, tensor.dims()[0], rows)?;
        Ok(tensor)
    }

    fn all_gather_int(&self, tensor: Tensor<1, Int>, counts: &[usize]) -> Result<Tensor<1, Int>> {
        expect_rows(self, tensor.dims()[0], counts)?;
        Ok(tensor)
    }

    fn broadcast(&self, bytes: Vec<u8>, _from: usize) -> Result<Vec<u8>> {
        Ok(bytes)
    }

    fn barrier(&self) -> Result<()> {
        Ok(())
    }

    fn in_groups_of(&self, size: usize) -> Result<Arc<dyn Collective>> {
        expect_divisor(self, size)?;
        Ok(Arc::new(*self))
    }

    fn check(&self) -> Result<()> {
        Ok(())
    }

    fn leave(&self, _reason: &str) {}
}

/// For implementations: refuses a tensor that has other than the announced number of rows.
///
/// # Errors
/// [`Error::Invalid`] with both numbers.
pub fn expect_rows(peers: &dyn Collective, rows: usize, announced: &[usize]) -> Result<()> {
    let (rank, world) = (peers.rank(), peers.world_size());
    if announced.len() == world && announced.get(rank) == Some(&rows) {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "rank {rank} of {world} brings {rows} rows to a gathering that expects {announced:?}"
    )))
}

/// For implementations: refuses groups that the ranks cannot be divided into.
///
/// # Errors
/// [`Error::Invalid`] with both numbers.
pub fn expect_divisor(peers: &dyn Collective, size: usize) -> Result<()> {
    let world = peers.world_size();
    if size > 0 && world.is_multiple_of(size) {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "{world} ranks cannot be divided into groups of {size}"
    )))
}
