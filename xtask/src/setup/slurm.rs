//! Slurm, of which a test runs two nodes on this machine.

use std::env;
use std::path::PathBuf;

use super::apt;

/// What the test starts and calls.
const PROGRAMS: [&str; 6] = [
    "munged",
    "slurmctld",
    "slurmd",
    "srun",
    "sbatch",
    "scontrol",
];

/// Makes sure its programs are there.
pub(crate) fn set_up() -> Result<String, String> {
    if cfg!(not(target_os = "linux")) {
        return Err("Slurm's daemons run on Linux".to_owned());
    }
    if missing().is_empty() {
        return Ok("ready".to_owned());
    }
    apt::install(&["slurmctld", "slurmd", "slurm-client", "munge"]).map_err(|reason| {
        format!(
            "{} not found, and nothing was installed ({reason}): as root, on Debian and Ubuntu `apt-get install \
             --no-install-recommends slurmctld slurmd slurm-client munge`",
            missing().join(", ")
        )
    })?;
    match missing().as_slice() {
        [] => Ok("ready".to_owned()),
        missing => Err(format!(
            "it was installed, but {} is not found",
            missing.join(", ")
        )),
    }
}

/// The programs that are not in PATH, nor where system daemons are.
fn missing() -> Vec<&'static str> {
    let paths = env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = env::split_paths(&paths).collect();
    folders.push("/usr/sbin".into());
    let is_there = |program: &&str| folders.iter().any(|folder| folder.join(program).is_file());
    PROGRAMS
        .into_iter()
        .filter(|program| !is_there(program))
        .collect()
}
