//! ONNX Runtime for browsers and node, out of its npm package: an engine that tests try exported files in.

use std::path::{Path, PathBuf};

use super::npm;

const PACKAGE: &str = "onnxruntime-web@1.30.0";
/// The module, which pages and node load alike, and what it loads.
const FILES: [&str; 3] = [
    "ort.wasm.min.mjs",
    "ort-wasm-simd-threaded.mjs",
    "ort-wasm-simd-threaded.wasm",
];

/// The folder with the package's files afterwards.
pub(crate) fn set_up(dependencies: &Path) -> Result<PathBuf, String> {
    let target = dependencies.join("onnxruntime-web");
    let purpose = "exported files are tried in the engine of browsers too";
    npm::provide(&target, PACKAGE, "package/dist", &FILES, "33 MB", purpose)?;
    Ok(target)
}
