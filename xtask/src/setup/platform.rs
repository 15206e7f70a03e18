//! The machines for which ready-made libraries exist.

use std::env::consts::{ARCH, OS};

/// A kind of machine that PyPI has libraries for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Platform {
    LinuxX86,
    LinuxArm,
    MacArm,
}

impl Platform {
    /// This machine's, or a sentence that there is nothing for it.
    pub(crate) fn here() -> Result<Self, String> {
        match (OS, ARCH) {
            ("linux", "x86_64") => Ok(Self::LinuxX86),
            ("linux", "aarch64") => Ok(Self::LinuxArm),
            ("macos", "aarch64") => Ok(Self::MacArm),
            (os, arch) => Err(format!(
                "no ready-made library for {os} on {arch} is known to this set-up"
            )),
        }
    }
}
