//! npm's registry as a source of modules: `npm pack` finds and checks them, tar unpacks them.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::folder;
use crate::process::{output, succeeds};

/// Makes sure that the folder `target` holds `files`, out of the folder `inside` of `package` (`name@version`);
/// `size` is what has to be fetched, and `purpose` what for, for people.
pub(crate) fn provide(
    target: &Path,
    package: &str,
    inside: &str,
    files: &[&str],
    size: &str,
    purpose: &str,
) -> Result<(), String> {
    let complete = |target: &Path| files.iter().all(|file| target.join(file).exists());
    folder::ensure(target, complete, |staged| {
        for program in ["node", "npm"] {
            if !succeeds(Command::new(program).arg("--version")) {
                return Err(format!(
                    "`{program}` is missing; with Node.js 20 or newer (and npm) on the PATH, {purpose}"
                ));
            }
        }
        println!("{package}: fetching it ({size})");
        let packed = output(
            Command::new("npm")
                .args(["pack", "--silent", package])
                .current_dir(staged),
        )
        .map_err(|problem| {
            format!("{package} could not be fetched from the npm registry: {problem}")
        })?;
        let archive = staged.join(packed.lines().last().unwrap_or_default().trim());
        let depth = inside.split('/').count();
        let wanted = files.iter().map(|file| format!("{inside}/{file}"));
        output(
            Command::new("tar")
                .arg("-xzf")
                .arg(&archive)
                .arg(format!("--strip-components={depth}"))
                .arg("-C")
                .arg(staged)
                .args(wanted),
        )
        .map_err(|problem| format!("{} could not be unpacked: {problem}", archive.display()))?;
        fs::remove_file(&archive)
            .map_err(|error| format!("{} cannot be removed: {error}", archive.display()))
    })
}
