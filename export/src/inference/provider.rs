//! ONNX Runtime's execution providers: where it runs a network when not on the processor.

use crate::{Error, Result};
use ort::ep::{ExecutionProvider, ExecutionProviderDispatch};
use std::fmt;
use std::str::FromStr;

/// An execution provider. Each needs the cargo feature of its name, and a build of ONNX Runtime that has it.
///
/// They compute with numbers of 32 bits where a device can, also where fewer would be its default: CUDA without TF32,
/// OpenVINO in FP32. Neural processors (CoreML, OpenVINO's NPU) have 16 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Provider {
    /// NVIDIA GPUs: the device's number (feature `cuda`).
    Cuda(i32),
    /// NVIDIA GPUs through TensorRT: the device's number (feature `tensorrt`).
    TensorRt(i32),
    /// Apple's GPUs and neural engines (feature `coreml`).
    CoreMl,
    /// Any GPU on Windows: the device's number (feature `directml`).
    DirectMl(i32),
    /// Intel's OpenVINO on one of its devices (feature `openvino`).
    OpenVino(OpenVinoDevice),
}

/// Where OpenVINO computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OpenVinoDevice {
    /// The processor, Intel's or another one.
    #[default]
    Cpu,
    /// Intel's GPU of this number.
    Gpu(u16),
    /// Intel's neural processor.
    Npu,
}

impl OpenVinoDevice {
    /// What OpenVINO calls it.
    fn name(self) -> String {
        match self {
            Self::Cpu => "CPU".to_owned(),
            Self::Gpu(number) => format!("GPU.{number}"),
            Self::Npu => "NPU".to_owned(),
        }
    }
}

impl Provider {
    /// What ONNX Runtime gets to see, for a session of so many threads.
    #[allow(unused_variables, reason = "depends on the features")]
    pub(super) fn dispatch(self, threads: usize) -> Result<ExecutionProviderDispatch> {
        match self {
            #[cfg(feature = "cuda")]
            Self::Cuda(device) => {
                let cuda = ort::ep::CUDA::default().with_device_id(device);
                self.available(cuda.with_tf32(false))
            }
            #[cfg(feature = "tensorrt")]
            Self::TensorRt(device) => {
                self.available(ort::ep::TensorRT::default().with_device_id(device))
            }
            #[cfg(feature = "coreml")]
            Self::CoreMl => self.available(ort::ep::CoreML::default()),
            #[cfg(feature = "directml")]
            Self::DirectMl(device) => {
                self.available(ort::ep::DirectML::default().with_device_id(device))
            }
            #[cfg(feature = "openvino")]
            Self::OpenVino(device) => {
                let openvino = ort::ep::OpenVINO::default()
                    .with_device_type(device.name())
                    .with_num_threads(threads)
                    // A session has one run at a time.
                    .with_num_streams(1);
                self.available(match device {
                    OpenVinoDevice::Npu => openvino,
                    // By itself OpenVINO takes 16 bits where a device is faster with them.
                    OpenVinoDevice::Cpu | OpenVinoDevice::Gpu(_) => openvino.with_precision("FP32"),
                })
            }
            #[allow(unreachable_patterns, reason = "depends on the features")]
            _ => Err(self.is_missing()),
        }
    }

    /// Refuses one that this program was built without.
    pub(super) fn is_built_in(self) -> Result<()> {
        let built_in = match self {
            Self::Cuda(_) => cfg!(feature = "cuda"),
            Self::TensorRt(_) => cfg!(feature = "tensorrt"),
            Self::CoreMl => cfg!(feature = "coreml"),
            Self::DirectMl(_) => cfg!(feature = "directml"),
            Self::OpenVino(_) => cfg!(feature = "openvino"),
        };
        if built_in {
            Ok(())
        } else {
            Err(self.is_missing())
        }
    }

    fn is_missing(self) -> Error {
        Error::Engine(format!(
            "{self} is not part of this program: build it with the feature `{}` of selfcls-export",
            self.feature()
        ))
    }

    #[allow(dead_code, reason = "depends on the features")]
    fn available<E>(self, provider: E) -> Result<ExecutionProviderDispatch>
    where
        E: ExecutionProvider + Into<ExecutionProviderDispatch>,
    {
        match E::is_available() {
            // A driver or library that it lacks shows when a network is loaded, and is an error too.
            Ok(true) => {
                let dispatch: ExecutionProviderDispatch = provider.into();
                Ok(dispatch.error_on_failure())
            }
            Ok(false) => Err(Error::Engine(format!(
                "this ONNX Runtime was built without {self}: give a library that has it (for CUDA and TensorRT the one in the Python package onnxruntime-gpu, for OpenVINO onnxruntime-openvino, for DirectML onnxruntime-directml) in {}, or leave the provider out",
                super::LIBRARY_VARIABLE
            ))),
            Err(error) => Err(Error::Engine(format!("cannot ask for {self}: {error}"))),
        }
    }

