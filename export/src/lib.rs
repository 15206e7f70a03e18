//! Self-supervised classifiers as ONNX files, and labels from such files.
//!
//! | feature | what it gives |
//! |---|---|
//! | `writer` | [`OnnxWriter`]: weights and configuration in, one `.onnx` file out |
//! | `inference` | [`Classifier`]: the file and images in, labels out; burn is not in its tree |
//! | both | [`proof`]: a written file beside the trained model |
//!
//! # The file
//! One input, `image`. What it takes is a choice ([`FileOptions::input`]) that the metadata tell
//! ([`selfcls_core::metadata`], which also lists the keys):
//!
//! | `selfcls.input` | `image` | the file does |
//! |---|---|---|
//! | `float` | `f32 [batch, 3, crop, crop]`: RGB in `[0, 1]`, normalised with the metadata's mean and deviation | nothing |
//! | `uint8` | `u8 [batch, crop, crop, 3]`: RGB bytes | scaling and normalising |
//! | `any` | `u8 [batch, height, width, 3]`: RGB bytes of any size, equal within a batch | also resizing and cropping |
//!
//! Outputs, all or some ([`FileOptions`]), in this order, with `<h>` the head's index in the trained
//! model:
//!
//! | output | shape | |
//! |---|---|---|
//! | `logits.<h>` | `[batch, classes]` | one per exported head: cosines times the class's gain |
//! | `probabilities` | `[batch, classes]` | of the default head: softmax of its logits over `row_temperature` |
//! | `embedding` | `[batch, dim]` | length 1 |
//! | `features` | `[batch, feature_dim]` | the backbone's; only where asked for |
//!
//! `batch` is free, or fixed by [`FileOptions::batch`]; `crop` is free in files of residual networks with
//! [`FileOptions::dynamic_size`]. Operator set 17 (18 for `any`) to 21, and the version of the format that
//! goes with it. Batch normalisation and weight normalisation are folded into the weights. Values and nodes are
//! called after the layers (`backbone.layer1.0.conv1`), the preprocessing `input.*`; a vision transformer's
//! positions are interpolated for the file's size. Weights of 16 bits (`<name>.f16`) are turned into `f32` by a
//! `Cast` that engines do once. Weights lie in the file, or beside it in `<file>.data`. The same model gives the
//! same bytes.
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
mod limits;
#[cfg(any(feature = "writer", feature = "inference"))]
mod names;
#[cfg(all(feature = "writer", feature = "inference"))]
pub mod proof;
#[cfg(feature = "writer")]
pub mod writer;

pub use error::{Error, Result};
#[cfg(feature = "inference")]
pub use inference::{
    Classifier, Decoding, Engine, EngineChoice, Options, Outputs, Picture, Prediction, Provider,
    Stream, StreamOptions,
};
#[cfg(feature = "writer")]
pub use writer::{ExternalData, FileOptions, HeadSelection, OnnxWriter, Output};
