//! A file in tract as it is, for [`super::raw`]; also one that takes images of any size.
//!
//! tract plans with the sizes of all values, and those of a resize depend on the image. A program that uses tract gives
//! it one size of images; here each run does, so that files can be looked at.

use super::built_in;
use super::network::{Network, Origin, Refusal, UINT8};
use super::raw::{Pixels, RawOutput};
use super::sessions::Found;
use std::path::Path;
use tract_onnx::prelude::{DatumType, InferenceFact, Tensor};

/// The file.
pub(super) struct Fixed {
    bytes: Vec<u8>,
    /// Where its weights may lie.
    folder: Option<String>,
    /// None where each size of images needs a plan of its own.
    planned: Option<built_in::Network>,
}

impl Fixed {
    /// Loads the file at `path`, or says why not.
    pub(super) fn load(path: &Path) -> Result<Self, String> {
        let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
        let takes_any = takes_any(&bytes).map_err(|refusal| refusal.reason)?;
        let folder = path.parent().and_then(Path::to_str).map(str::to_owned);
        let mut fixed = Self {
            bytes,
            folder,
            planned: None,
        };
        if !takes_any {
            fixed.planned = Some(fixed.plan(None)?);
        }
        Ok(fixed)
    }

    fn plan(&self, image: Option<InferenceFact>) -> Result<built_in::Network, String> {
        built_in::Network::load_for(image, &self.bytes, self.folder.as_deref())
    }

    /// Runs `image` of `shape`.
    pub(super) fn run(&self, shape: &[usize], image: &Pixels) -> Result<Vec<RawOutput>, String> {
        let network = match &self.planned {
            Some(network) => network.clone(),
            None => {
                let kind = match image {
                    Pixels::Float(_) => DatumType::F32,
                    Pixels::Bytes(_) => DatumType::U8,
                };
                self.plan(Some(InferenceFact::dt_shape(kind, shape)))?
            }
        };
        let found = network.run_on(|| match image {
            Pixels::Float(values) => Tensor::from_shape(shape, values),
            Pixels::Bytes(values) => Tensor::from_shape(shape, values),
        })?;
        let outputs = network.outputs().iter().map(|name| {
            let (shape, values) = found.get(name)?;
            Ok(RawOutput {
                name: name.clone(),
                shape,
                values: values.to_vec(),
            })
        });
        outputs.collect()
    }
}

/// Whether it takes bytes of images of any size.
fn takes_any(file: &[u8]) -> Result<bool, Refusal> {
    let network = Network::parse(file, Origin::Foreign)?;
    let is_free = |axes: &[Option<usize>]| matches!(axes, [_, None, None, Some(3)]);
    Ok(matches!(network.inputs.as_slice(), [image] if image.kind == UINT8 && is_free(&image.axes)))
}
