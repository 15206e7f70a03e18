//! From a selection to a device.

use burn::tensor::Device;
use selfcls_core::config::Precision;
use selfcls_core::runtime::Runtime;

#[cfg(feature = "tch")]
use crate::TchDevice;
use crate::{Backend, BackendError, Selection};

/// A device that is ready for tensors.
#[derive(Debug, Clone)]
pub struct Opened {
    /// The device, without autodiff.
    pub device: Device,
    /// The backend it belongs to.
    pub backend: Backend,
    /// What it is, for people: `flex (2 threads)`, `tch:cuda:0 (libtorch 2.9.0)`.
    pub name: String,
    /// Whether operations return before they are done.
    asynchronous: bool,
    /// Whether ATen's kernels serve it.
    #[cfg(feature = "tch")]
    aten: bool,
    /// The device as libtorch knows it, where it is libtorch's CPU or a CUDA device.
    #[cfg(feature = "tch")]
    tch: Option<tch::Device>,
}

impl Opened {
    /// The device as libtorch knows it; none for any other, and for Apple's GPU.
    #[cfg(feature = "tch")]
    pub(crate) fn tch_device(&self) -> Option<tch::Device> {
        self.tch
    }

    /// The most bytes of the device's own memory that tensors had at once, since
    /// [`forget_peak_memory`](Self::forget_peak_memory) where that was called; none where they take the host's, or nobody
    /// counts.
    pub fn peak_memory(&self) -> Option<u64> {
        self.memory(false)
    }

    /// Lets [`peak_memory`](Self::peak_memory) begin anew.
    pub fn forget_peak_memory(&self) {
        self.memory(true);
    }

    #[cfg_attr(
        not(feature = "tch"),
        allow(unused_variables, reason = "the other backends do not count")
    )]
    fn memory(&self, forget: bool) -> Option<u64> {
        #[cfg(feature = "tch")]
        if let Some(tch::Device::Cuda(gpu)) = self.tch {
            return crate::aten::peak_memory(gpu, forget).ok();
        }
        None
    }

    /// A single process on this device with the fastest kernels there are for it, computing convolutions
    /// and linear layers in `precision`.
    ///
    /// # Errors
    /// [`BackendError::Precision`] where only f32 is to be had.
    pub fn runtime(&self, precision: Precision) -> Result<Runtime, BackendError> {
        let mut runtime = Runtime::new(self.device.clone());
        runtime.asynchronous = self.asynchronous;
        #[cfg(feature = "flex")]
        if self.backend == Backend::Flex {
            runtime.kernels = std::sync::Arc::new(crate::FlexKernels);
        }
        #[cfg(feature = "tch")]
        if self.aten {
            let mut kernels = crate::AtenKernels::new(precision, self.asynchronous);
            if let Some(device) = self.tch {
                kernels = kernels.on(device);
            }
            runtime.kernels = std::sync::Arc::new(kernels);
        }
        if runtime.kernels.precision() != precision {
            return Err(BackendError::Precision {
                device: self.name.clone(),
                precision,
            });
        }
        Ok(runtime)
    }
}

/// Opens the selected device.
///
/// Devices are cheap handles: opening the same selection again gives the same device.
///
/// # Errors
///
/// [`BackendError::NotCompiledIn`] and [`BackendError::NoSuchDevice`], each with its fix.
pub fn open(selection: &Selection) -> Result<Opened, BackendError> {
    let backend = selection.backend();
    let (device, name) = match *selection {
        #[cfg(feature = "flex")]
        Selection::Flex => (Device::flex(), with_rayon_threads(backend)),
        #[cfg(feature = "ndarray")]
        Selection::NdArray => {
            #[expect(
                deprecated,
                reason = "burn keeps ndarray for one more release; here it is the second opinion"
            )]
            let device = Device::ndarray();
            (device, with_rayon_threads(backend))
        }
        #[cfg(feature = "wgpu")]
        Selection::Wgpu(adapter) => crate::adapters::open(adapter)?,
        #[cfg(feature = "tch")]
        Selection::Tch(device) => crate::libtorch::open(device)?,
        #[allow(unreachable_patterns, reason = "with all features on nothing is left")]
        _ => return Err(BackendError::NotCompiledIn(backend)),
    };
    Ok(Opened {
        device,
        backend,
        name,
        asynchronous: is_asynchronous(*selection),
        #[cfg(feature = "tch")]
        aten: has_aten_kernels(*selection),
        #[cfg(feature = "tch")]
        tch: crate::libtorch::device(*selection),
    })
}

/// GPUs are; so is wgpu's software driver, which runs on threads of its own.
fn is_asynchronous(selection: Selection) -> bool {
    match selection {
        Selection::Wgpu(_) => true,
        #[cfg(feature = "tch")]
        Selection::Tch(device) => crate::libtorch::resolve(device) != TchDevice::Cpu,
        _ => false,
    }
}

/// CPUs and CUDA; on Apple's GPU burn's own operations, until somebody has tried these there.
#[cfg(feature = "tch")]
fn has_aten_kernels(selection: Selection) -> bool {
    match selection {
        Selection::Tch(device) => crate::libtorch::resolve(device) != TchDevice::Mps,
        _ => false,
    }
}

#[cfg(any(feature = "flex", feature = "ndarray"))]
fn with_rayon_threads(backend: Backend) -> String {
    format!("{backend} ({})", crate::threads::count(crate::threads()))
}
