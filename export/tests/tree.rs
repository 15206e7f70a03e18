//! An application that only classifies must not build a training framework.

use std::process::Command;

/// Names of the crates that `package` with `features` brings in.
fn tree(package: &str, features: &[&str]) -> Vec<String> {
    let output = Command::new(env!("CARGO"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args([
            "tree",
            "--offline",
            "--locked",
            "--prefix",
            "none",
            "--edges",
            "normal,build",
        ])
        .args(["--package", package, "--no-default-features", "--features"])
        .arg(features.join(","))
        .output()
        .expect("cargo starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let text = String::from_utf8(output.stdout).expect("text");
    text.lines()
        .filter_map(|line| line.split(' ').next())
        .map(str::to_owned)
        .collect()
}

fn is_training(name: &str) -> bool {
    ["burn", "cubecl", "tch", "torch-sys"]
        .iter()
        .any(|family| name == *family || name.starts_with(&format!("{family}-")))
}

#[test]
fn inference_is_free_of_burn() {
    let names = tree("selfcls-export", &["inference"]);
    for present in ["selfcls-core", "ort", "ort-tract"] {
        assert!(names.iter().any(|name| name == present), "{present}");
    }
    let training: Vec<_> = names.iter().filter(|name| is_training(name)).collect();
    assert!(training.is_empty(), "{training:?}");
}

/// An application that depends on nothing else of this project.
#[test]
fn an_application_is_free_of_burn() {
    let names = tree("selfcls-http-service", &[]);
    assert!(names.iter().any(|name| name == "selfcls-export"));
    assert_eq!(names.iter().find(|name| is_training(name)), None);
}

#[test]
fn the_writer_is_free_of_burn_and_engines() {
    let names = tree("selfcls-export", &["writer"]);
    let heavy =
        |name: &&String| is_training(name) || name.starts_with("ort") || name.starts_with("tract");
    assert_eq!(names.iter().find(heavy), None);
}

/// The two tests above would pass if the names were looked up wrongly; here burn must be found.
#[test]
fn training_has_burn() {
    assert!(
        tree("selfcls-core", &["train"])
            .iter()
            .any(|name| name == "burn")
    );
}
