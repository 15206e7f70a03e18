//! What every package with a binary does for libtorch, and, with the feature `tch`, the C++ halves of the
//! ATen kernels and of the process groups.

#[path = "libtorch/build.rs"]
mod libtorch;

#[cfg(feature = "tch")]
#[path = "nccl.rs"]
mod nccl;

fn main() {
    libtorch::main();
    #[cfg(feature = "tch")]
    cpp::compile();
}

#[cfg(feature = "tch")]
mod cpp {
    use std::env;
    use std::path::{Path, PathBuf};

    use super::nccl::{Nccl, Search};

    const KERNELS: &str = "src/aten/ops.cpp";
    const ALLOCATOR: &str = "src/aten/allocator.h";
    const COPIES: &str = "src/aten/copies.cpp";
    const WAITS: &str = "src/aten/waits.cpp";
    const ATTENTION: &str = "src/aten/dot_product.cpp";
    const GROUPS: &str = "src/distributed/c10d.cpp";
    const GLOO: &str = "src/distributed/gloo_stub";
    /// Compiles [`WAITS`], which only tests call, into a build with NCCL: nobody's program shall fail to build for it.
    const WITH_WAITS: &str = "SELFCLS_BUILD_WAITS";
    /// What all include.
    const GUARDED: &str = "src/guarded.h";

    pub(super) fn compile() {
        println!("cargo::rustc-check-cfg=cfg(waits)");
        for path in [
            KERNELS, ALLOCATOR, COPIES, ATTENTION, WAITS, GROUPS, GLOO, GUARDED, "nccl.rs",
        ] {
            println!("cargo::rerun-if-changed={path}");
        }
        for name in ["LIBTORCH_INCLUDE", "LIBTORCH_CXX11_ABI", WITH_WAITS] {
            println!("cargo::rerun-if-env-changed={name}");
        }
        let Some(include) = include_dir() else {
            fail(
                "libtorch's headers were not found (include/ATen): set LIBTORCH to an unpacked libtorch \
                 (`cargo xtask setup libtorch`), or LIBTORCH_INCLUDE to the folder that holds its `include`",
            );
        };
        build(&include)
            .file(KERNELS)
            .file(COPIES)
            .file(ATTENTION)
            .finish(KERNELS, "selfcls_aten");
        let mut groups = build(&include);
        groups.define("USE_DISTRIBUTED", None);
        groups.define("USE_C10D_GLOO", None);
        groups.include(GLOO);
        match Search::here().find() {
            Nccl::Found(folders) => {
                groups.define("USE_C10D_NCCL", None);
                groups.includes(folders);
                println!("cargo::rustc-link-lib=torch_cuda");
                if env::var_os(WITH_WAITS).is_some_and(|value| value == "1") {
                    groups.file(WAITS);
                    println!("cargo::rustc-cfg=waits");
                    println!("cargo::rustc-link-lib=c10_cuda");
                }
            }
            Nccl::NotMeant => {}
            Nccl::Incomplete(message) => println!("cargo::warning={message}"),
            Nccl::Refused(message) => fail(&message),
        }
        groups.file(GROUPS).finish(GROUPS, "selfcls_c10d");
    }

    fn build(include: &Path) -> cc::Build {
        // As torch-sys: every libtorch since 2.7 is built with it.
        let abi = env::var("LIBTORCH_CXX11_ABI").unwrap_or_else(|_| "1".to_owned());
        let mut build = cc::Build::new();
        build
            .cpp(true)
            .std("c++17")
            .warnings(false)
            // Types of libtorch that both sides see must not be taken for each other's.
            .flag_if_supported("-fvisibility=hidden")
            .include(include)
            .include(include.join("torch/csrc/api/include"))
            .define("_GLIBCXX_USE_CXX11_ABI", abi.as_str());
        build
    }

    trait Finish {
        fn finish(&mut self, source: &str, library: &str);
    }

    impl Finish for cc::Build {
        fn finish(&mut self, source: &str, library: &str) {
            if let Err(error) = self.try_compile(library) {
                fail(&format!(
                    "backends/{source} did not compile: it needs a C++17 compiler (on Debian and Ubuntu \
                     `apt-get install g++`; CXX names another) and the headers of the libtorch that is linked; \
                     {error}"
                ));
            }
        }
    }

    /// Beside the libraries, as in every distribution of libtorch, unless told otherwise.
    fn include_dir() -> Option<PathBuf> {
        let told = env::var_os("LIBTORCH_INCLUDE").map(|root| Path::new(&root).join("include"));
        let beside = env::var_os("DEP_TCH_LIBTORCH_LIB")
            .and_then(|lib| Some(Path::new(&lib).parent()?.join("include")));
        told.into_iter()
            .chain(beside)
            .find(|folder| folder.join("ATen/core/Tensor.h").exists())
    }

    fn fail(reason: &str) -> ! {
        println!("cargo::error=the feature `tch` cannot be built: {reason}");
        std::process::exit(1);
    }
}
