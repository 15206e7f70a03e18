//! Python wheels as a source of native libraries: pip finds and checks them, Python unpacks them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{apt, folder};
use crate::process::{output, succeeds};

/// Reads a wheel, which is a zip archive, and writes the files that rules select.
const UNPACK: &str = include_str!("unpack_wheel.py");

/// A Python with pip.
pub(crate) struct Python {
    program: PathBuf,
}

impl Python {
    /// Finds one; where Python has no pip, a private environment in `folder` or the system's
    /// package manager gives it one.
    pub(crate) fn find(folder: &Path) -> Result<Self, String> {
        let has_pip =
            |program: &Path| succeeds(Command::new(program).args(["-m", "pip", "--version"]));
        let system = ["python3", "python"]
            .into_iter()
            .map(PathBuf::from)
            .find(|program| succeeds(Command::new(program).args(["-c", "import sys; assert sys.version_info >= (3, 8)"])))
            .ok_or(
                "Python 3 is needed to fetch it and was not found: install it (on Debian and Ubuntu \
                 `apt-get install python3 python3-pip`) and repeat",
            )?;
        if has_pip(&system) {
            return Ok(Self { program: system });
        }
        let environment = folder.join("python");
        let private = environment.join("bin/python3");
        if has_pip(&private)
            || succeeds(Command::new(&system).args(["-m", "venv"]).arg(&environment))
                && has_pip(&private)
        {
            return Ok(Self { program: private });
        }
        if apt::install(&["python3-pip"]).is_ok() && has_pip(&system) {
            return Ok(Self { program: system });
        }
        Err(
            "this Python has neither pip nor venv, one of which is needed to fetch it: install one \
             (on Debian and Ubuntu `apt-get install python3-pip`) and repeat"
                .to_owned(),
        )
    }

    /// What to start.
    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// Downloads `requirements` (`name==version`) as wheels into `folder`, for CPython 3.11
    /// whatever this Python is: only the native libraries inside are of interest.
    pub(crate) fn download(&self, requirements: &[&str], folder: &Path) -> Result<(), String> {
        let mut pip = Command::new(&self.program);
        pip.args([
            "-m",
            "pip",
            "download",
            "--quiet",
            "--disable-pip-version-check",
        ])
        .args(["--no-deps", "--only-binary=:all:", "--python-version=3.11"])
        .arg("--dest")
        .arg(folder)
        .args(requirements);
        output(&mut pip).map(drop).map_err(|problem| {
            format!(
                "{} could not be downloaded from the Python package index: {problem}. Is there a \
                 network (and, behind a proxy, HTTPS_PROXY or PIP_INDEX_URL)?",
                requirements.join(", ")
            )
        })
    }

    /// Unpacks files of the only wheel of `package` in `wheels` into `target`. A rule
    /// `from>to` takes every file whose name starts with `from`, and puts `to` in its place.
    pub(crate) fn unpack(
        &self,
        wheels: &Path,
        package: &str,
        target: &Path,
        rules: &[&str],
    ) -> Result<(), String> {
        let wheel = find_wheel(wheels, package)?;
        let mut python = Command::new(&self.program);
        python
            .args(["-c", UNPACK])
            .arg(&wheel)
            .arg(target)
            .args(rules);
        output(&mut python)
            .map(drop)
            .map_err(|problem| format!("{} could not be unpacked: {problem}", wheel.display()))
    }
}

/// Makes sure that the folder `target` holds `files`, of which `rules` tell where the wheel of
/// `requirement` (`name==version`) has them; `size` is what has to be fetched, for people.
pub(crate) fn provide(
    target: &Path,
    files: &[&str],
    requirement: &str,
    rules: &[&str],
    size: &str,
) -> Result<(), String> {
    let is_complete = |target: &Path| files.iter().all(|file| target.join(file).is_file());
    folder::ensure(target, is_complete, |staged| {
        let python = Python::find(target.parent().unwrap_or(Path::new(".")))?;
        println!("{requirement}: fetching it ({size})");
        let wheels = staged.join("wheels");
        python.download(&[requirement], &wheels)?;
        let package = requirement.split("==").next().unwrap_or(requirement);
        python.unpack(&wheels, package, staged, rules)?;
        fs::remove_dir_all(&wheels)
            .map_err(|error| format!("{} cannot be removed: {error}", wheels.display()))
    })
}

fn find_wheel(folder: &Path, package: &str) -> Result<PathBuf, String> {
    let prefix = format!("{}-", package.replace('-', "_"));
    let entries = fs::read_dir(folder)
        .map_err(|error| format!("{} cannot be read: {error}", folder.display()))?;
    entries
        .flatten()
        .map(|entry| entry.path())
        .find(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with(&prefix) && name.ends_with(".whl")
        })
        .ok_or_else(|| format!("pip left no wheel of {package} in {}", folder.display()))
}
