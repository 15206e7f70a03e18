//! From a selection to a device.

use burn::tensor::Device;

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
    })
}

#[cfg(any(feature = "flex", feature = "ndarray"))]
fn with_rayon_threads(backend: Backend) -> String {
    format!("{backend} ({})", crate::threads::count(crate::threads()))
}
