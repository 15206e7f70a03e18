//! A browser and what drives it, for the page in `examples/web`: Chromium, and playwright-core from npm.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{apt, npm};
use crate::process::succeeds;

const PACKAGE: &str = "playwright-core@1.56.1";
const FILES: [&str; 6] = [
    "package.json",
    "browsers.json",
    "index.js",
    "index.mjs",
    "lib",
    "LICENSE",
];

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
    let purpose = "the page in examples/web is tried in a browser";
    npm::provide(&target, PACKAGE, "package", &FILES, "2 MB", purpose)?;
    Ok(target)
}
