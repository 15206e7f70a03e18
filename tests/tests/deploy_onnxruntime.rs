//! Exported files in ONNX Runtime, where its library is found.

#![allow(clippy::expect_used, reason = "a failed expectation is a failed test")]
#![cfg(feature = "flex")]

mod deploy;

use selfcls_export::inference::{LIBRARY_VARIABLE, Library};
use selfcls_export::{EngineChoice, Options};
use selfcls_tests::not_run;

#[test]
fn exports_agree_with_burn() {
    // A path that is given must work; without one there may be none.
    if std::env::var_os(LIBRARY_VARIABLE).is_none() && Library::search().0.is_none() {
        let reason = "no ONNX Runtime library: `cargo xtask setup onnxruntime` fetches one";
        return not_run("deploy_onnxruntime::exports_agree_with_burn", reason);
    }
    let options = Options {
        engine: EngineChoice::OnnxRuntime,
        ..Options::default()
    };
    deploy::agrees_with_burn(&options, "ONNX Runtime");
}
