//! Where and how a run computes: the device, its fast operations and its peers, in one value.

use crate::Result;
use crate::collective::{Collective, SingleProcess};
use crate::kernels::{Kernels, PlainKernels};
use burn::tensor::Device;
use std::sync::Arc;

/// The device, the kernels for it and the other processes.
#[derive(Debug, Clone)]
pub struct Runtime {
    /// The device, without autodiff.
    pub device: Device,
    /// The hot operations.
    pub kernels: Arc<dyn Kernels>,
    /// The processes of the run.
    pub collective: Arc<dyn Collective>,
    /// Whether operations return before they are done. Waiting for a value then keeps the device waiting, so the
    /// trainer takes each step's loss only when the next step is under way.
    pub asynchronous: bool,
}

impl Runtime {
    /// A single process on `device`, taken to be synchronous, with plain kernels.
    pub fn new(device: Device) -> Self {
        Self {
            device: device.without_autodiff(),
            kernels: Arc::new(PlainKernels),
            collective: Arc::new(SingleProcess),
            asynchronous: false,
        }
    }

    /// The same with kernels that share batch statistics among groups of `size` ranks
    /// (`train.syncbn_group_size`); 0, and more than there are, means all.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) if the ranks cannot be divided so or the kernels cannot share;
    /// whatever making the groups gives.
    pub fn with_shared_statistics(mut self, size: usize) -> Result<Self> {
        let world = self.collective.world_size();
        let size = if size == 0 { world } else { size.min(world) };
        let peers = match size {
            1 => return Ok(self),
            all if all == world => Arc::clone(&self.collective),
            _ => self.collective.in_groups_of(size)?,
        };
        self.kernels = self.kernels.synchronised(peers)?;
        Ok(self)
    }
}
