//! Why a device cannot be opened, each reason with its fix.

use selfcls_core::config::Precision;

use crate::{Backend, Selection};

/// A backend or a device that is not to be had. The message is one paragraph: what is missing, why,
/// and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BackendError {
    /// The backend was left out when this binary was built.
    #[error("this build does not contain the backend {name}: {fix}", name = .0, fix = how_to_add(*.0))]
    NotCompiledIn(Backend),
    /// The backend is there, but not the device.
    #[error("{selection} cannot be used on this machine: {reason}; {fix}")]
    NoSuchDevice {
        /// What was asked for.
        selection: Selection,
        /// Why it is not there.
        reason: String,
        /// What to do.
        fix: String,
    },
    /// The device computes in f32 only.
    #[error(
        "train.precision = \"{name}\" is not to be had on {device}, which computes in f32 only: choose \
         --backend tch, or train.precision = \"f32\"",
        name = precision_name(*.precision)
    )]
    Precision {
        /// The device's name for people.
        device: String,
        /// What was asked for.
        precision: Precision,
    },
    /// The processes of a run did not find together.
    #[error("{0}")]
    Joining(String),
    /// The device cannot be one of several that train together.
    #[error("{device} cannot train together with other processes: {fix}")]
    CannotJoin {
        /// The device's name for people.
        device: String,
        /// What to do.
        fix: String,
    },
    /// The number of threads was set after they had started.
    #[error(
        "the number of threads is fixed once the first of them has started: set it before \
         anything is computed, or with RAYON_NUM_THREADS"
    )]
    ThreadsRunning,
}

/// As it is written in the configuration.
fn precision_name(precision: Precision) -> &'static str {
    match precision {
        Precision::F32 => "f32",
        Precision::Bf16 => "bf16",
        Precision::Fp16 => "fp16",
    }
}

/// The cargo flag that adds `backend` to a build, and what has to be there first.
pub(crate) fn how_to_add(backend: Backend) -> String {
    let build = format!("cargo build --release -p selfcls-cli --features {backend}");
    match backend {
        Backend::Tch => format!(
            "with `cargo xtask setup libtorch` and `export LIBTORCH=$PWD/.deps/libtorch` done, \
             rebuild it with `{build}`"
        ),
        Backend::Flex | Backend::NdArray | Backend::Wgpu => format!("rebuild it with `{build}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_backend_is_answered_with_its_cargo_flag() {
        for backend in Backend::ALL {
            let message = BackendError::NotCompiledIn(backend).to_string();
            assert!(
                message.contains(&format!("-p selfcls-cli --features {backend}")),
                "{message}"
            );
        }
        let tch = BackendError::NotCompiledIn(Backend::Tch).to_string();
        assert!(tch.contains("cargo xtask setup libtorch"), "{tch}");
    }
}
