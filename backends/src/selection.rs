//! What `--backend NAME[:device]` means, independent of what is compiled in.

use std::fmt;
use std::str::FromStr;

/// A backend by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Backend {
    /// burn's own CPU backend.
    Flex,
    /// CPU through the ndarray crate.
    NdArray,
    /// GPUs (and software drivers) through wgpu.
    Wgpu,
    /// libtorch, on CPU and CUDA.
    Tch,
}

impl Backend {
    /// All backends, in the order they are listed to users.
    pub const ALL: [Self; 4] = [Self::Flex, Self::NdArray, Self::Wgpu, Self::Tch];

    /// The name used on the command line; also the name of the cargo feature that adds the backend.
    pub fn name(self) -> &'static str {
        match self {
            Self::Flex => "flex",
            Self::NdArray => "ndarray",
            Self::Wgpu => "wgpu",
            Self::Tch => "tch",
        }
    }

    /// What may follow the name, for messages and help; empty where nothing may.
    pub fn device_forms(self) -> &'static [&'static str] {
        match self {
            Self::Flex | Self::NdArray => &[],
            Self::Wgpu => &["cpu", "gpu", "N", "discrete:N", "integrated:N", "virtual:N"],
            Self::Tch => &["cpu", "cuda", "cuda:N", "N", "mps"],
        }
    }

    /// Whether this build contains the backend.
    pub fn is_compiled_in(self) -> bool {
        match self {
            Self::Flex => cfg!(feature = "flex"),
            Self::NdArray => cfg!(feature = "ndarray"),
            Self::Wgpu => cfg!(feature = "wgpu"),
            Self::Tch => cfg!(feature = "tch"),
        }
    }

    /// The backend's device where the user names none.
    pub fn default_selection(self) -> Selection {
        match self {
            Self::Flex => Selection::Flex,
            Self::NdArray => Selection::NdArray,
            Self::Wgpu => Selection::Wgpu(WgpuAdapter::Best),
            Self::Tch => Selection::Tch(TchDevice::Best),
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A backend and one of its devices. Parses from and displays as `NAME[:device]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Selection {
    /// `flex`, the default.
    #[default]
    Flex,
    /// `ndarray`.
    NdArray,
    /// `wgpu[:adapter]`.
    Wgpu(WgpuAdapter),
    /// `tch[:device]`.
    Tch(TchDevice),
}

/// An adapter of wgpu. Indices count from zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum WgpuAdapter {
    /// `wgpu`: the fastest adapter found, a software driver if there is no other.
    /// `CUBECL_WGPU_DEFAULT_DEVICE` overrides it.
    #[default]
    Best,
    /// `wgpu:cpu`: a software driver.
    Cpu,
    /// `wgpu:gpu`: the first real GPU; refused where there is none.
    Gpu,
    /// `wgpu:N`: the Nth adapter as [`list`](crate::list) shows them.
    Index(usize),
    /// `wgpu:discrete:N`.
    Discrete(usize),
    /// `wgpu:integrated:N`.
    Integrated(usize),
    /// `wgpu:virtual:N`.
    Virtual(usize),
}

/// A device of libtorch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TchDevice {
    /// `tch`: the first CUDA device, else Apple's GPU, else the CPU.
    #[default]
    Best,
    /// `tch:cpu`.
    Cpu,
    /// `tch:cuda`, `tch:cuda:N` or `tch:N`.
    Cuda(usize),
    /// `tch:mps`: Apple's GPU.
    Mps,
}

impl Selection {
    /// The backend, whatever the device.
    pub fn backend(&self) -> Backend {
        match self {
            Self::Flex => Backend::Flex,
            Self::NdArray => Backend::NdArray,
            Self::Wgpu(_) => Backend::Wgpu,
            Self::Tch(_) => Backend::Tch,
        }
    }
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.backend().name())?;
        match self {
            Self::Flex | Self::NdArray => Ok(()),
            Self::Wgpu(adapter) => match adapter {
                WgpuAdapter::Best => Ok(()),
                WgpuAdapter::Cpu => f.write_str(":cpu"),
                WgpuAdapter::Gpu => f.write_str(":gpu"),
                WgpuAdapter::Index(n) => write!(f, ":{n}"),
                WgpuAdapter::Discrete(n) => write!(f, ":discrete:{n}"),
                WgpuAdapter::Integrated(n) => write!(f, ":integrated:{n}"),
                WgpuAdapter::Virtual(n) => write!(f, ":virtual:{n}"),
            },
            Self::Tch(device) => match device {
                TchDevice::Best => Ok(()),
                TchDevice::Cpu => f.write_str(":cpu"),
                TchDevice::Cuda(n) => write!(f, ":cuda:{n}"),
                TchDevice::Mps => f.write_str(":mps"),
            },
        }
    }
}

/// A text that names no backend, or no device of the backend it names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseSelectionError {
    /// The part before the colon is no backend.
    #[error("there is no backend `{0}`: choose flex, ndarray, wgpu or tch")]
    UnknownBackend(String),
    /// The part after the colon is no device of the backend.
    #[error("the backend {backend} has no device `{device}`: {}", describe_forms(*.backend))]
    UnknownDevice {
        /// The backend that was named.
        backend: Backend,
        /// What followed the colon.
        device: String,
    },
}

fn describe_forms(backend: Backend) -> String {
    match backend.device_forms() {
        [] => format!("write just `{backend}`"),
        forms => {
            let forms: Vec<_> = forms
                .iter()
                .map(|form| format!("{backend}:{form}"))
                .collect();
            format!("write {backend} or {}", forms.join(", "))
        }
    }
}

impl FromStr for Selection {
    type Err = ParseSelectionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, device) = match text.split_once(':') {
            Some((name, device)) => (name, Some(device)),
            None => (text, None),
        };
        let backend = Backend::ALL
            .into_iter()
            .find(|backend| backend.name() == name)
            .ok_or_else(|| ParseSelectionError::UnknownBackend(name.to_owned()))?;
        let Some(device) = device else {
            return Ok(backend.default_selection());
        };
        let selection = match backend {
            Backend::Flex | Backend::NdArray => None,
            Backend::Wgpu => parse_adapter(device).map(Self::Wgpu),
            Backend::Tch => parse_tch_device(device).map(Self::Tch),
        };
        selection.ok_or_else(|| ParseSelectionError::UnknownDevice {
            backend,
            device: device.to_owned(),
        })
    }
}

fn parse_adapter(device: &str) -> Option<WgpuAdapter> {
    if let Some((kind, index)) = device.split_once(':') {
        let index = index.parse().ok()?;
        return match kind {
            "discrete" => Some(WgpuAdapter::Discrete(index)),
            "integrated" => Some(WgpuAdapter::Integrated(index)),
            "virtual" => Some(WgpuAdapter::Virtual(index)),
            _ => None,
        };
    }
    match device {
        "cpu" => Some(WgpuAdapter::Cpu),
        "gpu" => Some(WgpuAdapter::Gpu),
        "discrete" => Some(WgpuAdapter::Discrete(0)),
        "integrated" => Some(WgpuAdapter::Integrated(0)),
        "virtual" => Some(WgpuAdapter::Virtual(0)),
        index => index.parse().ok().map(WgpuAdapter::Index),
    }
}

fn parse_tch_device(device: &str) -> Option<TchDevice> {
    match device {
        "cpu" => Some(TchDevice::Cpu),
        "cuda" => Some(TchDevice::Cuda(0)),
        "mps" => Some(TchDevice::Mps),
        other => {
            let index = other.strip_prefix("cuda:").unwrap_or(other);
            index.parse().ok().map(TchDevice::Cuda)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_parses_and_displays_canonically() {
        let forms = [
            ("flex", Selection::Flex, "flex"),
            ("ndarray", Selection::NdArray, "ndarray"),
            ("wgpu", Selection::Wgpu(WgpuAdapter::Best), "wgpu"),
            ("wgpu:cpu", Selection::Wgpu(WgpuAdapter::Cpu), "wgpu:cpu"),
            ("wgpu:gpu", Selection::Wgpu(WgpuAdapter::Gpu), "wgpu:gpu"),
            ("wgpu:2", Selection::Wgpu(WgpuAdapter::Index(2)), "wgpu:2"),
            (
                "wgpu:discrete",
                Selection::Wgpu(WgpuAdapter::Discrete(0)),
                "wgpu:discrete:0",
            ),
            (
                "wgpu:integrated:1",
                Selection::Wgpu(WgpuAdapter::Integrated(1)),
                "wgpu:integrated:1",
            ),
            (
                "wgpu:virtual:3",
                Selection::Wgpu(WgpuAdapter::Virtual(3)),
                "wgpu:virtual:3",
            ),
            ("tch", Selection::Tch(TchDevice::Best), "tch"),
            ("tch:cpu", Selection::Tch(TchDevice::Cpu), "tch:cpu"),
            ("tch:cuda", Selection::Tch(TchDevice::Cuda(0)), "tch:cuda:0"),
            (
                "tch:cuda:1",
                Selection::Tch(TchDevice::Cuda(1)),
                "tch:cuda:1",
            ),
            ("tch:1", Selection::Tch(TchDevice::Cuda(1)), "tch:cuda:1"),
            ("tch:mps", Selection::Tch(TchDevice::Mps), "tch:mps"),
        ];
        for (text, selection, canonical) in forms {
            assert_eq!(text.parse(), Ok(selection), "{text}");
            assert_eq!(selection.to_string(), canonical);
            assert_eq!(canonical.parse(), Ok(selection), "{canonical}");
        }
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        for text in ["", "cuda", "Flex", "torch", " flex"] {
            let name = text.split(':').next().unwrap_or_default();
            assert_eq!(
                text.parse::<Selection>(),
                Err(ParseSelectionError::UnknownBackend(name.to_owned())),
                "{text:?}"
            );
        }
        for text in [
            "flex:",
            "flex:0",
            "ndarray:cpu",
            "wgpu:",
            "wgpu:-1",
            "wgpu:cuda",
            "wgpu:cpu:0",
            "wgpu:discrete:",
            "wgpu:discrete:x",
            "tch:",
            "tch:gpu",
            "tch:cuda:",
            "tch:cuda:one",
            "tch:cuda:0:1",
            "tch:99999999999999999999",
        ] {
            assert!(
                matches!(
                    text.parse::<Selection>(),
                    Err(ParseSelectionError::UnknownDevice { .. })
                ),
                "{text:?}"
            );
        }
    }

    #[test]
    fn errors_say_what_may_be_written() {
        let error = "flex:cpu".parse::<Selection>().map_err(|e| e.to_string());
        assert_eq!(
            error,
            Err("the backend flex has no device `cpu`: write just `flex`".to_owned())
        );
        let error = "tch:gpu".parse::<Selection>().map_err(|e| e.to_string());
        assert_eq!(
            error,
            Err(
                "the backend tch has no device `gpu`: write tch or tch:cpu, tch:cuda, tch:cuda:N, tch:N, tch:mps"
                    .to_owned()
            )
        );
    }
}