    fn feature(self) -> &'static str {
        match self {
            Self::Cuda(_) => "cuda",
            Self::TensorRt(_) => "tensorrt",
            Self::CoreMl => "coreml",
            Self::DirectMl(_) => "directml",
            Self::OpenVino(_) => "openvino",
        }
    }

    /// Whether it is the processor, which has its threads for many runs at a time, and the memory.
    pub(super) fn is_processor(self) -> bool {
        self == Self::OpenVino(OpenVinoDevice::Cpu)
    }

    fn device(self) -> Option<i32> {
        match self {
            Self::Cuda(device) | Self::TensorRt(device) | Self::DirectMl(device) => Some(device),
            Self::CoreMl | Self::OpenVino(_) => None,
        }
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cuda(_) => "CUDA",
            Self::TensorRt(_) => "TensorRT",
            Self::CoreMl => "CoreML",
            Self::DirectMl(_) => "DirectML",
            Self::OpenVino(_) => "OpenVINO",
        })?;
        if let Self::OpenVino(device) = self {
            return write!(f, " on {}", device.name());
        }
        match self.device() {
            Some(device) => write!(f, " device {device}"),
            None => Ok(()),
        }
    }
}

/// `cuda`, `cuda:1`, `tensorrt`, `coreml`, `directml`, `openvino`, `openvino:cpu`, `openvino:gpu`, `openvino:gpu.1`,
/// `openvino:npu`.
impl FromStr for Provider {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(device) = text.strip_prefix("openvino") {
            return openvino(device).map(Self::OpenVino).ok_or_else(|| {
                "write openvino, openvino:cpu, openvino:gpu, openvino:gpu.N or openvino:npu"
                    .to_owned()
            });
        }
        let (name, device) = match text.split_once(':') {
            Some((name, device)) => (name, device.parse::<u16>().ok()),
            None => (text, Some(0)),
        };
        let device = device.map(i32::from);
        let provider = match (name, device) {
            ("cuda", Some(device)) => Some(Self::Cuda(device)),
            ("tensorrt", Some(device)) => Some(Self::TensorRt(device)),
            ("directml", Some(device)) => Some(Self::DirectMl(device)),
            ("coreml", _) if name == text => Some(Self::CoreMl),
            _ => None,
        };
        provider.ok_or_else(|| {
            "write cuda, tensorrt or directml, each with :DEVICE where there are several, coreml or openvino"
                .to_owned()
        })
    }
}

/// The device in what follows `openvino`.
fn openvino(text: &str) -> Option<OpenVinoDevice> {
    match text {
        "" | ":cpu" => Some(OpenVinoDevice::Cpu),
        ":gpu" => Some(OpenVinoDevice::Gpu(0)),
        ":npu" => Some(OpenVinoDevice::Npu),
        _ => {
            let number = text.strip_prefix(":gpu.")?.parse();
            number.ok().map(OpenVinoDevice::Gpu)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn providers_are_read_and_told() {
        let on = Provider::OpenVino;
        for (text, provider, told) in [
            ("cuda", Provider::Cuda(0), "CUDA device 0"),
            ("cuda:1", Provider::Cuda(1), "CUDA device 1"),
            ("tensorrt:2", Provider::TensorRt(2), "TensorRT device 2"),
            ("directml", Provider::DirectMl(0), "DirectML device 0"),
            ("coreml", Provider::CoreMl, "CoreML"),
            ("openvino", on(OpenVinoDevice::Cpu), "OpenVINO on CPU"),
            ("openvino:cpu", on(OpenVinoDevice::Cpu), "OpenVINO on CPU"),
            (
                "openvino:gpu",
                on(OpenVinoDevice::Gpu(0)),
                "OpenVINO on GPU.0",
            ),
            (
                "openvino:gpu.1",
                on(OpenVinoDevice::Gpu(1)),
                "OpenVINO on GPU.1",
            ),
            ("openvino:npu", on(OpenVinoDevice::Npu), "OpenVINO on NPU"),
        ] {
            assert_eq!(text.parse(), Ok(provider));
            assert_eq!(provider.to_string(), told);
        }
        for wrong in [
            "",
            "CUDA",
            "cuda:",
            "cuda:-1",
            "coreml:0",
            "gpu",
            "openvino:",
            "openvino:gpu.",
        ] {
            assert!(wrong.parse::<Provider>().is_err(), "{wrong:?}");
        }
    }
}
