//! What the build script makes of a machine's headers.

use std::fs;
use std::path::Path;

use crate::nccl::{Nccl, Search};

/// An empty file with the folders that it lies in.
fn put(root: &Path, file: &str) {
    let path = root.join(file);
    fs::create_dir_all(path.parent().expect("a folder")).expect("creates");
    fs::write(path, "").expect("writes");
}

/// A PyTorch for CUDA `version` in `root`, with the packages that come with it.
fn pytorch(root: &Path, version: &str) -> Search {
    put(root, "torch/lib/libtorch_cuda.so");
    let module = format!("__version__ = '2.11.0+{version}'\n");
    fs::write(root.join("torch/version.py"), module).expect("writes");
    for header in [
        "cuda_runtime_api.h",
        "cublas_v2.h",
        "cusparse.h",
        "cusolverDn.h",
    ] {
        put(root, &format!("nvidia/cu13/include/{header}"));
    }
    put(root, "nvidia/nccl/include/nccl.h");
    Search {
        lib: root.join("torch/lib"),
        toolkits: vec![root.join("cuda")],
        system: root.join("usr/include"),
        ..Search::default()
    }
}

fn message(found: Nccl) -> String {
    match found {
        Nccl::Incomplete(message) | Nccl::Refused(message) => message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_missing_is_named_with_the_packages_of_the_same_cuda() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut search = pytorch(folder.path(), "cu130");
    let text = message(search.find());
    assert!(
        text.contains("crt/host_defines.h, nv/target not found"),
        "{text}"
    );
    assert!(
        text.contains("`pip install nvidia-cuda-crt nvidia-cuda-cccl`"),
        "{text}"
    );
    search.switch = "1".into();
    assert!(matches!(search.find(), Nccl::Refused(_)));
    search.switch = "0".into();
    assert_eq!(search.find(), Nccl::NotMeant);
    let folder = tempfile::tempdir().expect("a folder");
    let text = message(pytorch(folder.path(), "cu128").find());
    assert!(
        text.contains("nvidia-cuda-nvcc-cu12 nvidia-cuda-cccl-cu12"),
        "{text}"
    );
}

/// A toolkit's NCCL may be another than the one that libtorch was compiled with.
#[test]
fn headers_beside_libtorch_come_before_those_of_the_machine() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    let mut search = pytorch(root, "cu130");
    for header in ["nccl.h", "crt/host_defines.h", "cccl/nv/target"] {
        put(root, &format!("cuda/include/{header}"));
    }
    put(root, "mine/nccl.h");
    let place = |search: &Search, name: &str| {
        let Nccl::Found(folders) = search.find() else {
            panic!("not found");
        };
        let place = folders.iter().position(|folder| *folder == root.join(name));
        place.expect("among the folders")
    };
    let (beside, toolkit) = ("nvidia/nccl/include", "cuda/include");
    assert!(place(&search, beside) < place(&search, toolkit));
    search.named = Some(root.join("mine").into());
    assert_eq!(place(&search, "mine"), 0);
}

#[test]
fn a_libtorch_for_cpus_needs_none() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut search = Search {
        lib: folder.path().into(),
        ..Search::default()
    };
    assert_eq!(search.find(), Nccl::NotMeant);
    search.switch = "1".into();
    assert!(message(search.find()).contains("no libtorch_cuda.so"));
}
