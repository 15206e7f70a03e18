//! Making one of several processes: its device, and its peers.

use std::sync::Arc;
use std::time::Duration;

use selfcls_core::collective::Collective;

#[cfg(feature = "tch")]
use crate::TchDevice;
use crate::{BackendError, Opened, Rendezvous, Selection};

/// The device of a rank where all ranks were given `selection`: with `tch` and `tch:cuda` each process of a
/// machine takes the GPU of its own number, or the only one that its launcher lets it see (`selfcls-cli launch` hides none,
/// and torchrun none without `CUDA_VISIBLE_DEVICES`).
///
/// # Errors
/// [`BackendError::CannotJoin`] for backends other than libtorch and for a single GPU named for all;
/// [`BackendError::NoSuchDevice`] where a machine has fewer GPUs than processes.
pub fn for_rank(selection: Selection, rendezvous: &Rendezvous) -> Result<Selection, BackendError> {
    match selection {
        #[cfg(feature = "tch")]
        Selection::Tch(choice) => gpu_of_rank(choice, rendezvous).map(Selection::Tch),
        #[cfg(not(feature = "tch"))]
        Selection::Tch(_) => Err(BackendError::NotCompiledIn(crate::Backend::Tch)),
        other => Err(BackendError::CannotJoin {
            device: other.to_string(),
            fix: format!(
                "{} started {} of them; use --backend tch, or start one process",
                rendezvous.launcher, rendezvous.world_size
            ),
        }),
    }
}

#[cfg(feature = "tch")]
fn gpu_of_rank(choice: TchDevice, rendezvous: &Rendezvous) -> Result<TchDevice, BackendError> {
    let gpus = crate::libtorch::cuda_devices();
    let limited = std::env::var_os("CUDA_VISIBLE_DEVICES").is_some();
    gpu_among(gpus, limited, crate::libtorch::resolve(choice), rendezvous)
}

/// The GPU of a rank that sees `gpus` of them, because it is shown no others if `limited`, and was told to take `choice`.
#[cfg(feature = "tch")]
fn gpu_among(
    gpus: usize,
    limited: bool,
    choice: TchDevice,
    rendezvous: &Rendezvous,
) -> Result<TchDevice, BackendError> {
    let Rendezvous {
        local_rank,
        local_world_size,
        launcher,
        ..
    } = *rendezvous;
    // A launcher that gives each process a GPU of its own shows it no other.
    let shown_its_own = gpus == 1
        && match launcher {
            crate::Launcher::Selfcls => false,
            crate::Launcher::Torchrun => limited,
            _ => true,
        };
    match choice {
        TchDevice::Cuda(0) if shown_its_own => Ok(TchDevice::Cuda(0)),
        TchDevice::Cuda(0) if gpus > 0 && gpus < local_world_size => Err(BackendError::NoSuchDevice {
            selection: Selection::Tch(TchDevice::Cuda(local_world_size - 1)),
            reason: format!(
                "this machine runs {local_world_size} processes and libtorch sees {gpus} GPU{}",
                if gpus == 1 { "" } else { "s" }
            ),
            fix: "start as many processes per machine as it has GPUs, or use --backend tch:cpu".into(),
        }),
        TchDevice::Cuda(0) if gpus > 0 => Ok(TchDevice::Cuda(local_rank)),
        TchDevice::Cuda(index) if index > 0 && local_world_size > 1 => {
            Err(BackendError::CannotJoin {
                device: Selection::Tch(choice).to_string(),
                fix: "it is one GPU, and every process needs its own; give --backend tch, which chooses by number".into(),
            })
        }
        other => Ok(other),
    }
}

/// Waits for all ranks, and joins them. `device` is this rank's; a peer that does not answer within
/// `timeout`, now or later, is given up.
///
/// Where that is noticed and this process is not able to return from an operation, or from what waits for a GPU, it is ended with
/// exit code 1; before that `last_words` is called with the reason, in a thread of its own.
///
/// # Errors
/// [`BackendError::Joining`], naming the ranks that did not come, or why there can be no group;
/// [`BackendError::CannotJoin`] on a device that knows no groups.
pub fn join(
    rendezvous: &Rendezvous,
    device: &Opened,
    timeout: Duration,
    last_words: impl Fn(&str) + Send + Sync + 'static,
) -> Result<Arc<dyn Collective>, BackendError> {
    #[cfg(feature = "tch")]
    if let Some(tch) = device.tch_device() {
        return crate::distributed::join(rendezvous, device, tch, timeout, last_words);
    }
    let _ = (timeout, last_words);
    Err(BackendError::CannotJoin {
        device: device.name.clone(),
        fix: format!(
            "{} started {} of them; use --backend tch on CPU or CUDA, or start one process",
            rendezvous.launcher, rendezvous.world_size
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Launcher;

    fn second_of_two() -> Rendezvous {
        Rendezvous {
            rank: 1,
            world_size: 2,
            local_rank: 1,
            local_world_size: 2,
            master_addr: "127.0.0.1".into(),
            master_port: 29_500,
            attempt: 0,
            run: String::new(),
            agent_store: false,
            launcher: Launcher::Torchrun,
        }
    }

    #[test]
    fn only_libtorch_joins() {
        let error = for_rank(Selection::Flex, &second_of_two()).expect_err("refused");
        let message = error.to_string();
        assert!(
            message.contains("flex") && message.contains("--backend tch"),
            "{message}"
        );
        assert!(message.contains("torchrun started 2"), "{message}");
    }

    #[cfg(feature = "tch")]
    #[test]
    fn cpus_and_named_gpus() {
        let place = second_of_two();
        let cpu = Selection::Tch(TchDevice::Cpu);
        assert_eq!(for_rank(cpu, &place), Ok(cpu));
        let third = Selection::Tch(TchDevice::Cuda(2));
        let message = for_rank(third, &place).expect_err("refused").to_string();
        assert!(
            message.contains("tch:cuda:2") && message.contains("one GPU"),
            "{message}"
        );
    }

    /// One GPU is a rank's own where its launcher may have hidden the others from it, and not under `selfcls-cli launch`.
    #[cfg(feature = "tch")]
    #[test]
    fn gpus_by_number_or_as_shown() {
        let place = |launcher| Rendezvous {
            launcher,
            ..second_of_two()
        };
        let any = TchDevice::Cuda(0);
        let among = |gpus, launcher| gpu_among(gpus, true, any, &place(launcher));
        for launcher in [Launcher::Slurm, Launcher::Torchrun, Launcher::Selfcls] {
            assert_eq!(among(2, launcher), Ok(TchDevice::Cuda(1)));
            assert_eq!(among(0, launcher), Ok(any), "refused when it is opened");
        }
        assert_eq!(among(1, Launcher::Slurm), Ok(any));
        let refused = among(1, Launcher::Selfcls).expect_err("refused");
        let message = refused.to_string();
        for part in ["2 processes", "sees 1 GPU", "tch:cpu"] {
            assert!(message.contains(part), "no {part:?} in {message}");
        }
        assert_eq!(among(1, Launcher::Torchrun), Ok(any));
        let unlimited = gpu_among(1, false, any, &place(Launcher::Torchrun));
        assert!(unlimited.is_err(), "torchrun gives no GPUs out");
        // All ranks alike, also the first, which has one.
        let first = Rendezvous {
            local_rank: 0,
            rank: 0,
            ..place(Launcher::Selfcls)
        };
        assert!(gpu_among(1, true, any, &first).is_err());
    }
}
