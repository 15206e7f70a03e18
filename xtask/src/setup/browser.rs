//! A browser and what drives it, for the page in `examples/web`: Chromium, and playwright-core from npm.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{apt, folder};
use crate::process::{output, succeeds};

const PACKAGE: &str = "playwright-core@1.56.1";

/// What the program may be called.
const NAMES: [&str; 4] = [
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
];

/// Where Chromium is afterwards.
pub(crate) fn chromium() -> Result<PathBuf, String> {
    if let Some(program) = found() {
        return Ok(program);
    }
    apt::install(&["chromium"]).map_err(|reason| {
        format!(
            "no Chromium was found, and none was installed ({reason}): install it or Chrome (as root, on \
             Debian `apt-get install chromium`), or name one in SELFCLS_CHROMIUM"
        )
    })?;
    found().ok_or_else(|| "Chromium was installed but is not on the PATH".to_owned())
}

fn found() -> Option<PathBuf> {
    let folders = env::var_os("PATH")?;
    let programs = env::split_paths(&folders)
        .flat_map(|folder| NAMES.map(|name| folder.join(name)))
        .filter(|program| program.is_file());
    // Ubuntu's is a note that it comes as a snap.
    programs
        .into_iter()
        .find(|program| succeeds(Command::new(program).arg("--version")))
}

/// The folder of the package afterwards.
pub(crate) fn playwright(dependencies: &Path) -> Result<PathBuf, String> {
    let target = dependencies.join("playwright-core");
    let complete = |target: &Path| target.join("index.mjs").is_file();
    folder::ensure(&target, complete, |staged| {
        for program in ["node", "npm"] {
            if !succeeds(Command::new(program).arg("--version")) {
                return Err(format!(
                    "`{program}` is missing; with Node.js 20 or newer (and npm) on the PATH, the page in examples/web is tried in a browser"
                ));
            }
        }
        println!("{PACKAGE}: fetching it (2 MB)");
        let packed = output(
            Command::new("npm")
                .args(["pack", "--silent", PACKAGE])
                .current_dir(staged),
        )
        .map_err(|problem| {
            format!("{PACKAGE} could not be fetched from the npm registry: {problem}")
        })?;
        let archive = staged.join(packed.lines().last().unwrap_or_default().trim());
        output(
            Command::new("tar")
                .arg("-xzf")
                .arg(&archive)
                .args(["--strip-components=1", "-C"])
                .arg(staged),
        )
        .map_err(|problem| format!("{} could not be unpacked: {problem}", archive.display()))?;
        fs::remove_file(&archive)
            .map_err(|error| format!("{} cannot be removed: {error}", archive.display()))
    })?;
    Ok(target)
}
