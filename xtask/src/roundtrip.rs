//! burn's importer on what the writer wrote. The importer brings burn along, built in another way than the
//! workspace's, so it is a package of its own; what it makes of the files is kept beside the test that runs it.

use std::fs;
use std::path::Path;

use crate::process::shown;
use crate::workspace::Workspace;

/// The files, each `NAME.onnx`; the importer makes `NAME.rs` and `NAME.bpk`.
const FILES: [&str; 2] = ["resnet", "vit"];

/// Imports the files again and compares with what is kept; `replace`s that instead. Returns whether all is well.
pub(crate) fn run(workspace: &Workspace, replace: bool) -> bool {
    let files = workspace.root().join("export/tests/fixtures/roundtrip");
    let kept = workspace.root().join("tests/fixtures/roundtrip");
    let made = workspace.dependencies().join("roundtrip");
    if let Err(problem) = fs::create_dir_all(&made) {
        eprintln!("error: {}: {problem}", made.display());
        return false;
    }
    let mut import = workspace.cargo();
    import
        .args(["run", "--quiet", "--locked", "--manifest-path"])
        .arg("tests/importer/Cargo.toml")
        .arg("--target-dir")
        .arg(workspace.dependencies().join("importer"))
        .arg("--")
        .arg(&made)
        .args(FILES.map(|name| files.join(name).with_extension("onnx")));
    if !shown(&mut import) {
        return false;
    }
    FILES.iter().fold(true, |well, name| {
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
