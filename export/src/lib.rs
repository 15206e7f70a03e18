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
//! # In an application
//! One dependency, which brings no training framework along, and one file:
//!
//! ```toml
//! [dependencies]
//! selfcls-export = { path = "../selfcls/export", default-features = false, features = ["inference"] }
//! ```
//!
//! ```
//! # #[cfg(feature = "inference")]
//! # fn main() -> Result<(), selfcls_export::Error> {
//! use selfcls_export::{Classifier, Options};
//!
//! # let (model, photo) = ("../examples/shapes.onnx", "../examples/disc.png");
//! let classifier = Classifier::open(model, &Options::default())?;
//! let prediction = classifier.classify_file(photo)?;
//! println!("{} with {:.0} %", prediction.class(), 100.0 * prediction.confidence());
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "inference"))]
//! # fn main() {}
//! ```
//!
//! | you have | call |
//! |---|---|
//! | a file | [`Classifier::classify_file`] |
//! | its bytes, e.g. of a request | [`Classifier::classify_bytes`] |
//! | pixels | [`Classifier::classify`] with [`Rgb8::new`]; [`decode`] and [`read`] make them from files |
//! | a folder, a million files | [`Classifier::stream`], in constant memory |
//! | photos of a camera, and little time | [`Options::decoding`] |
//! | a GPU | [`Options::provider`] and the feature of its name |
//! | a file of another program | [`Options::preprocessing`] |
//!
//! The example `classify` of this crate is a complete program. A classifier can be shared between threads; what is
//! wrong with a file, an image or the machine is an [`Error`] that says what to do. The engine that is built in, tract,
//! runs everywhere; ONNX Runtime, which is faster, is loaded where `ORT_DYLIB_PATH` names its library or it lies in a
//! [well-known place](inference::well_known_places).

#[cfg(any(feature = "writer", feature = "inference"))]
mod checksum;
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
    Candidate, Classifier, Decoding, Engine, EngineChoice, HeadLogits, OpenVinoDevice, Options,
    Outputs, Picture, Prediction, Provider, Stream, StreamOptions,
};
/// What the above speaks of, so that an application depends on this crate alone.
#[cfg(feature = "inference")]
pub use selfcls_core::{
    Error as CoreError,
    config::Interpolation,
    data::{decode, decode_reduced, read, read_reduced},
    metadata::{HeadInfo, InputKind, Metadata},
    pixels::Rgb8,
    preprocess::Preprocess,
};
#[cfg(feature = "writer")]
pub use writer::{ExternalData, FileOptions, HeadSelection, OnnxWriter, Output};
