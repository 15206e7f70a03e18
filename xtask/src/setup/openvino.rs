//! ONNX Runtime with the execution provider OpenVINO, out of its wheel.

use std::path::{Path, PathBuf};

use super::platform::Platform;
use super::python;

const REQUIREMENT: &str = "onnxruntime-openvino==1.24.1";
const LIBRARY: &str = "libonnxruntime.so.1.24.1";
/// What the library loads for the processor, from its own folder; the plugins for other devices are left out.
const PARTS: [&str; 7] = [
    "libonnxruntime_providers_shared.so",
    "libonnxruntime_providers_openvino.so",
    "libopenvino.so.2541",
    "libopenvino_onnx_frontend.so.2541",
    "libopenvino_intel_cpu_plugin.so",
    "libtbb.so.12",
    "libtbbmalloc.so",
];

/// Where the library lies afterwards.
pub(crate) fn set_up(folder: &Path) -> Result<PathBuf, String> {
    let target = folder.join("onnxruntime-openvino");
    if Platform::here()? != Platform::LinuxX86 {
        return Err(
            "the Python package index has ONNX Runtime with OpenVINO for Linux on x86-64 only"
                .to_owned(),
        );
    }
    let files: Vec<&str> = PARTS.into_iter().chain([LIBRARY]).collect();
    let rules: Vec<String> = files
        .iter()
        .map(|file| format!("onnxruntime/capi/{file}>{file}"))
        .collect();
    let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
    python::provide(&target, &files, REQUIREMENT, &rules, "84 MB")?;
    Ok(target.join(LIBRARY))
}
