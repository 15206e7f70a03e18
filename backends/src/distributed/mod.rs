//! Several processes through libtorch's c10d: Gloo between CPUs, NCCL between GPUs.
//!
//! Ranks find each other through a store that rank 0 (or the launcher) keeps, make a process group, and
//! from then on are a [`Collective`]. When something goes wrong they meet in the store once more to find
//! out whose fault it was (`post_mortem`); what cannot notice by itself that something has gone wrong is watched
//! over (`watch`).

mod address;
mod arrivals;
mod ffi;
mod meeting;
mod post_mortem;
mod ranks;
mod roster;
#[cfg(test)]
pub(crate) mod tests;
mod watch;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use selfcls_core::collective::Collective;

use crate::{BackendError, Opened, Rendezvous};
use ffi::Transport;
use ranks::Ranks;
use watch::End;
use world::World;

/// See [`crate::join`]; `tch` is what libtorch calls `device`.
pub(crate) fn join(
    rendezvous: &Rendezvous,
    device: &Opened,
    tch: tch::Device,
    timeout: Duration,
    last_words: impl Fn(&str) + Send + Sync + 'static,
) -> Result<Arc<dyn Collective>, BackendError> {
    let end: End = Arc::new(move |reason| {
        // Nobody may read them any more; the end comes all the same.
        let _ = catch_unwind(AssertUnwindSafe(|| last_words(reason)));
        ffi::end_process(1);
    });
    join_or_end(rendezvous, device, tch, timeout, end)
}

/// As [`join`], with another end.
fn join_or_end(
    rendezvous: &Rendezvous,
    device: &Opened,
    tch: tch::Device,
    timeout: Duration,
    end: End,
) -> Result<Arc<dyn Collective>, BackendError> {
    let transport = match tch {
        tch::Device::Cuda(_) if !ffi::has_nccl() => {
            return Err(BackendError::CannotJoin {
                device: device.name.clone(),
                fix: "this build has no NCCL (its build said what was missing); rebuild with it, or use --backend tch:cpu".into(),
            });
        }
        tch::Device::Cuda(gpu) => Transport::Nccl(gpu),
        _ => Transport::Gloo,
    };
    let joined =
        World::join(rendezvous, transport, timeout, end).and_then(|world| Ranks::all(&world));
    match joined {
        Ok(ranks) => Ok(Arc::new(ranks)),
        Err(message) => Err(BackendError::Joining(message)),
    }
}
