//! libtorch: what this build links, which devices it sees, and opening one of them.

use std::num::NonZeroUsize;

use burn::tensor::Device;

use crate::{BackendError, Selection, TchDevice};

/// The version of the library found when this binary was built, as its own `build-version` says.
pub(crate) fn version() -> &'static str {
    option_env!("SELFCLS_LIBTORCH_VERSION").unwrap_or("of unknown version")
}

/// Whether this binary was built against a libtorch with CUDA (or HIP) kernels.
pub(crate) fn knows_gpus() -> bool {
    cfg!(libtorch_gpu)
}

/// The number of CUDA devices that can be used; 0 with a libtorch for CPUs.
pub(crate) fn cuda_devices() -> usize {
    if knows_gpus() && tch::Cuda::is_available() {
        usize::try_from(tch::Cuda::device_count()).unwrap_or(0)
    } else {
        0
    }
}

/// Whether Apple's GPU can be used.
pub(crate) fn has_mps() -> bool {
    tch::utils::has_mps()
}

/// The number of threads libtorch computes with.
pub(crate) fn threads() -> usize {
    usize::try_from(tch::get_num_threads()).unwrap_or(1)
}

/// Sets the number of threads libtorch computes with.
pub(crate) fn set_threads(threads: NonZeroUsize) {
    tch::set_num_threads(i32::try_from(threads.get()).unwrap_or(i32::MAX));
}

/// The device that is meant: for [`TchDevice::Best`] the first GPU, or else the CPU.
pub(crate) fn resolve(choice: TchDevice) -> TchDevice {
    match choice {
        TchDevice::Best if cuda_devices() > 0 => TchDevice::Cuda(0),
        TchDevice::Best if has_mps() => TchDevice::Mps,
        TchDevice::Best => TchDevice::Cpu,
        named => named,
    }
}

/// libtorch's CPU or a CUDA device, where one of them is meant.
pub(crate) fn device(selection: Selection) -> Option<tch::Device> {
    let Selection::Tch(choice) = selection else {
        return None;
    };
    match resolve(choice) {
        TchDevice::Cpu => Some(tch::Device::Cpu),
        TchDevice::Cuda(index) => Some(tch::Device::Cuda(index)),
        TchDevice::Mps | TchDevice::Best => None,
    }
}

/// Whether cuDNN may try out which of its kernels is fastest: a training has the same few shapes in every step.
fn tries_kernels() -> bool {
    std::env::var("SELFCLS_CUDNN_BENCHMARK").map_or(true, |value| value != "0")
}

/// Opens a device: the handle, and its name for people.
#[expect(
    deprecated,
    reason = "burn 0.22 is the last line with burn-tch; the version is pinned for it"
)]
pub(crate) fn open(choice: TchDevice) -> Result<(Device, String), BackendError> {
    let device = resolve(choice);
    let handle = match device {
        TchDevice::Cuda(index) => {
            check_cuda(choice, index)?;
            tch::Cuda::cudnn_set_benchmark(tries_kernels());
            Device::libtorch_cuda(index)
        }
        TchDevice::Mps if has_mps() => Device::libtorch_mps(),
        TchDevice::Mps => {
            return Err(BackendError::NoSuchDevice {
                selection: Selection::Tch(choice),
                reason: "this libtorch knows no Apple GPU".to_owned(),
                fix: "choose tch:cpu or tch:cuda".to_owned(),
            });
        }
        TchDevice::Cpu | TchDevice::Best => Device::libtorch(),
    };
    let mut name = format!("{}: libtorch {}", Selection::Tch(device), version());
    if device == TchDevice::Cpu {
        crate::malloc::keep_freed_memory();
        name.push_str(", ");
        name.push_str(&crate::threads::count(threads()));
    }
    Ok((handle, name))
}

fn check_cuda(choice: TchDevice, index: usize) -> Result<(), BackendError> {
    let available = cuda_devices();
    if index < available {
        return Ok(());
    }
    let (reason, fix) = if !knows_gpus() {
        (
            format!(
                "this binary was built against a libtorch ({}) without CUDA",
                version()
            ),
            cuda_advice(),
        )
    } else if available == 0 {
        (
            "libtorch sees no CUDA device".to_owned(),
            "check that `nvidia-smi` lists a GPU and that its driver is recent enough for this \
             libtorch's CUDA"
                .to_owned(),
        )
    } else {
        (
            format!("libtorch sees {available} CUDA device(s), counted from 0"),
            format!("choose tch:cuda:0 to tch:cuda:{}", available - 1),
        )
    };
    Err(BackendError::NoSuchDevice {
        selection: Selection::Tch(choice),
        reason,
        fix,
    })
}

/// How to get a build with CUDA.
pub(crate) fn cuda_advice() -> String {
    "for CUDA point LIBTORCH at a libtorch 2.9.0 built with it, or set LIBTORCH_USE_PYTORCH=1 where \
     PyTorch 2.9.0 with CUDA is installed, and rebuild with `--features tch`"
        .to_owned()
}
