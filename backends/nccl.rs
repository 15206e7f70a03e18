//! Whether processes that each have a GPU can be joined: looks for what NCCL's process group needs to compile.
//!
//! libtorch links NCCL itself; only headers are missing in its distributions. They come with the CUDA
//! toolkit and NCCL, or with the packages that PyTorch for CUDA depends on.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// `0` builds without NCCL, `1` refuses to.
const SWITCH: &str = "SELFCLS_NCCL";
/// Folders of headers to look in first, separated as in PATH.
const FOLDERS: &str = "SELFCLS_NCCL_INCLUDE";
/// The CUDA toolkit.
const TOOLKIT: &str = "CUDA_HOME";

/// Headers that must be found, each with the packages that it comes from for CUDA 12 and later.
const HEADERS: [(&str, &str, &str); 7] = [
    (
        "cuda_runtime_api.h",
        "nvidia-cuda-runtime-cu12",
        "nvidia-cuda-runtime",
    ),
    (
        "crt/host_defines.h",
        "nvidia-cuda-nvcc-cu12",
        "nvidia-cuda-crt",
    ),
    ("nv/target", "nvidia-cuda-cccl-cu12", "nvidia-cuda-cccl"),
    ("cublas_v2.h", "nvidia-cublas-cu12", "nvidia-cublas"),
    ("cusparse.h", "nvidia-cusparse-cu12", "nvidia-cusparse"),
    ("cusolverDn.h", "nvidia-cusolver-cu12", "nvidia-cusolver"),
    ("nccl.h", "nvidia-nccl-cu12", "nvidia-nccl-cu13"),
];

/// What was found.
#[derive(Debug, PartialEq, Eq)]
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

/// Where to look, and what was asked for.
#[derive(Debug, Default)]
pub(crate) struct Search {
    /// The folder of libtorch's libraries.
    pub(crate) lib: PathBuf,
    /// [`SWITCH`].
    pub(crate) switch: String,
    /// [`FOLDERS`].
    pub(crate) named: Option<OsString>,
    /// [`TOOLKIT`], and where it is otherwise.
    pub(crate) toolkits: Vec<PathBuf>,
    /// Where the compiler looks by itself.
    pub(crate) system: PathBuf,
}

impl Search {
    /// On this machine, as its environment says.
    pub(crate) fn here() -> Self {
        for name in [SWITCH, FOLDERS, TOOLKIT] {
            println!("cargo::rerun-if-env-changed={name}");
        }
        let lib = env::var_os("DEP_TCH_LIBTORCH_LIB").map(PathBuf::from);
        let home = env::var_os(TOOLKIT).map(PathBuf::from);
        Self {
            lib: lib.unwrap_or_default(),
            switch: env::var(SWITCH).unwrap_or_default(),
            named: env::var_os(FOLDERS),
            toolkits: home.into_iter().chain(["/usr/local/cuda".into()]).collect(),
            system: "/usr/include".into(),
        }
    }

    pub(crate) fn find(&self) -> Nccl {
        if self.switch == "0" {
            return Nccl::NotMeant;
        }
        let insisted = self.switch == "1";
        if !self.lib.join("libtorch_cuda.so").exists() {
            return match insisted {
                true => Nccl::Refused(format!(
                    "{SWITCH}=1, but {} holds no libtorch_cuda.so: NCCL needs a libtorch with CUDA",
                    self.lib.display()
                )),
                false => Nccl::NotMeant,
            };
        }
        let folders = self.folders();
        // Not among the folders: named again, the compiler's own would come in another order.
        let somewhere = |header: &str| {
            let mut places = folders.iter().chain([&self.system]);
            places.any(|folder| folder.join(header).exists())
        };
        let missing = HEADERS.iter().filter(|(header, ..)| !somewhere(header));
        let (mut headers, mut packages) = (Vec::new(), Vec::new());
        for (header, cuda_12, later) in missing {
            headers.push(*header);
            packages.push(if self.is_cuda_12() { *cuda_12 } else { *later });
        }
        if headers.is_empty() {
            return Nccl::Found(folders);
        }
        let message = format!(
            "built without NCCL, so processes with a GPU each cannot train together: {} not found. They come with the CUDA \
             toolkit ({TOOLKIT}) and NCCL (libnccl-dev), or by `pip install {}`; {FOLDERS} names more folders to look \
             in, {SWITCH}=0 silences this message",
            headers.join(", "),
            packages.join(" ")
        );
        match insisted {
            true => Nccl::Refused(message),
            false => Nccl::Incomplete(message),
        }
    }

    /// Where headers may be: named folders, the packages beside an installed PyTorch, and the toolkit. In this order, for
    /// libtorch was compiled with what its packages hold, and a machine's own NCCL may be of any version.
    fn folders(&self) -> Vec<PathBuf> {
        let mut folders: Vec<PathBuf> = self
            .named
            .as_ref()
            .map(|paths| env::split_paths(paths).collect())
            .unwrap_or_default();
        // <site-packages>/torch/lib
        if let Some(site) = self.lib.parent().and_then(Path::parent) {
            for package in [
                "nccl",
                "cuda_runtime",
                "cuda_nvcc",
                "cuda_cccl",
                "cublas",
                "cusparse",
                "cusolver",
            ] {
                folders.push(site.join("nvidia").join(package).join("include"));
            }
            folders.push(site.join("nvidia/cu13/include"));
            folders.push(site.join("triton/backends/nvidia/include"));
        }
        for root in &self.toolkits {
            folders.push(root.join("include"));
            folders.push(root.join("include/cccl"));
        }
        folders.retain(|folder| folder.is_dir());
        folders
    }

    /// Of which CUDA the libtorch is: its packages' names depend on it. One that does not say is taken for the
    /// later.
    fn is_cuda_12(&self) -> bool {
        let read = |name: &str| {
            let root = self.lib.parent()?;
            std::fs::read_to_string(root.join(name)).ok()
        };
        ["version.py", "build-version"]
            .iter()
            .filter_map(|name| read(name))
            .any(|text| text.contains("+cu12"))
    }
}
