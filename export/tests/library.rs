//! What happens when ONNX Runtime's library is missing, foreign, damaged or too old: an error that says
//! what to do, and never a panic. The libraries are built here, with the compiler that built the test.

mod support;

use selfcls_export::inference::Library;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Compiles `source` as a shared library called as ONNX Runtime's; `None` where there is no compiler.
fn library(folder: &Path, source: &str) -> Option<PathBuf> {
    let code = folder.join("fake.rs");
    std::fs::write(&code, source).expect("written");
    let file = format!(
        "{}onnxruntime{}",
        std::env::consts::DLL_PREFIX,
        std::env::consts::DLL_SUFFIX
    );
    let path = folder.join(file);
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let done = Command::new(compiler)
        .args([
            "--edition",
            "2024",
            "--crate-type",
            "cdylib",
            "-C",
            "panic=abort",
            "-o",
        ])
        .arg(&path)
        .arg(&code)
        .output();
    match done {
        Ok(output) if output.status.success() => Some(path),
        Ok(output) => panic!("{}", String::from_utf8_lossy(&output.stderr)),
        Err(_) => None,
    }
}

/// The interface of a library that calls itself `version` and offers no function table.
fn interface(version: &str) -> String {
    format!(
        r#"
        use std::ffi::{{c_char, c_void}};
        #[repr(C)]
        pub struct Base(extern "C" fn(u32) -> *const c_void, extern "C" fn() -> *const c_char);
        extern "C" fn get_api(_: u32) -> *const c_void {{ std::ptr::null() }}
        extern "C" fn get_version() -> *const c_char {{ c"{version}".as_ptr() }}
        static BASE: Base = Base(get_api, get_version);
        #[unsafe(no_mangle)]
        pub extern "C" fn OrtGetApiBase() -> *const Base {{ &BASE }}
        "#
    )
}

#[test]
fn libraries_that_cannot_serve() {
    let empty = r#"
        #[unsafe(no_mangle)]
        pub extern "C" fn OrtGetApiBase() -> *const u8 { std::ptr::null() }
    "#;
    let foreign = r#"#[unsafe(no_mangle)] pub extern "C" fn unrelated() {}"#;
    for (source, said) in [
        (foreign.to_owned(), "does not export OrtGetApiBase"),
        (empty.to_owned(), "gives nothing"),
        (
            interface("1.17.3"),
            "is version 1.17.3, and 1.21 or a newer 1.x is needed",
        ),
        (interface("2.0.0"), "is version 2.0.0"),
        (interface("nonsense"), "is version nonsense"),
        // New by name, but without the interface.
        (interface("1.99.0"), "is version 1.99.0"),
    ] {
        let folder = tempfile::tempdir().expect("temporary folder");
        let Some(path) = library(folder.path(), &source) else {
            return support::not_run("library::libraries_that_cannot_serve", "no rustc");
        };
        let message = Library::check(&path).expect_err("refused").to_string();
        assert!(message.contains(said), "{said:?} is not in: {message}");
        assert!(message.contains("ORT_DYLIB_PATH"), "{message}");
    }
}

#[test]
fn the_real_library_is_accepted() {
    let Some(path) = support::onnxruntime() else {
        return support::not_run(
            "library::the_real_library_is_accepted",
            "no ONNX Runtime library (set ORT_DYLIB_PATH)",
        );
    };
    let library = Library::check(&path).expect("accepted");
    assert!(library.path.is_absolute());
    assert!(library.version.starts_with("1."), "{library:?}");
}
