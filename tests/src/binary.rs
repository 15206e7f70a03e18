//! The binary under test.

use std::path::PathBuf;

/// The `selfcls-cli` that belongs to this build: `SELFCLS_BIN` where that is set (as
/// `cargo xtask test` does), otherwise the one beside the test, if it has been built.
pub fn binary() -> Option<PathBuf> {
    let named = std::env::var_os("SELFCLS_BIN").map(PathBuf::from);
    let path = named.or_else(|| {
        // <target>/<profile>/deps/<test>
        let test = std::env::current_exe().ok()?;
        let name = format!("selfcls-cli{}", std::env::consts::EXE_SUFFIX);
        Some(test.parent()?.parent()?.join(name))
    })?;
    path.is_file().then_some(path)
}
