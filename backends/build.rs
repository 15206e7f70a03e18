//! What every package with a binary does for libtorch, and, with the feature `tch`, the C++ half of the
//! ATen kernels.

#[path = "libtorch/build.rs"]
mod libtorch;

fn main() {
    libtorch::main();
    #[cfg(feature = "tch")]
    kernels::compile();
}

#[cfg(feature = "tch")]
mod kernels {
    use std::env;
    use std::path::{Path, PathBuf};

    const SOURCE: &str = "src/aten/ops.cpp";

    pub(super) fn compile() {
        println!("cargo::rerun-if-changed={SOURCE}");
        for name in ["LIBTORCH_INCLUDE", "LIBTORCH_CXX11_ABI"] {
            println!("cargo::rerun-if-env-changed={name}");
        }
        let Some(include) = include_dir() else {
            fail(
                "libtorch's headers were not found (include/ATen): set LIBTORCH to an unpacked libtorch \
                 (`cargo xtask setup libtorch`), or LIBTORCH_INCLUDE to the folder that holds its `include`",
            );
        };
        // As torch-sys: every libtorch since 2.7 is built with it.
        let abi = env::var("LIBTORCH_CXX11_ABI").unwrap_or_else(|_| "1".to_owned());
        let compiled = cc::Build::new()
            .cpp(true)
            .std("c++17")
            .warnings(false)
            .include(include)
            .define("_GLIBCXX_USE_CXX11_ABI", abi.as_str())
            .file(SOURCE)
            .try_compile("selfcls_aten");
        if let Err(error) = compiled {
            fail(&format!(
                "backends/{SOURCE} did not compile: it needs a C++17 compiler (on Debian and Ubuntu \
                 `apt-get install g++`; CXX names another) and the headers of the libtorch that is linked; \
                 {error}"
            ));
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
