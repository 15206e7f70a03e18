//! The built-in engine, tract, called so that it cannot end the process.
//!
//! tract panics where a network makes it do what it did not expect. What a file may make tract do is checked beforehand,
//! but nobody knows all that tract does not expect; so networks are loaded and run here, where a panic is an error.

use super::pixels::{Part, Slice};
use super::sessions;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use tract_onnx::prelude::{
    Framework, InferenceFact, InferenceModelExt, TValue, Tensor, TractResult, TypedFact, TypedOp,
};
use tract_onnx::tract_core::model::IntoRunnable;
use tract_onnx::tract_core::plan::SimplePlan;

/// A loaded network; a clone is the same one, with the same weights.
#[derive(Clone)]
pub(super) struct Network {
    plan: Arc<SimplePlan<TypedFact, Box<dyn TypedOp>>>,
    /// The names of what it gives, in order.
    outputs: Arc<[String]>,
}

/// What a run gave.
pub(super) struct Found {
    outputs: Arc<[String]>,
    values: Vec<TValue>,
}

impl Network {
    /// Loads `file`, with the weights that it keeps in `folder`.
    pub(super) fn load(file: &[u8], folder: Option<&str>) -> Result<Self, String> {
        Self::load_for(None, file, folder)
    }

    /// [`Self::load`], for images of one shape and type, where what is computed depends on these.
    pub(super) fn load_for(
        image: Option<InferenceFact>,
        file: &[u8],
        folder: Option<&str>,
    ) -> Result<Self, String> {
        caught(|| {
            let onnx = tract_onnx::onnx();
            let model = onnx.proto_model_for_read(&mut &*file)?;
            let outputs = model.graph.iter().flat_map(|graph| &graph.output);
            let outputs = outputs.map(|output| output.name.clone()).collect();
            let mut parsed = onnx.parse(&model, folder)?.model;
            drop(model);
            if let Some(image) = image {
                parsed = parsed.with_input_fact(0, image)?;
            }
            Ok(Self {
                plan: parsed.into_optimized()?.into_runnable()?,
                outputs,
            })
        })
    }

    /// The names of what it gives, in order.
    #[cfg(feature = "onnxruntime")]
    pub(super) fn outputs(&self) -> &[String] {
        &self.outputs
    }

    /// Runs `images`.
    pub(super) fn run(&self, images: &Part<'_>) -> Result<Found, String> {
        let shape = images.shape();
        self.run_on(|| match images.values {
            Slice::Floats(values) => Tensor::from_shape(&shape, values),
            Slice::Bytes(values) => Tensor::from_shape(&shape, values),
        })
    }

    /// Runs what `images` gives.
    pub(super) fn run_on(
        &self,
        images: impl FnOnce() -> TractResult<Tensor>,
    ) -> Result<Found, String> {
        caught(|| {
            let images = TValue::from(images()?);
            let values = self.plan.run(std::iter::once(images).collect())?;
            Ok(Found {
                outputs: Arc::clone(&self.outputs),
                values: values.into_iter().collect(),
            })
        })
    }
}

impl sessions::Found for Found {
    fn get(&self, name: &str) -> Result<(Vec<usize>, &[f32]), String> {
        let mut outputs = self.outputs.iter().zip(&self.values);
        let (_, value) = outputs
            .find(|(output, _)| *output == name)
            .ok_or_else(|| format!("`{name}` is missing"))?;
        let values = || -> TractResult<&[f32]> { value.try_as_plain_ram()?.as_slice::<f32>() };
        let values = values().map_err(|error| format!("{error:#}"))?;
        Ok((value.shape().to_vec(), values))
    }
}

/// What `work` does or, where it fails or panics, tract's words.
fn caught<T>(work: impl FnOnce() -> TractResult<T>) -> Result<T, String> {
    // What a panic may have left half done is dropped with it: a plan is never changed, and each run has its own state.
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => done.map_err(|error| format!("{error:#}")),
        Err(panic) => {
            let words = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied());
            Err(format!(
                "it stopped in the middle of the network ({})",
                words.unwrap_or("for no reason that it told")
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_with_its_words() {
        for work in [
            (|| panic!("of a {}", "test")) as fn() -> TractResult<()>,
            || panic!("of a test"),
        ] {
            let reason = caught(work).expect_err("it panics");
            assert!(reason.contains("(of a test)"), "{reason}");
        }
        assert_eq!(caught(|| Ok(1)), Ok(1));
    }
}
