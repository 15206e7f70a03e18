//! libtorch for CPUs, out of PyTorch's wheels.
//!
//! `torch-sys` can download libtorch from PyTorch's own server; the package index has the advantage
//! that mirrors of it exist nearly everywhere. The wheel for Linux on x86-64 is built with CUDA: its
//! CPU library wants two of CUDA's small libraries, which come from wheels of their own, and the
//! large ones are left behind (487 MB on disk instead of 6.8 GB).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::apt;
use super::folder;
use super::platform::Platform;
use super::python::Python;
use crate::process::succeeds;

/// The version the bindings are made for (`torch-sys` 0.22.0).
const VERSION: &str = "2.9.0";

/// Where libtorch lies afterwards: what `LIBTORCH` should be.
pub(crate) fn set_up(folder: &Path) -> Result<PathBuf, String> {
    need_compiler()?;
    let target = folder.join("libtorch");
    folder::ensure(&target, is_complete, |staged| {
        let platform = Platform::here()?;
        let python = Python::find(folder)?;
        println!("libtorch: fetching {VERSION} ({})", size(platform));
        assemble(platform, &python, staged)
    })?;
    Ok(target)
}

/// The file is written last; `torch-sys` too compares it with the version it wants.
fn is_complete(target: &Path) -> bool {
    fs::read_to_string(target.join("build-version")).is_ok_and(|version| version.trim() == VERSION)
}

fn size(platform: Platform) -> &'static str {
    match platform {
        Platform::LinuxX86 => "900 MB to download, 490 MB to keep",
        Platform::LinuxArm => "100 MB to download, 350 MB to keep",
        Platform::MacArm => "75 MB to download, 270 MB to keep",
    }
}

fn assemble(platform: Platform, python: &Python, target: &Path) -> Result<(), String> {
    let wheels = target.join("wheels");
    let torch = format!("torch=={VERSION}");
    match platform {
        Platform::LinuxX86 => {
            let cupti = ("nvidia-cuda-cupti-cu12", "12.8.90");
            let runtime = ("nvidia-cuda-runtime-cu12", "12.8.90");
            let pinned = |(name, version)| format!("{name}=={version}");
            python.download(&[&torch, &pinned(cupti), &pinned(runtime)], &wheels)?;
            let from_torch = [
                "torch/include/>include/",
                "torch/lib/libtorch_cpu.so>lib/libtorch_cpu.so",
                "torch/lib/libc10.so>lib/libc10.so",
                "torch/lib/libgomp.so.1>lib/libgomp.so.1",
            ];
            python.unpack(&wheels, "torch", target, &from_torch)?;
            let library = "nvidia/cuda_cupti/lib/libcupti.so.12>lib/libcupti.so.12";
            python.unpack(&wheels, cupti.0, target, &[library])?;
            let library = "nvidia/cuda_runtime/lib/libcudart.so.12>lib/libcudart.so.12";
            python.unpack(&wheels, runtime.0, target, &[library])?;
            // The wheel's own libtorch.so pulls in libtorch_cuda; for the linker a script with the
            // name of the one library that is needed does as well.
            write(&target.join("lib/libtorch.so"), "INPUT(libtorch_cpu.so)\n")?;
        }
        // Built for CPUs; the libraries look for the ones they need beside themselves.
        Platform::LinuxArm => {
            python.download(&[&torch], &wheels)?;
            let from_torch = [
                "torch/include/>include/",
                "torch/lib/libtorch.so>lib/libtorch.so",
                "torch/lib/libtorch_cpu.so>lib/libtorch_cpu.so",
                "torch/lib/libc10.so>lib/libc10.so",
                "torch.libs/>lib/",
            ];
            python.unpack(&wheels, "torch", target, &from_torch)?;
        }
        Platform::MacArm => {
            python.download(&[&torch], &wheels)?;
            let from_torch = [
                "torch/include/>include/",
                "torch/lib/libtorch.dylib>lib/libtorch.dylib",
                "torch/lib/libtorch_cpu.dylib>lib/libtorch_cpu.dylib",
                "torch/lib/libc10.dylib>lib/libc10.dylib",
                "torch/lib/libomp.dylib>lib/libomp.dylib",
            ];
            python.unpack(&wheels, "torch", target, &from_torch)?;
        }
    }
    fs::remove_dir_all(&wheels)
        .map_err(|error| format!("{} cannot be removed: {error}", wheels.display()))?;
    write(&target.join("build-version"), &format!("{VERSION}\n"))
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("{} cannot be written: {error}", path.display()))
}

/// The bindings are C++, which a machine set up for Rust need not have.
fn need_compiler() -> Result<(), String> {
    let works = || {
        let named = std::env::var_os("CXX").unwrap_or("c++".into());
        succeeds(Command::new(named).arg("--version"))
    };
    if works() || (apt::install(&["g++"]).is_ok() && works()) {
        return Ok(());
    }
    Err(
        "its bindings need a C++ compiler, and `c++` was not found: install one (on Debian and \
         Ubuntu `apt-get install g++`) and repeat"
            .to_owned(),
    )
}
