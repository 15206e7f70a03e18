//! The binary, and the launchers of others.

use crate::start::{Place, SAMPLES};
use selfcls_core::Config;
use selfcls_tests::{binary, is_of_a_launcher};
use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::path::PathBuf;
use std::process::Command;

/// `selfcls-cli`, or why there is none.
pub(crate) fn selfcls() -> Result<PathBuf, String> {
    binary().ok_or_else(|| "selfcls-cli is not built: cargo build --workspace".to_owned())
}

/// A program to which no launcher speaks that may have started this test, with one thread per process.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(is_of_a_launcher) {
            command.env_remove(name);
        }
    }
    command.envs([("OMP_NUM_THREADS", "1"), ("RAYON_NUM_THREADS", "1")]);
    command
}

/// Sends a signal, by its name without `SIG`, to the process of that number.
pub(crate) fn send_signal(process: impl Display, signal: &str) {
    let sent = Command::new("kill")
        .arg(format!("-{signal}"))
        .arg(process.to_string())
        .status();
    assert!(sent.expect("kill runs").success());
}

/// `torchrun` of a Python that has PyTorch: that of `SELFCLS_PYTHON`, or `python3`.
pub(crate) fn torchrun() -> Result<Command, String> {
    let python = std::env::var_os("SELFCLS_PYTHON").unwrap_or_else(|| "python3".into());
    let import = Command::new(&python)
        .args(["-c", "import torch.distributed.run"])
        .output();
    if !import.is_ok_and(|output| output.status.success()) {
        return Err("no Python with torch: pip install it, or set SELFCLS_PYTHON".to_owned());
    }
    let mut command = command(python);
    command.args(["-m", "torch.distributed.run", "--no-python", "--standalone"]);
    // For its own libraries, not ours.
    command.env_remove("LD_LIBRARY_PATH");
    Ok(command)
}

/// Arguments that train in the folder `run` of `place`.
pub(crate) fn train_in(place: &Place, config: &Config) -> Vec<OsString> {
    let settings = place.path("run.toml");
    std::fs::write(&settings, config.to_toml()).expect("writes");
    let mut arguments: Vec<OsString> = ["train", "--backend", "tch:cpu", "--data"]
        .map(Into::into)
        .into();
    arguments.push(format!("shapes:{SAMPLES}").into());
    arguments.extend(["--config".into(), settings.into()]);
    arguments.extend(["--out".into(), place.path("run").into()]);
    arguments
}
