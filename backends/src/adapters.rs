//! The adapters wgpu finds, and opening one of them.
//!
//! burn creates its wgpu runtime on the first tensor and panics where that fails. So adapters are
//! looked up first, and the runtime is started here, through the constructor that returns errors.

use std::sync::{Mutex, MutexGuard, PoisonError};

use burn::tensor::wgpu::{WgpuInitError, wgpu};
use burn::tensor::{Device, DeviceKind, read_sync};
use wgpu::{AdapterInfo, DeviceType};

use crate::{BackendError, Selection, WgpuAdapter};

/// What to do where no adapter is found.
pub(crate) const DRIVER_ADVICE: &str = "install the Vulkan driver of the GPU's vendor, or Mesa's software driver (`cargo xtask setup \
     vulkan`; on Debian and Ubuntu `apt-get install mesa-vulkan-drivers libvulkan1`)";

/// What to do where only a software driver is found.
pub(crate) const GPU_ADVICE: &str = "if this machine has a GPU, install its vendor's Vulkan driver";

/// One adapter, and how burn is told to use it.
pub(crate) struct Adapter {
    info: AdapterInfo,
    /// `None` for an adapter that burn's selectors cannot address: a second software driver, or one
    /// that does not say what it is.
    kind: Option<DeviceKind>,
}

impl Adapter {
    /// Whether this is a software driver.
    pub(crate) fn is_software(&self) -> bool {
        self.info.device_type == DeviceType::Cpu
    }

    /// Whether a selection can name it.
    pub(crate) fn is_addressable(&self) -> bool {
        self.kind.is_some()
    }

    /// `NVIDIA H200 (discrete GPU, Vulkan)`.
    pub(crate) fn description(&self) -> String {
        describe(&self.info)
    }
}

fn describe(info: &AdapterInfo) -> String {
    let device_type = match info.device_type {
        DeviceType::DiscreteGpu => "discrete GPU",
        DeviceType::IntegratedGpu => "integrated GPU",
        DeviceType::VirtualGpu => "virtual GPU",
        DeviceType::Cpu => "software driver",
        DeviceType::Other => "unknown kind",
    };
    format!("{} ({device_type}, {:?})", info.name, info.backend)
}

/// Devices that have been opened. A runtime can be started once per selector; and the lock keeps
/// graphics instances from coming and going on two threads at once, which crashes Vulkan's loader.
static OPENED: Mutex<Vec<(DeviceKind, Device, String)>> = Mutex::new(Vec::new());

fn opened() -> MutexGuard<'static, Vec<(DeviceKind, Device, String)>> {
    OPENED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All adapters of the graphics API that burn will use: the first with a GPU, or else the first
/// with anything. An adapter's place in the list is its index in `wgpu:N`.
pub(crate) fn find() -> Vec<Adapter> {
    let _lock = opened();
    probe()
}

/// [`find`], for a caller that holds the lock.
fn probe() -> Vec<Adapter> {
    // The order in which burn's automatic choice goes through them.
    let apis = if cfg!(target_os = "macos") {
        &[wgpu::Backends::METAL] as &[_]
    } else {
        &[
            wgpu::Backends::VULKAN,
            wgpu::Backends::DX12,
            wgpu::Backends::GL,
        ]
    };
    let mut software = Vec::new();
    for &api in apis {
        let adapters = adapters_of(api);
        if adapters.iter().any(|adapter| !adapter.is_software()) {
            return adapters;
        }
        if software.is_empty() {
            software = adapters;
        }
    }
    software
}

fn adapters_of(api: wgpu::Backends) -> Vec<Adapter> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends: api,
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    let infos = read_sync(instance.enumerate_adapters(api));
    address(infos.iter().map(wgpu::Adapter::get_info).collect())
}

/// burn counts the adapters of every kind from zero on their own.
fn address(infos: Vec<AdapterInfo>) -> Vec<Adapter> {
    let (mut discrete, mut integrated, mut virtual_, mut software) = (0, 0, 0, 0);
    let next = |counter: &mut usize| std::mem::replace(counter, *counter + 1);
    infos
        .into_iter()
        .map(|info| {
            let kind = match info.device_type {
                DeviceType::DiscreteGpu => Some(DeviceKind::DiscreteGpu(next(&mut discrete))),
                DeviceType::IntegratedGpu => Some(DeviceKind::IntegratedGpu(next(&mut integrated))),
                DeviceType::VirtualGpu => Some(DeviceKind::VirtualGpu(next(&mut virtual_))),
                DeviceType::Cpu => (next(&mut software) == 0).then_some(DeviceKind::Cpu),
                DeviceType::Other => None,
            };
            Adapter { info, kind }
        })
        .collect()
}

