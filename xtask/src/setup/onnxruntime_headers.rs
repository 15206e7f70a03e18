//! The headers of ONNX Runtime's C interface, for the example in C. No package of any registry is made for them; one for
//! games has them among what it brings for telephones.

use std::path::{Path, PathBuf};

use super::npm;

const PACKAGE: &str = "com.github.asus4.onnxruntime@0.4.9";
const INSIDE: &str =
    "package/Plugins/iOS~/onnxruntime.xcframework/ios-arm64/onnxruntime.framework/Headers";
/// The interface, and what it includes.
const FILES: [&str; 3] = [
    "onnxruntime_c_api.h",
    "onnxruntime_ep_c_api.h",
    "onnxruntime_error_code.h",
];

/// The folder with the headers afterwards.
pub(crate) fn set_up(dependencies: &Path) -> Result<PathBuf, String> {
    let target = dependencies.join("onnxruntime-headers");
    let purpose = "the example in C is compiled and run";
    npm::provide(&target, PACKAGE, INSIDE, &FILES, "150 MB", purpose)?;
    Ok(target)
}
