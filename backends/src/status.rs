//! What this build and this machine have.

use crate::error::how_to_add;
use crate::{Backend, Selection};

/// The state of one backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendStatus {
    /// Which one.
    pub backend: Backend,
    /// Whether this build contains it.
    pub compiled_in: bool,
    /// The library behind it, where its version matters: `libtorch 2.9.0`.
    pub library: Option<String>,
    /// The devices found, the default one first for flex, ndarray and tch, in wgpu's own order for
    /// wgpu. Empty where the backend is not compiled in.
    pub devices: Vec<FoundDevice>,
    /// What to do about what is missing; `None` where nothing is.
    pub advice: Option<String>,
}

/// A device that can be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundDevice {
    /// What to give `--backend`.
    pub selection: Selection,
    /// What it is, for people.
    pub description: String,
}

/// Every backend, compiled in or not, in the order of [`Backend::ALL`].
///
/// Asks graphics drivers and libtorch for their devices (tenths of a second), but opens none.
pub fn list() -> Vec<BackendStatus> {
    Backend::ALL.into_iter().map(status).collect()
}

fn status(backend: Backend) -> BackendStatus {
    match backend {
        #[cfg(feature = "flex")]
        Backend::Flex => on_rayon(backend),
        #[cfg(feature = "ndarray")]
        Backend::NdArray => on_rayon(backend),
        #[cfg(feature = "wgpu")]
        Backend::Wgpu => wgpu(),
        #[cfg(feature = "tch")]
        Backend::Tch => tch(),
        #[allow(unreachable_patterns, reason = "with all features on nothing is left")]
        _ => BackendStatus {
            backend,
            compiled_in: false,
            library: None,
            devices: Vec::new(),
            advice: Some(how_to_add(backend)),
        },
    }
}

#[cfg(any(feature = "flex", feature = "ndarray"))]
fn on_rayon(backend: Backend) -> BackendStatus {
    let threads = crate::threads::count(crate::threads());
    BackendStatus {
        backend,
        compiled_in: true,
        library: None,
        devices: vec![FoundDevice {
            selection: backend.default_selection(),
            description: format!("CPU, {threads}"),
        }],
        advice: None,
    }
}

#[cfg(feature = "wgpu")]
fn wgpu() -> BackendStatus {
    use crate::WgpuAdapter;
    use crate::adapters::{DRIVER_ADVICE, GPU_ADVICE, find};

    let adapters = find();
    let advice = if adapters.is_empty() {
        Some(format!("no adapter was found: {DRIVER_ADVICE}"))
    } else if adapters.iter().all(|adapter| adapter.is_software()) {
        Some(format!(
            "only a software driver was found, which is for tests, not for speed: {GPU_ADVICE}"
        ))
    } else if cfg!(not(feature = "wgpu-tuned")) {
        Some(
            "this build does not tune its kernels: `--features wgpu-tuned` instead of `wgpu` is \
             faster on a real GPU"
                .to_owned(),
        )
    } else {
        None
    };
    BackendStatus {
        backend: Backend::Wgpu,
        compiled_in: true,
        library: None,
        devices: adapters
            .iter()
            .enumerate()
            .filter(|(_, adapter)| adapter.is_addressable())
            .map(|(index, adapter)| FoundDevice {
                selection: Selection::Wgpu(WgpuAdapter::Index(index)),
                description: adapter.description(),
            })
            .collect(),
        advice,
    }
}

#[cfg(feature = "tch")]
fn tch() -> BackendStatus {
    use crate::{TchDevice, libtorch};

    let found = |device, description| FoundDevice {
        selection: Selection::Tch(device),
        description,
    };
    let cuda = libtorch::cuda_devices();
    let mut devices: Vec<_> = (0..cuda)
        .map(|index| found(TchDevice::Cuda(index), format!("CUDA device {index}")))
        .collect();
    if libtorch::has_mps() {
        devices.push(found(TchDevice::Mps, "Apple GPU".to_owned()));
    }
    let threads = crate::threads::count(libtorch::threads());
    devices.push(found(TchDevice::Cpu, format!("CPU, {threads}")));

    let advice = if !libtorch::knows_gpus() {
        Some(format!(
            "this libtorch has no CUDA: {}",
            libtorch::cuda_advice()
        ))
    } else if cuda == 0 {
        Some("this libtorch has CUDA but sees no device: check `nvidia-smi`".to_owned())
    } else {
        None
    };
    BackendStatus {
        backend: Backend::Tch,
        compiled_in: true,
        library: Some(format!("libtorch {}", libtorch::version())),
        devices,
        advice,
    }
}
