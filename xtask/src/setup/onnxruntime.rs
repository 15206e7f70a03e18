//! ONNX Runtime's shared library, out of its wheel.

use std::path::{Path, PathBuf};

use super::platform::Platform;
use super::python;

const VERSION: &str = "1.31.1";

/// Where the library lies afterwards: what `ORT_DYLIB_PATH` should be.
pub(crate) fn set_up(folder: &Path) -> Result<PathBuf, String> {
    let target = folder.join("onnxruntime");
    // The name carries the version.
    let library = match Platform::here()? {
        Platform::LinuxX86 | Platform::LinuxArm => format!("libonnxruntime.so.{VERSION}"),
        Platform::MacArm => format!("libonnxruntime.{VERSION}.dylib"),
    };
    let requirement = format!("onnxruntime=={VERSION}");
    let rule = format!("onnxruntime/capi/{library}>{library}");
    python::provide(&target, &[&library], &requirement, &[&rule], "24 MB")?;
    Ok(target.join(library))
}
