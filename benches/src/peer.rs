//! Programs in Python that do the same with other libraries, each run in a process of its own.

use crate::Outcome;
use clap::Args;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Which peer to run.
#[derive(Debug, Clone, Args)]
pub struct PeerArgs {
    /// The peer's interpreter, a Python with the packages that benches/README.md names; without it
    /// only ours is measured.
    #[arg(long)]
    pub peer_python: Option<PathBuf>,
    /// A peer's program to be used instead of the one in benches/peers; it takes the same arguments.
    #[arg(long, requires = "peer_python")]
    pub peer_script: Option<PathBuf>,
}

impl PeerArgs {
    /// The peer's command so far, with the program `name` of benches/peers unless another was given;
    /// none without an interpreter.
    pub fn command(&self, name: &str) -> Option<Command> {
        let mut command = Command::new(self.peer_python.as_ref()?);
        match &self.peer_script {
            Some(script) => command.arg(script),
            None => command.arg(
                Path::new(env!("CARGO_MANIFEST_DIR"))
                    .join("peers")
                    .join(name),
            ),
        };
        Some(command)
    }
}

/// Runs `command` and reads the JSON object that it prints last.
///
/// # Errors
/// If it cannot be started, fails, or prints something else; with what it had to say.
pub fn run(command: &mut Command) -> Outcome<Value> {
    let output = command
        .output()
        .map_err(|error| format!("cannot start {command:?}: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().filter(|_| output.status.success());
    let object = last.and_then(|line| serde_json::from_str(line).ok());
    object.ok_or_else(|| {
        let complaint = String::from_utf8_lossy(&output.stderr);
        format!("{command:?} ({}): {complaint}{text}", output.status).into()
    })
}

/// The number under `key`.
///
/// # Errors
/// If there is none.
pub fn figure(object: &Value, key: &str) -> Outcome<f64> {
    object[key]
        .as_f64()
        .ok_or_else(|| format!("`{key}` is not a number in {object}").into())
}
