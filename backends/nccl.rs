//! Whether processes that each have a GPU can be joined: looks for what NCCL's process group needs to compile.
//!
//! libtorch links NCCL itself; only headers are missing in its distributions. They come with the CUDA
//! toolkit and NCCL, or with the packages that PyTorch for CUDA depends on.

use std::env;
use std::path::{Path, PathBuf};

/// `0` builds without NCCL, `1` refuses to.
const SWITCH: &str = "SELFCLS_NCCL";
/// Folders of headers to look in first, separated as in PATH.
const FOLDERS: &str = "SELFCLS_NCCL_INCLUDE";

/// Headers that must be found, each with where it comes from.
const HEADERS: [(&str, &str); 7] = [
    ("cuda_runtime_api.h", "nvidia-cuda-runtime-cu12"),
    ("crt/host_defines.h", "nvidia-cuda-nvcc-cu12, or triton"),
    ("nv/target", "nvidia-cuda-cccl-cu12"),
    ("cublas_v2.h", "nvidia-cublas-cu12"),
    ("cusparse.h", "nvidia-cusparse-cu12"),
    ("cusolverDn.h", "nvidia-cusolver-cu12"),
    ("nccl.h", "nvidia-nccl-cu12"),
];

/// What was found.
pub(crate) enum Nccl {
    /// Everything, in these folders.
    Found(Vec<PathBuf>),
    /// libtorch is one for CPUs, or NCCL was declined.
    NotMeant,
    /// Not everything, says the message.
    Incomplete(String),
    /// As `Incomplete`, but NCCL was insisted on.
    Refused(String),
}

pub(crate) fn find() -> Nccl {
    for name in [SWITCH, FOLDERS, "CUDA_HOME"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    let switch = env::var(SWITCH).unwrap_or_default();
    if switch == "0" {
        return Nccl::NotMeant;
    }
    let insisted = switch == "1";
    let lib = env::var_os("DEP_TCH_LIBTORCH_LIB").map(PathBuf::from);
    let lib = lib.unwrap_or_default();
    if !lib.join("libtorch_cuda.so").exists() {
        return match insisted {
            true => Nccl::Refused(format!(
                "{SWITCH}=1, but {} holds no libtorch_cuda.so: NCCL needs a libtorch with CUDA",
                lib.display()
            )),
            false => Nccl::NotMeant,
        };
    }
    let folders = folders(&lib);
    // The compiler looks there by itself; named again, its own folders would come in another order.
    let known = PathBuf::from("/usr/include");
    let somewhere = |header: &str| {
        let mut places = folders.iter().chain([&known]);
        places.any(|folder| folder.join(header).exists())
    };
    let missing: Vec<&(&str, &str)> = HEADERS
        .iter()
        .filter(|(header, _)| !somewhere(header))
        .collect();
    if missing.is_empty() {
        return Nccl::Found(folders);
    }
    let headers: Vec<&str> = missing.iter().map(|(header, _)| *header).collect();
    let packages: Vec<&str> = missing.iter().map(|(_, package)| *package).collect();
    let message = format!(
        "built without NCCL, so processes with a GPU each cannot train together: {} not found. They come with the CUDA \
         toolkit (CUDA_HOME) and NCCL (libnccl-dev), or by `pip install {}`; {FOLDERS} names more folders to look \
         in, {SWITCH}=0 silences this message",
        headers.join(", "),
        packages.join(" ")
    );
    match insisted {
        true => Nccl::Refused(message),
        false => Nccl::Incomplete(message),
    }
}

/// Where headers may be: named folders, the toolkit, and the packages beside an installed PyTorch.
fn folders(lib: &Path) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = env::var_os(FOLDERS)
        .map(|paths| env::split_paths(&paths).collect())
        .unwrap_or_default();
    let home = env::var_os("CUDA_HOME").map(PathBuf::from);
    for root in home.into_iter().chain([PathBuf::from("/usr/local/cuda")]) {
        folders.push(root.join("include"));
        folders.push(root.join("include/cccl"));
    }
    // <site-packages>/torch/lib
    if let Some(site) = lib.parent().and_then(Path::parent) {
        for package in [
            "cuda_runtime",
            "cuda_nvcc",
            "cuda_cccl",
            "cublas",
            "cusparse",
            "cusolver",
            "nccl",
        ] {
            folders.push(site.join("nvidia").join(package).join("include"));
        }
        folders.push(site.join("nvidia/cu13/include"));
        folders.push(site.join("triton/backends/nvidia/include"));
    }
    folders.retain(|folder| folder.is_dir());
    folders
}
