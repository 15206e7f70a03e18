//! Passes on where libtorch lies, when the feature `tch` is on.
//!
//! `torch-sys` links its libraries but leaves the run-time search path to whoever makes the binary,
//! and cargo applies a link argument only to the package whose build script prints it. So every
//! package of the workspace with a binary, a test or a benchmark runs this script:
//! `build = "../backends/libtorch/build.rs"` in its manifest.

use std::env;
use std::path::Path;

pub(crate) fn main() {
    // Relative to the package that runs it; a path that does not exist would count as changed.
    println!("cargo::rerun-if-changed=../backends/libtorch/build.rs");
    println!("cargo::rustc-check-cfg=cfg(libtorch_gpu)");
    // Set by `torch-sys` (`links = "tch"`) for the packages that depend on it directly.
    println!("cargo::rerun-if-env-changed=DEP_TCH_LIBTORCH_LIB");
    let Some(lib) = env::var_os("DEP_TCH_LIBTORCH_LIB") else {
        return;
    };
    let lib = Path::new(&lib);

    if env::var("CARGO_CFG_TARGET_FAMILY").is_ok_and(|family| family == "unix") {
        println!("cargo::rustc-link-arg=-Wl,-rpath,{}", lib.display());
    }

    // burn-tch decides at build time whether it knows a GPU, and panics on `cuda` if it does not:
    // the same question asked here lets `open` refuse with an explanation instead.
    let gpu_libraries = ["libtorch_cuda.so", "libtorch_hip.so", "torch_cuda.dll"];
    if gpu_libraries.iter().any(|name| lib.join(name).exists()) {
        println!("cargo::rustc-cfg=libtorch_gpu");
    }

    if let Some(version) = lib.parent().and_then(version) {
        println!("cargo::rustc-env=SELFCLS_LIBTORCH_VERSION={version}");
    }
}

/// The version of the libtorch or PyTorch in `root`: the first has a file for it, the second a module with a line
/// `__version__ = '2.9.0+cu128'`.
fn version(root: &Path) -> Option<String> {
    if let Ok(text) = std::fs::read_to_string(root.join("build-version")) {
        return Some(text.trim().to_owned());
    }
    let module = std::fs::read_to_string(root.join("version.py")).ok()?;
    let line = module
        .lines()
        .find(|line| line.starts_with("__version__"))?;
    let value = line.split('=').nth(1)?.trim();
    Some(value.trim_matches(['\'', '"']).to_owned())
}
