//! Set-up, tests and checks of this repository, in one place for people and for CI.
//!
//! `cargo xtask help` says what there is. Nothing but the standard library, so that it starts in
//! seconds on a fresh machine.
#![allow(
    clippy::print_stdout,
    reason = "a program for the terminal: its output is its result"
)]

mod check;
mod process;
mod roundtrip;
mod setup;
mod summary;
mod test;
mod workspace;

use std::process::ExitCode;

use setup::Component;
use summary::Summary;
use workspace::Workspace;

const HELP: &str = "\
Set-up, tests and checks of selfcls.

usage: cargo xtask <command>

  setup [libtorch|onnxruntime|onnxruntime-headers|onnxruntime-web|openvino|python|vulkan|
         slurm|browser|all]
                    fetch what tests need beyond Rust crates, into `.deps`
                    (all is the default; what is there already is kept)
  test [--fast] [-- FILTER...]
                    set up, build the binary, run the whole suite on every
                    backend this machine can have, and list what could not run
                    (--fast: flex and tract only, nothing fetched)
  roundtrip [--replace]
                    have burn's importer read exported files again and compare
                    with what it made of them before (or replace that); builds
                    burn once more, so it is no part of `test`
  check             formatting, clippy, documentation, the crates' boundaries
  ci                check and test

environment:
  SELFCLS_DEPS      where setup puts things (default: `.deps` in the checkout)
  LIBTORCH, ORT_DYLIB_PATH, SELFCLS_ONNXRUNTIME_HEADERS, SELFCLS_ONNXRUNTIME_WEB,
  SELFCLS_OPENVINO_DYLIB, SELFCLS_PYTHON, SELFCLS_PLAYWRIGHT, SELFCLS_CHROMIUM
                    used as they are where they are set; nothing is fetched then
  CARGO_TARGET_DIR  as always
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let workspace = Workspace::new();
    match arguments.as_slice() {
        [] | ["help" | "--help" | "-h"] => {
            print!("{HELP}");
            ExitCode::SUCCESS
        }
        ["setup"] => set_up(&workspace, &Component::ALL),
        ["setup", "all"] => set_up(&workspace, &Component::ALL),
        ["setup", name] => match Component::named(name) {
            Some(component) => set_up(&workspace, &[component]),
            None => usage(&format!("setup knows no `{name}`")),
        },
        ["test", rest @ ..] => {
            let (options, filters) = split_at_dashes(rest);
            match options {
                [] => run(&workspace, |summary| {
                    test::everything(&workspace, filters, summary);
                }),
                ["--fast"] => run(&workspace, |summary| {
                    test::fast(&workspace, filters, summary);
                }),
                _ => usage(&format!("test knows no `{}`", options.join(" "))),
            }
        }
        ["roundtrip"] => run(&workspace, |summary| {
            summary.part("roundtrip", |_| roundtrip::run(&workspace, false));
        }),
        ["roundtrip", "--replace"] => run(&workspace, |summary| {
            summary.part("roundtrip", |_| roundtrip::run(&workspace, true));
        }),
        ["check"] => run(&workspace, |summary| {
            check::cheap(&workspace, summary);
            let ready = setup::for_tests(&workspace, summary);
            check::thorough(&workspace, &ready, summary);
        }),
        // What fails quickly comes first, and the tests before the checks that build
        // dependencies a second time.
        ["ci"] => run(&workspace, |summary| {
            check::cheap(&workspace, summary);
            let ready = test::everything(&workspace, &[], summary);
            check::thorough(&workspace, &ready, summary);
        }),
        _ => usage(&format!("there is no command `{}`", arguments.join(" "))),
    }
}

fn split_at_dashes<'a>(arguments: &'a [&'a str]) -> (&'a [&'a str], &'a [&'a str]) {
    match arguments.iter().position(|&argument| argument == "--") {
        Some(at) => (&arguments[..at], &arguments[at + 1..]),
        None => (arguments, &[]),
    }
}

fn usage(problem: &str) -> ExitCode {
    eprint!("error: {problem}\n\n{HELP}");
    ExitCode::from(2)
}

fn set_up(workspace: &Workspace, components: &[Component]) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for component in components {
        match component.set_up(workspace) {
            Ok(message) => println!("{}: {message}", component.name()),
            Err(problem) => {
                eprintln!("error: {}: {problem}", component.name());
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}

fn run(workspace: &Workspace, work: impl FnOnce(&mut Summary)) -> ExitCode {
    let mut summary = Summary::new();
    work(&mut summary);
    print!("{summary}");
    if summary.has_failed() {
        println!("failed (in {})", workspace.root().display());
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}
