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

    /// `cargo`, in the root, the one that started this program.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
        command.current_dir(&self.root);
        command
    }
}
