//! Python packages that tests hold exported files against, in an environment of their own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::folder;
use super::python::Python;
use crate::process::output;

const PACKAGES: [&str; 4] = ["numpy", "onnx==1.23.2", "onnxruntime==1.31.1", "pillow"];

/// The Python that has them afterwards. It sees what is installed beside it, such as PyTorch, too.
pub(crate) fn set_up(dependencies: &Path) -> Result<PathBuf, String> {
    let target = dependencies.join("python-packages");
    let wanted = PACKAGES.join("\n");
    // Written last.
    let complete = |target: &Path| {
        fs::read_to_string(target.join("packages")).is_ok_and(|found| found == wanted)
    };
    folder::ensure(&target, complete, |staged| {
        let python = Python::find(dependencies)?;
        println!("{}: fetching them (60 MB)", PACKAGES.join(", "));
        let mut venv = Command::new(python.program());
        venv.args(["-m", "venv", "--system-site-packages"]);
        output(venv.arg(staged)).map_err(|problem| {
            format!(
                "this Python makes no environments ({problem}): install venv (on Debian and Ubuntu \
                 `apt-get install python3-venv`), or name a Python with {} in SELFCLS_PYTHON",
                PACKAGES.join(", ")
            )
        })?;
        let mut pip = Command::new(staged.join("bin/python3"));
        pip.args(["-m", "pip", "install", "--quiet"]);
        pip.args(["--disable-pip-version-check", "--only-binary=:all:"]);
        output(pip.args(PACKAGES)).map_err(|problem| {
            format!(
                "{} could not be installed from the Python package index: {problem}",
                PACKAGES.join(", ")
            )
        })?;
        fs::write(staged.join("packages"), &wanted)
            .map_err(|error| format!("{} cannot be written: {error}", staged.display()))
    })?;
    Ok(target.join("bin/python3"))
}
