//! Self-supervised classifiers as ONNX files, and labels from such files.
//!
//! | feature | what it gives |
//! |---|---|
//! | `writer` | [`OnnxWriter`]: weights and configuration in, one `.onnx` file out |
//! | `inference` | [`Classifier`]: the file and images in, labels out; burn is not in its tree |
//!
//! # The file
//! One input, `image`, `f32 [batch, 3, crop, crop]`: RGB, scaled to `[0, 1]`, normalised with the mean and
//! deviation that the metadata hold ([`selfcls_core::metadata`], which also lists the keys). Outputs, in
//! this order, with `<h>` the head's index in the trained model:
//!
//! | output | shape | |
//! |---|---|---|
//! | `logits.<h>` | `[batch, classes]` | one per exported head: cosines times the class's gain |
//! | `probabilities` | `[batch, classes]` | of the default head: softmax of its logits over `row_temperature` |
//! | `embedding` | `[batch, dim]` | length 1 |
//!
//! `batch` is free. Operator set 17, IR version 8; batch normalisation and weight normalisation are
//! folded into the weights; the same model gives the same bytes.
//!
//! # Example
//! ```no_run
//! # #[cfg(feature = "inference")]
//! # fn main() -> Result<(), selfcls_export::Error> {
//! use selfcls_core::pixels::Rgb8;
//! use selfcls_export::{Classifier, Options};
//!
//! let classifier = Classifier::open("model.onnx", &Options::default())?;
//! let image = Rgb8::new(1, 1, vec![200, 10, 10])?;
//! let prediction = classifier.classify(&image)?;
//! assert!(prediction.confidence() > 0.0);
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "inference"))]
//! # fn main() {}
//! ```

mod error;
#[cfg(feature = "inference")]
pub mod inference;
#[cfg(any(feature = "writer", feature = "inference"))]
mod names;
#[cfg(feature = "writer")]
pub mod writer;

pub use error::{Error, Result};
#[cfg(feature = "inference")]
pub use inference::{
    Classifier, Decoding, Engine, EngineChoice, Options, Outputs, Picture, Prediction, Provider,
    Stream, StreamOptions,
};
#[cfg(feature = "writer")]
pub use writer::{HeadSelection, OnnxWriter};
