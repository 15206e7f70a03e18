//! Files of other programs in tract: tried out first where a panic can be caught.
//!
//! tract's C interface ends the process where tract panics. Files of this project are held to what is known
//! to work; a foreign one is loaded and run once outside that interface.

use super::pixels::{Part, Slice};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use tract_onnx::prelude::{Framework, InferenceModelExt, TValue, Tensor, TractResult};
use tract_onnx::tract_core::model::IntoRunnable;

/// Loads `file`, which lies in `folder`, and runs it on `image`.
pub(super) fn rehearse(file: &[u8], folder: Option<&Path>, image: &Part<'_>) -> Result<(), String> {
    let attempt = AssertUnwindSafe(|| -> TractResult<()> {
        let onnx = tract_onnx::onnx();
        let model = onnx.proto_model_for_read(&mut &*file)?;
        let folder = folder.and_then(Path::to_str);
        let parsed = onnx.parse(&model, folder)?;
        let network = parsed.model.into_optimized()?.into_runnable()?;
        let shape = image.shape();
        let image = match image.values {
            Slice::Floats(values) => Tensor::from_shape(&shape, values)?,
            Slice::Bytes(values) => Tensor::from_shape(&shape, values)?,
        };
        network
            .run(std::iter::once(TValue::from(image)).collect())
            .map(drop)
    });
    match catch_unwind(attempt) {
        Ok(outcome) => outcome.map_err(|error| format!("{error:#}")),
        Err(_) => Err("it stopped in the middle of the network".to_owned()),
    }
}
