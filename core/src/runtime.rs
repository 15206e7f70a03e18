//! Where and how a run computes: the device, its fast operations and its peers, in one value.

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
    /// Whether operations return before they are done. Reading a value then waits for all of them, so the
    /// trainer reads each step's loss only when the next step is under way.
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
}
