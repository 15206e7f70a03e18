//! ONNX Runtime for browsers and node, out of its npm package: an engine that tests try exported files in.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::folder;
use crate::process::{output, succeeds};

const PACKAGE: &str = "onnxruntime-web@1.30.0";
/// The module for node, the one for pages, and what both load.
const FILES: [&str; 4] = [
    "ort.node.min.mjs",
    "ort.wasm.min.mjs",
    "ort-wasm-simd-threaded.mjs",
    "ort-wasm-simd-threaded.wasm",
];

/// The folder with the package's files afterwards.
pub(crate) fn set_up(dependencies: &Path) -> Result<PathBuf, String> {
    let target = dependencies.join("onnxruntime-web");
    let complete = |target: &Path| FILES.iter().all(|file| target.join(file).is_file());
    folder::ensure(&target, complete, |staged| {
        for program in ["node", "npm"] {
            if !succeeds(Command::new(program).arg("--version")) {
                return Err(format!(
                    "`{program}` is missing; with Node.js 20 or newer (and npm) on the PATH, exported files are tried in the engine of browsers too"
                ));
            }
        }
        println!("{PACKAGE}: fetching it (33 MB)");
        let packed = output(
            Command::new("npm")
                .args(["pack", "--silent", PACKAGE])
                .current_dir(staged),
        )
        .map_err(|problem| {
            format!("{PACKAGE} could not be fetched from the npm registry: {problem}")
        })?;
        let archive = staged.join(packed.lines().last().unwrap_or_default().trim());
        let inside = FILES.map(|file| format!("package/dist/{file}"));
        output(
            Command::new("tar")
                .arg("-xzf")
                .arg(&archive)
                .args(["--strip-components=2", "-C"])
                .arg(staged)
                .args(inside),
        )
        .map_err(|problem| format!("{} could not be unpacked: {problem}", archive.display()))?;
        fs::remove_file(&archive)
            .map_err(|error| format!("{} cannot be removed: {error}", archive.display()))
    })?;
    Ok(target)
}