/// Opens an adapter: the device, and its name for people.
pub(crate) fn open(choice: WgpuAdapter) -> Result<(Device, String), BackendError> {
    let mut opened = opened();
    let kind = resolve(choice, &probe())?;
    if let Some((_, device, name)) = opened.iter().find(|(known, _, _)| *known == kind) {
        return Ok((device.clone(), name.clone()));
    }
    let (device, setup) = Device::wgpu_options()
        .device_kind(kind.clone())
        .init_with_setup()
        .map_err(|error| {
            let fix = match error {
                WgpuInitError::InvalidConfiguration { .. } => {
                    "unset the CUBECL_... variables that configure it".to_owned()
                }
                _ => DRIVER_ADVICE.to_owned(),
            };
            no_such_device(choice, error.to_string(), fix)
        })?;
    let name = format!(
        "{}: {}",
        Selection::Wgpu(choice),
        describe(&setup.adapter.get_info())
    );
    opened.push((kind, device.clone(), name.clone()));
    Ok((device, name))
}

/// Which of `adapters` is meant, in burn's terms.
fn resolve(choice: WgpuAdapter, adapters: &[Adapter]) -> Result<DeviceKind, BackendError> {
    if adapters.is_empty() {
        let reason = "no graphics driver offers an adapter".to_owned();
        return Err(no_such_device(choice, reason, DRIVER_ADVICE.to_owned()));
    }
    let wanted = match choice {
        WgpuAdapter::Best => return Ok(DeviceKind::DefaultDevice),
        WgpuAdapter::Gpu => adapters
            .iter()
            .find(|adapter| !adapter.is_software())
            .and_then(|adapter| adapter.kind.clone()),
        WgpuAdapter::Index(n) => adapters.get(n).and_then(|adapter| adapter.kind.clone()),
        WgpuAdapter::Cpu => present(DeviceKind::Cpu, adapters),
        WgpuAdapter::Discrete(n) => present(DeviceKind::DiscreteGpu(n), adapters),
        WgpuAdapter::Integrated(n) => present(DeviceKind::IntegratedGpu(n), adapters),
        WgpuAdapter::Virtual(n) => present(DeviceKind::VirtualGpu(n), adapters),
    };
    wanted.ok_or_else(|| {
        let found: Vec<_> = adapters.iter().map(Adapter::description).collect();
        let reason = format!("the adapters found are {}", found.join(", "));
        let fix = format!("choose one of them or, {GPU_ADVICE}");
        no_such_device(choice, reason, fix)
    })
}

fn present(kind: DeviceKind, adapters: &[Adapter]) -> Option<DeviceKind> {
    adapters
        .iter()
        .any(|adapter| adapter.kind.as_ref() == Some(&kind))
        .then_some(kind)
}

fn no_such_device(choice: WgpuAdapter, reason: String, fix: String) -> BackendError {
    BackendError::NoSuchDevice {
        selection: Selection::Wgpu(choice),
        reason,
        fix,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(device_types: &[DeviceType]) -> Vec<Adapter> {
        let infos = device_types
            .iter()
            .map(|&device_type| AdapterInfo::new(device_type, wgpu::Backend::Vulkan))
            .collect();
        address(infos)
    }

    #[test]
    fn adapters_are_counted_by_kind() {
        use DeviceType::{Cpu, DiscreteGpu, IntegratedGpu, Other};
        let adapters = machine(&[Cpu, DiscreteGpu, IntegratedGpu, DiscreteGpu, Cpu, Other]);
        let kinds: Vec<_> = adapters.into_iter().map(|adapter| adapter.kind).collect();
        assert_eq!(
            kinds,
            [
                Some(DeviceKind::Cpu),
                Some(DeviceKind::DiscreteGpu(0)),
                Some(DeviceKind::IntegratedGpu(0)),
                Some(DeviceKind::DiscreteGpu(1)),
                None,
                None
            ]
        );
    }

    #[test]
    fn choices_resolve_to_what_is_there() {
        use DeviceType::{Cpu, DiscreteGpu};
        let adapters = machine(&[Cpu, DiscreteGpu, DiscreteGpu]);
        let resolved = |choice| resolve(choice, &adapters).ok();
        assert_eq!(resolved(WgpuAdapter::Best), Some(DeviceKind::DefaultDevice));
        assert_eq!(resolved(WgpuAdapter::Gpu), Some(DeviceKind::DiscreteGpu(0)));
        assert_eq!(resolved(WgpuAdapter::Cpu), Some(DeviceKind::Cpu));
        assert_eq!(
            resolved(WgpuAdapter::Index(2)),
            Some(DeviceKind::DiscreteGpu(1))
        );
        assert_eq!(resolved(WgpuAdapter::Index(3)), None);
        assert_eq!(resolved(WgpuAdapter::Discrete(2)), None);
        assert_eq!(resolved(WgpuAdapter::Integrated(0)), None);
    }

    #[test]
    fn a_machine_without_an_adapter_is_told_how_to_get_one() {
        for choice in [WgpuAdapter::Best, WgpuAdapter::Cpu, WgpuAdapter::Index(0)] {
            let message = resolve(choice, &[]).map_err(|error| error.to_string());
            assert!(
                message
                    .as_ref()
                    .is_err_and(|text| text.contains("mesa-vulkan-drivers")),
                "{message:?}"
            );
        }
    }
}
