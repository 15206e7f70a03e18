//! Libraries for `LD_PRELOAD`, which do something before or after a program's own code.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The library `NAME.so` in `folder`, made of the C code `text`.
///
/// # Panics
/// If it cannot be made.
pub fn preloaded(folder: &Path, name: &str, text: &str) -> PathBuf {
    let [source, library] = ["c", "so"].map(|ending| folder.join(format!("{name}.{ending}")));
    std::fs::write(&source, text).expect("writes");
    let mut compiler = Command::new("cc");
    compiler
        .args(["-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(&source);
    assert!(compiler.status().expect("cargo links with it").success());
    library
}
