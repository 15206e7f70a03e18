//! The whole suite, with one feature set and in one target directory.

use std::process::Command;

use crate::process::{colour, shown, watched};
use crate::setup::{self, Ready};
use crate::summary::Summary;
use crate::workspace::Workspace;

/// Sets up what this machine can have, builds everything once, runs every test. Returns what was
/// set up.
pub(crate) fn everything(workspace: &Workspace, filters: &[&str], summary: &mut Summary) -> Ready {
    let ready = setup::for_tests(workspace, summary);
    build_and_test(workspace, &ready, filters, summary);
    ready
}

/// Builds and tests flex and tract only; fetches nothing.
pub(crate) fn fast(workspace: &Workspace, filters: &[&str], summary: &mut Summary) {
    let why = "left out by --fast";
    for what in [
        "ndarray",
        "wgpu",
        "tch",
        "ONNX Runtime",
        "the page in examples/web",
        "ONNX Runtime for the web",
        "ONNX Runtime with OpenVINO",
        "ONNX's own checks and Python programs",
    ] {
        summary.not_run(what, why);
    }
    build_and_test(workspace, &Ready::default(), filters, summary);
}

fn build_and_test(workspace: &Workspace, ready: &Ready, filters: &[&str], summary: &mut Summary) {
    let prepare = |subcommand: &str| {
        let mut command = workspace.cargo();
        command.args([subcommand, colour(), "--workspace"]);
        add_features(&mut command, &ready.features());
        ready.set_environment(workspace, &mut command);
        command
    };
    // Binaries and tests in one go: asked for separately, cargo may settle on other features for a
    // shared dependency and build it, and all that depends on it, a second time.
    let built = summary.part("build", |_| {
        shown(prepare("build").args(["--bins", "--tests"]))
    });
    if !built {
        return;
    }
    summary.part("tests", |summary| {
        let mut command = prepare("test");
        command.env("SELFCLS_BIN", workspace.binary());
        command.arg("--no-fail-fast").arg("--").args(filters);
        watched(&mut command, |line| summary.read_test_output(line))
    });
}

/// Adds `--features a,b`, or nothing.
pub(crate) fn add_features(command: &mut Command, features: &[String]) {
    if !features.is_empty() {
        command.arg(format!("--features={}", features.join(",")));
    }
}
