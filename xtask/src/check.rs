//! What is checked beside the tests.

use std::process::Command;

use crate::process::{colour, output, shown};
use crate::setup::{self, Ready};
use crate::summary::Summary;
use crate::test::add_features;
use crate::workspace::Workspace;

/// The checks that build nothing of ours.
pub(crate) fn cheap(workspace: &Workspace, summary: &mut Summary) {
    summary.part("formatting", |_| {
        let importer = "--manifest-path=tests/importer/Cargo.toml";
        shown(workspace.cargo().args(["fmt", "--all", "--check"]))
            && shown(workspace.cargo().args(["fmt", "--check", importer]))
    });
    summary.part("boundaries", |_| {
        BOUNDARIES
            .iter()
            .fold(true, |held, boundary| match boundary.crossings(workspace) {
                Ok(crossings) if crossings.is_empty() => {
                    println!("{}", boundary.rule);
                    held
                }
                Ok(crossings) => {
                    eprintln!(
                        "error: broken: {}: found {}",
                        boundary.rule,
                        crossings.join(", ")
                    );
                    false
                }
                Err(problem) => {
                    eprintln!("error: {}: {problem}", boundary.rule);
                    false
                }
            })
    });
    match setup::cargo_deny(workspace.dependencies()) {
        Ok(program) => {
            summary.part("licences", |_| {
                ["Cargo.toml", "tests/importer/Cargo.toml"]
                    .iter()
                    .all(|manifest| {
                        let mut deny = Command::new(&program);
                        deny.current_dir(workspace.root());
                        deny.args(["--manifest-path", manifest, "check"]);
                        // One list for both: not every package meets each of its licences.
                        for unmet in [
                            "license-not-encountered",
                            "license-exception-not-encountered",
                        ] {
                            deny.args(["--allow", unmet]);
                        }
                        shown(deny.args(["licenses", "bans", "sources"]))
                    })
            });
        }
        Err(problem) => summary.not_run("licences of dependencies", &problem),
    }
}

/// clippy and rustdoc, on all features and targets that can be built here. They share what they
/// need of the dependencies (their metadata), but cannot use what the tests have built.
pub(crate) fn thorough(workspace: &Workspace, ready: &Ready, summary: &mut Summary) {
    let features = ready.all_features();
    let prepare = |arguments: &[&str]| {
        let mut command: Command = workspace.cargo();
        command.args(arguments).args([colour(), "--workspace"]);
        add_features(&mut command, &features);
        ready.set_environment(workspace, &mut command);
        command
    };
    summary.part("clippy", |_| {
        let mut command = prepare(&["clippy"]);
        shown(command.args(["--all-targets", "--", "-D", "warnings"]))
    });
    summary.part("each engine alone", |_| {
        ENGINES.iter().all(|engine| {
            let mut command = workspace.cargo();
            command.args(["clippy", colour(), "-p", "selfcls-export"]);
            command.args(["--no-default-features", "--features", engine]);
            shown(command.args(["--", "-D", "warnings"]))
        })
    });
    summary.part("documentation", |_| {
        let mut command = prepare(&["doc", "--no-deps"]);
        shown(command.env("RUSTDOCFLAGS", "-D warnings"))
    });
}

/// Features of `selfcls-export` that are each enough for an application. Without the workspace around them their few
/// dependencies are built otherwise, once more.
const ENGINES: [&str; 2] = ["onnxruntime", "tract"];

/// Crates that a package must not depend on, not even indirectly.
struct Boundary {
    rule: &'static str,
    /// Arguments of `cargo tree`.
    package: &'static [&'static str],
    forbidden: fn(&str) -> bool,
}

const BOUNDARIES: [Boundary; 5] = [
    Boundary {
        rule: "inference with an exported classifier needs no burn",
        package: &[
            "-p",
            "selfcls-export",
            "--no-default-features",
            "--features",
            "inference",
        ],
        forbidden: is_burn,
    },
    Boundary {
        rule: "inference with ONNX Runtime alone needs no tract",
        package: &[
            "-p",
            "selfcls-export",
            "--no-default-features",
            "--features",
            "onnxruntime",
        ],
        forbidden: |name| is_burn(name) || name.starts_with("tract-"),
    },
    Boundary {
        rule: "inference with tract alone needs no ONNX Runtime",
        package: &[
            "-p",
            "selfcls-export",
            "--no-default-features",
            "--features",
            "tract",
        ],
        forbidden: |name| is_burn(name) || name == "ort" || name == "ort-sys",
    },
    Boundary {
        rule: "core has no backend",
        package: &["-p", "selfcls-core", "--all-features"],
        forbidden: |name| is_heavy_backend(name) || name == "burn-flex",
    },
    Boundary {
        rule: "the default binary carries flex and tract, and nothing heavier",
        package: &["-p", "selfcls-cli"],
        forbidden: is_heavy_backend,
    },
];

fn is_burn(name: &str) -> bool {
    name == "burn" || name.starts_with("burn-")
}

fn is_heavy_backend(name: &str) -> bool {
    const BACKENDS: [&str; 8] = [
        "burn-cpu",
        "burn-cubecl",
        "burn-cuda",
        "burn-ndarray",
        "burn-rocm",
        "burn-tch",
        "torch-sys",
        "wgpu",
    ];
    BACKENDS.contains(&name)
}

impl Boundary {
    fn crossings(&self, workspace: &Workspace) -> Result<Vec<String>, String> {
        let mut command = workspace.cargo();
        command.args(["tree", "--edges=normal", "--prefix=none", "--format={p}"]);
        let tree = output(command.args(self.package))?;
        let mut found: Vec<String> = tree
            .lines()
            .filter_map(|line| line.split(' ').next())
            .filter(|name| (self.forbidden)(name))
            .map(str::to_owned)
            .collect();
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }
}
