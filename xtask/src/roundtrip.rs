//! burn's importer on what the writer wrote, and its exporter beside the writer. The two bring burn along, built in
//! another way than the workspace's, so they are a package of their own; what they make is kept beside the tests that
//! run it.

use std::fs;
use std::path::Path;

use crate::process::shown;
use crate::workspace::Workspace;

/// The files, each `NAME.onnx`; the importer makes `NAME.rs` and `NAME.bpk`.
const FILES: [&str; 2] = ["resnet", "vit"];

/// What burn's exporter makes of the residual network; it stays beside the file that our writer makes of it.
const SECOND: &str = "second.onnx";

/// Imports the files again and compares with what is kept; `replace`s that instead. Returns whether all is well.
pub(crate) fn run(workspace: &Workspace, replace: bool) -> bool {
    let files = workspace.root().join("export/tests/fixtures/roundtrip");
    let kept = workspace.root().join("tests/fixtures/roundtrip");
    let made = workspace.dependencies().join("roundtrip");
    if let Err(problem) = fs::create_dir_all(&made) {
        eprintln!("error: {}: {problem}", made.display());
        return false;
    }
    let program = |name: &str| {
        let mut program = workspace.cargo();
        program
            .args(["run", "--quiet", "--locked", "--manifest-path"])
            .arg("tests/importer/Cargo.toml")
            .arg("--target-dir")
            .arg(workspace.dependencies().join("importer"))
            .args(["--bin", name, "--"]);
        program
    };
    let mut import = program("selfcls-importer");
    import
        .arg(&made)
        .args(FILES.map(|name| files.join(name).with_extension("onnx")));
    let mut export = program("second");
    export.arg(made.join(SECOND));
    if !(shown(&mut import) && shown(&mut export)) {
        return false;
    }
    let second = settle(&files.join(SECOND), &made.join(SECOND), replace);
    FILES.iter().fold(second, |well, name| {
        let settled = |ending: &str| {
            let file = format!("{name}.{ending}");
            settle(&kept.join(&file), &made.join(&file), replace)
        };
        // Weights have an identity by chance in their file: they are taken with the code that they are for.
        well & settled("rs") & (!replace || settled("bpk"))
    })
}

/// Whether the file that was made is the one that is kept; if it is to replace that, it does.
fn settle(kept: &Path, made: &Path, replace: bool) -> bool {
    let same = matches!((fs::read(kept), fs::read(made)), (Ok(a), Ok(b)) if a == b);
    if same {
        println!("{}: as it was", kept.display());
        return true;
    }
    if !replace {
        eprintln!(
            "error: the importer makes something else than {}; `cargo xtask roundtrip --replace` takes it",
            kept.display()
        );
        return false;
    }
    match fs::copy(made, kept) {
        Ok(_) => {
            println!("{}: replaced", kept.display());
            true
        }
        Err(problem) => {
            eprintln!("error: {}: {problem}", kept.display());
            false
        }
    }
}
