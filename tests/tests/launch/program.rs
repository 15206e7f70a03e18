//! The binary, and the launchers of others.

use selfcls_tests::binary;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// Variables of launchers, none of which a test may inherit.
const LAUNCHERS: [&str; 9] = [
    "RANK",
    "WORLD_SIZE",
    "LOCAL_RANK",
    "LOCAL_WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
    "SLURM_STEP_ID",
    "SLURM_PROCID",
    "SELFCLS_LAUNCH",
];

/// `selfcls-cli`, or why there is none.
pub(crate) fn selfcls() -> Result<PathBuf, String> {
    binary().ok_or_else(|| "selfcls-cli is not built: cargo build --workspace".to_owned())
}

/// A program in a clean environment, with one thread per process.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for name in LAUNCHERS {
        command.env_remove(name);
    }
    command.envs([("OMP_NUM_THREADS", "1"), ("RAYON_NUM_THREADS", "1")]);
    command
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

/// What a program said, and how it ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) took: Duration,
}

impl Ran {
    pub(crate) fn of(command: &mut Command) -> Self {
        let start = Instant::now();
        let output = command.output().expect("starts");
        Self::ended(output, start.elapsed())
    }

    pub(crate) fn ended(output: Output, took: Duration) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            took,
        }
    }

    /// Exit code 0.
    #[track_caller]
    pub(crate) fn succeeded(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self
    }
}
