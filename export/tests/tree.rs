//! An application that only classifies must not build a training framework, nor an engine that it does not want.

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
    is_of(name, &["burn", "cubecl", "tch", "torch-sys"])
}

/// Whether it is the crate of that name, or one of its family.
fn is_of(name: &str, families: &[&str]) -> bool {
    families
        .iter()
        .any(|family| name == *family || name.starts_with(&format!("{family}-")))
}

/// Those of `names` that belong to a training framework, or to `engines` that are not wanted.
fn unwanted<'a>(names: &'a [String], engines: &[&str]) -> Vec<&'a String> {
    let unwanted = |name: &&String| is_training(name) || is_of(name, engines);
    names.iter().filter(unwanted).collect()
}

#[test]
fn inference_is_free_of_burn() {
    let names = tree("selfcls-export", &["inference"]);
    for present in ["selfcls-core", "ort", "tract-onnx"] {
        assert!(names.iter().any(|name| name == present), "{present}");
    }
    assert_eq!(unwanted(&names, &[]), Vec::<&String>::new());
}

#[test]
fn an_engine_comes_without_the_other() {
    let providers = ["cuda", "tensorrt", "coreml", "directml", "openvino"];
    for feature in ["onnxruntime"].iter().chain(&providers) {
        let names = tree("selfcls-export", &[*feature]);
        assert!(names.iter().any(|name| name == "ort"), "{feature}");
        assert_eq!(unwanted(&names, &["tract"]), Vec::<&String>::new());
    }
    let names = tree("selfcls-export", &["tract"]);
    assert!(names.iter().any(|name| name == "tract-onnx"));
    assert_eq!(
        unwanted(&names, &["ort", "libloading"]),
        Vec::<&String>::new()
    );
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
    assert_eq!(unwanted(&names, &["ort", "tract"]), Vec::<&String>::new());
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
