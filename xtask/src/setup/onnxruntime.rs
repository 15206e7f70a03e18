//! ONNX Runtime's shared library, out of its wheel.

use std::fs;
use std::path::{Path, PathBuf};

use super::folder;
use super::platform::Platform;
use super::python::Python;

const VERSION: &str = "1.31.1";

/// Where the library lies afterwards: what `ORT_DYLIB_PATH` should be.
pub(crate) fn set_up(folder: &Path) -> Result<PathBuf, String> {
    let platform = Platform::here()?;
    let target = folder.join("onnxruntime");
    // The name carries the version.
    let library = match platform {
        Platform::LinuxX86 | Platform::LinuxArm => format!("libonnxruntime.so.{VERSION}"),
        Platform::MacArm => format!("libonnxruntime.{VERSION}.dylib"),
    };
    let is_complete = |target: &Path| target.join(&library).is_file();
    folder::ensure(&target, is_complete, |staged| {
        let python = Python::find(folder)?;
        println!("onnxruntime: fetching {VERSION} (24 MB)");
        let wheels = staged.join("wheels");
        python.download(&[&format!("onnxruntime=={VERSION}")], &wheels)?;
        let rule = format!("onnxruntime/capi/{library}>{library}");
        python.unpack(&wheels, "onnxruntime", staged, &[&rule])?;
        fs::remove_dir_all(&wheels)
            .map_err(|error| format!("{} cannot be removed: {error}", wheels.display()))
    })?;
    Ok(target.join(library))
}
