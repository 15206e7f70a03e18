//! Running a network over a data set, whatever runs the network.
//!
//! [`Network`] is what evaluation asks of a model: preprocessed images in, logits and features out. A
//! burn model is one ([`ModelNetwork`], feature `train`), an exported file behind an inference engine
//! is another. [`extract`] goes over a source once and keeps what every evaluation needs.

mod extract;
mod gallery;
#[cfg(feature = "train")]
mod network;

pub use extract::{Extracted, Forward, Network, extract};
pub use gallery::cluster_rows;
#[cfg(feature = "train")]
pub use network::{Features, ModelNetwork};
