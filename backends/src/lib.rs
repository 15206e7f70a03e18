//! The devices selfcls runs on, behind one pair of names: a [`Selection`] says which backend and
//! which device of it (`flex`, `wgpu:gpu`, `tch:cuda:1`), [`open`] turns it into a burn
//! [`Device`]. This is the only crate that knows backends by name.
//!
//! | backend | runs on | cargo feature |
//! |---|---|---|
//! | flex | CPU; pure Rust with SIMD and threads | `flex` (default) |
//! | ndarray | CPU; pure Rust, slower, a second opinion | `ndarray` |
//! | wgpu | GPUs through Vulkan, Metal or DirectX 12; CPUs through a software driver | `wgpu`, `wgpu-tuned` |
//! | tch | CPU and CUDA through libtorch | `tch` |
//!
//! Every backend can be named in every build. One that is not compiled in, or whose device this
//! machine lacks, gives a [`BackendError`] with the fix; nothing here panics. [`list`] reports what
//! the build and the machine have.
//!
//! ```no_run
//! use selfcls_backends::{Selection, open};
//! use selfcls_core::config::Precision;
//!
//! let selection: Selection = "tch:cuda:1".parse()?;
//! let opened = open(&selection)?;
//! eprintln!("training on {}", opened.name);
//! let runtime = opened.runtime(Precision::F32)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Kernels and precision
//!
//! [`Opened::runtime`] hands core the fastest kernels for the device: burn's own operations; on flex our own,
//! channels-last (`FlexKernels`); on libtorch ATen's, channels-last, in f32, bf16 or fp16 (`AtenKernels`).
//!
//! # Many processes
//!
//! [`Rendezvous::from_env`] tells a process that torchrun, Slurm, LSF or `selfcls-cli launch` started which of
//! how many it is, and where they meet; [`for_rank`] which device is its own; [`join`] makes it one of them, through
//! libtorch's process groups: Gloo between CPUs, NCCL between GPUs.
//!
//! # Threads
//!
//! flex and ndarray compute on rayon's global pool, as does the data pipeline of `selfcls-core`;
//! libtorch has a pool of its own. [`set_threads`] sets both. Without it rayon reads
//! `RAYON_NUM_THREADS` and libtorch `OMP_NUM_THREADS`, and both default to the number of cores.

#[cfg(all(test, any(feature = "flex", feature = "tch")))]
mod against_burn;
#[cfg(feature = "tch")]
mod aten;
#[cfg(feature = "tch")]
mod distributed;
mod error;
#[cfg(feature = "flex")]
mod flex;
mod join;
#[cfg(any(feature = "flex", feature = "tch"))]
mod kept;
mod open;
#[cfg(any(feature = "flex", feature = "tch"))]
mod options;
#[cfg(test)]
mod own_process;
mod rendezvous;
mod selection;
mod status;
mod threads;
#[cfg(any(feature = "flex", feature = "tch"))]
mod whole_image;

#[cfg(feature = "wgpu")]
mod adapters;
#[cfg(feature = "tch")]
mod libtorch;
#[cfg(feature = "tch")]
mod malloc;
#[cfg(feature = "tch")]
mod message;
/// Of the build script, to be tested.
#[cfg(all(test, feature = "tch"))]
#[path = "../nccl.rs"]
#[allow(
    dead_code,
    clippy::print_stdout,
    reason = "the build script asks for more, and talks to cargo"
)]
mod nccl;
#[cfg(all(test, feature = "tch"))]
mod nccl_tests;
#[cfg(all(test, feature = "tch"))]
mod on_devices;

#[cfg(feature = "tch")]
pub use aten::AtenKernels;
pub use burn::tensor::Device;
pub use error::BackendError;
#[cfg(feature = "flex")]
pub use flex::FlexKernels;
pub use join::{for_rank, join};
pub use open::{Opened, open};
pub use rendezvous::{Launcher, Rendezvous, RendezvousError};
pub use selection::{Backend, ParseSelectionError, Selection, TchDevice, WgpuAdapter};
pub use status::{BackendStatus, FoundDevice, list};
pub use threads::{set_threads, threads};
