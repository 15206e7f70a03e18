//! Where things are.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The checkout this program was built from.
pub(crate) struct Workspace {
    root: PathBuf,
    dependencies: PathBuf,
    programs: PathBuf,
}

impl Workspace {
    pub(crate) fn new() -> Self {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = manifest.parent().unwrap_or(manifest).to_path_buf();
        let dependencies = match std::env::var_os("SELFCLS_DEPS") {
            Some(folder) => std::path::absolute(&folder).unwrap_or_else(|_| folder.into()),
            None => root.join(".deps"),
        };
        // cargo puts the binaries of one target directory and profile side by side.
        let programs = std::env::current_exe()
            .ok()
            .and_then(|program| Some(program.parent()?.to_path_buf()))
            .unwrap_or_else(|| root.join("target/debug"));
        Self {
            root,
            dependencies,
            programs,
        }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The folder for what is not a Rust crate: `.deps`, or `SELFCLS_DEPS`.
    pub(crate) fn dependencies(&self) -> &Path {
        &self.dependencies
    }

    /// The binary under test, once it has been built.
    pub(crate) fn binary(&self) -> PathBuf {
        self.programs
            .join(format!("selfcls-cli{}", std::env::consts::EXE_SUFFIX))
    }

    /// `cargo`, in the root, the one that started this program, in the environment that started it.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
        command.current_dir(&self.root);
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(describes_this_package) {
                command.env_remove(name);
            }
        }
        command
    }
}

/// Whether `cargo run` has set the variable to describe this package. Build scripts of some
/// dependencies (ring) ask to be run again when such a variable changes, and passing them on would
/// build half the tree anew with every change between `cargo xtask` and plain `cargo`.
fn describes_this_package(variable: &str) -> bool {
    const PREFIXES: [&str; 3] = ["CARGO_PKG_", "CARGO_BIN_", "CARGO_MANIFEST_"];
    const NAMES: [&str; 3] = ["CARGO_CRATE_NAME", "CARGO_PRIMARY_PACKAGE", "OUT_DIR"];
    NAMES.contains(&variable) || PREFIXES.iter().any(|prefix| variable.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_describes_this_package_is_kept_from_cargo() {
        for inherited in [
            "CARGO_MANIFEST_DIR",
            "CARGO_PKG_NAME",
            "CARGO_MANIFEST_LINKS",
        ] {
            assert!(describes_this_package(inherited), "{inherited}");
        }
        for settings in [
            "CARGO",
            "CARGO_HOME",
            "CARGO_TARGET_DIR",
            "CARGO_BUILD_JOBS",
            "PATH",
        ] {
            assert!(!describes_this_package(settings), "{settings}");
        }
    }
}
