//! A file that takes images of any size, in tract, which is told the size before it plans.
//!
//! tract plans with the sizes of all values, and those of a resize depend on the image. A program that uses tract gives
//! it one size of images; here each run does, so that files can be looked at.

use super::network::{Network, Origin, Refusal, UINT8};
use super::raw::{Pixels, RawOutput};
use crate::{Error, Result};
use std::path::{Path, PathBuf};
use tract_onnx::prelude::{
    Framework, InferenceFact, InferenceModelExt, TValue, Tensor, TractResult,
};
use tract_onnx::tract_core::model::IntoRunnable;

/// The file, and the names of its outputs.
pub(super) struct Fixed {
    path: PathBuf,
    outputs: Vec<String>,
}

impl Fixed {
    /// The file at `path`, if it takes bytes of images of any size; none of another.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read, [`Error::Model`] if it is not ONNX.
    pub(super) fn of(path: &Path) -> Result<Option<Self>> {
        let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
        let network =
            Network::parse(&bytes, Origin::Foreign).map_err(|Refusal(reason)| Error::Model {
                model: path.display().to_string(),
                reason,
            })?;
        let is_free = |axes: &[Option<usize>]| matches!(axes, [_, None, None, Some(3)]);
        let takes_any = matches!(network.inputs.as_slice(), [image] if image.kind == UINT8 && is_free(&image.axes));
        Ok(takes_any.then(|| Self {
            path: path.to_path_buf(),
            outputs: network
                .outputs
                .iter()
                .map(|output| output.name.to_owned())
                .collect(),
        }))
    }

    /// Plans for images of `shape` and runs `image`.
    pub(super) fn run(
        &self,
        shape: &[usize],
        image: &Pixels,
    ) -> std::result::Result<Vec<RawOutput>, String> {
        self.planned(shape, image)
            .map_err(|error| format!("{error:#}"))
    }

    fn planned(&self, shape: &[usize], image: &Pixels) -> TractResult<Vec<RawOutput>> {
        let image = match image {
            Pixels::Float(values) => Tensor::from_shape(shape, values)?,
            Pixels::Bytes(values) => Tensor::from_shape(shape, values)?,
        };
        let fact = InferenceFact::dt_shape(image.datum_type(), shape);
        let model = tract_onnx::onnx().model_for_path(&self.path)?;
        let network = model
            .with_input_fact(0, fact)?
            .into_optimized()?
            .into_runnable()?;
        let found = network.run(std::iter::once(TValue::from(image)).collect())?;
        let outputs = self.outputs.iter().zip(found.iter());
        let outputs = outputs.map(|(name, value)| {
            let values = value.cast_to::<f32>()?;
            Ok(RawOutput {
                name: name.clone(),
                shape: value.shape().to_vec(),
                values: values.try_as_plain_ram()?.as_slice::<f32>()?.to_vec(),
            })
        });
        outputs.collect()
    }
}
