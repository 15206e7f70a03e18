//! core's `Collective` by a process group.

#![allow(
    deprecated,
    reason = "burn 0.22 is the last line with burn-tch; the version is pinned for it"
)]

use std::sync::Arc;

use burn::backend::LibTorch;
use burn::backend::libtorch::TchTensor;
use burn::tensor::{Int, Tensor};
use selfcls_core::collective::{Collective, PendingSum, Reduction, expect_divisor, expect_rows};
use selfcls_core::{Error, Result};
use tch::Kind;

use super::ffi::{self, Transport};
use super::world::World;

/// All ranks, or a group of them.
#[derive(Debug)]
pub(super) struct Ranks {
    world: Arc<World>,
    /// The group's number in the world.
    group: usize,
    /// The number of the group in which sums go on by themselves: of all ranks a second one, so that these hold
    /// up nothing else.
    sums: usize,
    /// Rank in the world of the group's first.
    first: usize,
    rank: usize,
    size: usize,
}

impl Ranks {
    /// All ranks of `world`.
    pub(super) fn all(world: &Arc<World>) -> ffi::Result<Self> {
        let mut all = Self::new(world, 0, world.rank, world.size)?;
        all.sums = world.group(0, world.rank, world.size)?;
        Ok(all)
    }

    fn new(world: &Arc<World>, first: usize, rank: usize, size: usize) -> ffi::Result<Self> {
        let group = world.group(first, rank, size)?;
        Ok(Self {
            world: Arc::clone(world),
            group,
            sums: group,
            first,
            rank,
            size,
        })
    }

    /// The tensor's values where they lie in order and nobody else holds them.
    fn own(tensor: Tensor<1>) -> Result<TchTensor> {
        let primitive = float(tensor)?;
        if !primitive.tensor.is_contiguous() {
            // A copy already.
            let copy = or_message(primitive.tensor.f_contiguous()).map_err(Error::Peers)?;
            return Ok(TchTensor::new(copy));
        }
        if primitive.can_mut() {
            return Ok(primitive);
        }
        Ok(TchTensor::new(primitive.tensor.copy()))
    }

    /// Runs `work` in this group, `operation` being its name in messages.
    fn run<T>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&mut ffi::Group) -> ffi::Result<T>,
    ) -> Result<T> {
        let done = self.world.with_group(self.group, operation, work);
        done.map_err(Error::Peers)
    }

    /// The ranks' tensors, `[rows, ...]` with `rows[r]` of rank `r`, one after the other.
    fn gather(&self, tensor: &tch::Tensor, rows: &[usize]) -> Result<tch::Tensor> {
        expect_rows(self, rows_of(tensor), rows)?;
        // The group knows messages of equal length only: shorter ones are filled up.
        let most = rows.iter().copied().max().unwrap_or(0);
        let equal = rows.iter().all(|&count| count == most);
        let own = rows_of(tensor);
        self.run("gathering rows", |group| {
            let mut shape = tensor.size();
            let mut sent = if own == most {
                or_message(tensor.f_contiguous())?
            } else {
                shape[0] = (most - own) as i64;
                let filling = or_message(tch::Tensor::f_zeros(
                    shape.as_slice(),
                    (tensor.kind(), tensor.device()),
                ))?;
                or_message(tch::Tensor::f_cat(&[tensor, &filling], 0))?
            };
            shape[0] = (most * self.size) as i64;
            let mut all = or_message(tch::Tensor::f_empty(
                shape.as_slice(),
                (tensor.kind(), tensor.device()),
            ))?;
            group.all_gather(&mut sent, &mut all)?;
            if equal {
                return Ok(all);
            }
            let parts = rows
                .iter()
                .enumerate()
                .map(|(rank, &count)| {
                    or_message(all.f_narrow(0, (rank * most) as i64, count as i64))
                })
                .collect::<ffi::Result<Vec<_>>>()?;
            or_message(tch::Tensor::f_cat(&parts, 0))
        })
    }

    fn device(&self) -> tch::Device {
        match self.world.transport {
            Transport::Gloo => tch::Device::Cpu,
            Transport::Nccl(gpu) => tch::Device::Cuda(gpu),
        }
    }
}

const ADDING: &str = "adding up gradients";

/// A sum that goes on by itself.
#[derive(Debug)]
struct UnderWay {
    world: Arc<World>,
    group: usize,
    work: ffi::Work,
}

impl PendingSum for UnderWay {
    fn wait(self: Box<Self>) -> Result<Tensor<1>> {
        let Self { world, group, work } = *self;
        let sum = world.with_group(group, ADDING, |_| work.wait());
        let sum = TchTensor::new(sum.map_err(Error::Peers)?);
        Ok(Tensor::from_primitive::<LibTorch>(sum))
    }

