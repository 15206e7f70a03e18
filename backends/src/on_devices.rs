//! Tests on every device that libtorch's kernels serve.

#![allow(deprecated, reason = "burn 0.22 is the last line with burn-tch")]

use std::io::Write;
use std::sync::{Arc, Once};

use burn::backend::LibTorch;
use burn::tensor::{Device, Tensor};
use selfcls_core::config::Precision;
use selfcls_core::kernels::Kernels;

use crate::AtenKernels;

/// Makes two tests of each function of a device: `cpu::NAME`, and `cuda::NAME` where there is a GPU.
macro_rules! on_devices {
    ($($name:ident),+ $(,)?) => {
        mod cpu {
            $(#[test]
            fn $name() {
                super::$name(&$crate::on_devices::cpu());
            })+
        }

        mod cuda {
            $(#[test]
            fn $name() {
                if let Some(device) = $crate::on_devices::cuda() {
                    super::$name(&device);
                }
            })+
        }
    };
}

pub(crate) use on_devices;

pub(crate) fn cpu() -> Device {
    Device::libtorch()
}

/// A GPU that computes in all of f32. Where there is none, a line says so, once for all tests.
pub(crate) fn cuda() -> Option<Device> {
    static SAID: Once = Once::new();
    let reason = if crate::libtorch::cuda_devices() == 0 {
        "libtorch sees no CUDA device"
    } else if std::env::var("NVIDIA_TF32_OVERRIDE").is_ok_and(|value| value == "0") {
        return Some(Device::libtorch_cuda(0));
    } else {
        "NVIDIA_TF32_OVERRIDE=0 is not set: convolutions round f32 to TF32 without it"
    };
    SAID.call_once(|| {
        // Past the harness, which swallows what a test that passes says.
        let _ = writeln!(
            std::io::stderr(),
            "NOT RUN: backends on CUDA (every case): {reason}"
        );
    });
    None
}

/// What libtorch calls the device; none for another backend's.
fn libtorchs(device: &Device) -> Option<tch::Device> {
    let tensor = Tensor::<1>::zeros([1], &device.clone().without_autodiff());
    let tensor = tensor.try_into_primitive::<LibTorch>().ok()?;
    Some(tensor.tensor.device())
}

/// What libtorch calls the device, which is one of its own.
pub(crate) fn tch_device(device: &Device) -> tch::Device {
    libtorchs(device).expect("a device of libtorch's")
}

pub(crate) fn is_cuda(device: &Device) -> bool {
    libtorchs(device).is_some_and(|device| device.is_cuda())
}

/// The kernels that training takes there.
pub(crate) fn kernels(device: &Device, precision: Precision) -> AtenKernels {
    let device = tch_device(device);
    AtenKernels::new(precision, device.is_cuda()).on(device)
}

/// The same, to be shared.
pub(crate) fn shared_kernels(device: &Device, precision: Precision) -> Arc<dyn Kernels> {
    Arc::new(kernels(device, precision))
}