    /// Each piece counts as a tensor of its own, so that the optimiser need not copy it before it writes to it: no two
    /// share a value, and nobody has the whole.
    fn wait_in_pieces(self: Box<Self>, lengths: &[usize]) -> Result<Vec<Tensor<1>>> {
        let Self { world, group, work } = *self;
        let sum = world.with_group(group, ADDING, |_| work.wait());
        let sum = sum.map_err(Error::Peers)?;
        let mut start = 0;
        let pieces = lengths.iter().map(|&length| {
            let piece = or_message(sum.f_narrow(0, start, length as i64)).map_err(Error::Peers)?;
            start += length as i64;
            Ok(Tensor::from_primitive::<LibTorch>(TchTensor::new(piece)))
        });
        pieces.collect()
    }
}

impl Collective for Ranks {
    fn rank(&self) -> usize {
        self.rank
    }

    fn world_size(&self) -> usize {
        self.size
    }

    fn local_size(&self) -> usize {
        self.world.local_size
    }

    fn all_reduce(&self, tensor: Tensor<1>, reduction: Reduction) -> Result<Tensor<1>> {
        let (operation, maximum) = match reduction {
            Reduction::Sum => ("adding up values", false),
            Reduction::Max => ("finding maxima", true),
        };
        let TchTensor {
            mut tensor,
            storage,
        } = Self::own(tensor)?;
        self.run(operation, |group| group.all_reduce(&mut tensor, maximum))?;
        let reduced = TchTensor { tensor, storage };
        Ok(Tensor::from_primitive::<LibTorch>(reduced))
    }

    fn begin_sum(&self, tensor: Tensor<1>) -> Result<Box<dyn PendingSum>> {
        let TchTensor { tensor, storage } = Self::own(tensor)?;
        // Written to from now on.
        drop(storage);
        let work = self
            .world
            .with_group(self.sums, ADDING, |group| group.begin_sum(tensor))
            .map_err(Error::Peers)?;
        Ok(Box::new(UnderWay {
            world: Arc::clone(&self.world),
            group: self.sums,
            work,
        }))
    }

    fn all_gather(&self, tensor: Tensor<2>, rows: &[usize]) -> Result<Tensor<2>> {
        let primitive = float(tensor)?;
        let gathered = TchTensor::new(self.gather(&primitive.tensor, rows)?);
        Ok(Tensor::from_primitive::<LibTorch>(gathered))
    }

    fn all_gather_int(&self, tensor: Tensor<1, Int>, counts: &[usize]) -> Result<Tensor<1, Int>> {
        let primitive = tensor
            .try_into_primitive::<LibTorch>()
            .map_err(|error| elsewhere(&error))?;
        let gathered = TchTensor::new(self.gather(&primitive.tensor, counts)?);
        Ok(Tensor::from_primitive::<LibTorch>(gathered))
    }

    fn broadcast(&self, bytes: Vec<u8>, from: usize) -> Result<Vec<u8>> {
        self.run("sending rank 0's state to all", |group| {
            let device = self.device();
            let mut length = tch::Tensor::from_slice(&[bytes.len() as i64]).to_device(device);
            group.broadcast(&mut length, from)?;
            let length = or_message(length.f_int64_value(&[0]))?;
            if length == 0 {
                return Ok(Vec::new());
            }
            let mut content = if self.rank == from {
                tch::Tensor::from_slice(&bytes).to_device(device)
            } else {
                or_message(tch::Tensor::f_empty([length], (Kind::Uint8, device)))?
            };
            group.broadcast(&mut content, from)?;
            or_message(Vec::<u8>::try_from(content))
        })
    }

    fn barrier(&self) -> Result<()> {
        self.run("waiting for all ranks", |group| {
            let mut token = or_message(tch::Tensor::f_ones([1], (Kind::Int64, self.device())))?;
            group.all_reduce(&mut token, false)?;
            // On a GPU the sum is only then there when it can be read.
            or_message(token.f_int64_value(&[0])).map(|_| ())
        })
    }

    fn in_groups_of(&self, size: usize) -> Result<Arc<dyn Collective>> {
        expect_divisor(self, size)?;
        let first = self.first + self.rank / size * size;
        let group = Self::new(&self.world, first, self.rank % size, size);
        Ok(Arc::new(group.map_err(Error::Peers)?))
    }

    fn check(&self) -> Result<()> {
        self.world
            .failure()
            .map_or(Ok(()), |failure| Err(Error::Peers(failure)))
    }

    fn leave(&self, reason: &str) {
        self.world.leave(reason);
    }
}

fn float<const D: usize>(tensor: Tensor<D>) -> Result<TchTensor> {
    tensor
        .try_into_primitive::<LibTorch>()
        .map_err(|error| elsewhere(&error))
}

fn elsewhere(error: &dyn std::fmt::Debug) -> Error {
    Error::Invalid(format!(
        "only libtorch's tensors without autodiff travel between ranks: {error:?}"
    ))
}

fn or_message<T>(result: std::result::Result<T, tch::TchError>) -> ffi::Result<T> {
    result.map_err(|error| error.to_string())
}

fn rows_of(tensor: &tch::Tensor) -> usize {
    let rows = tensor.size().first().copied().unwrap_or(0);
    usize::try_from(rows).unwrap_or(0)
}
