//! Running a network over a data set, whatever runs the network, and what follows from it.
//!
//! [`Network`] is what evaluation asks of a model: preprocessed images in, logits and features out. A
//! burn model is one (`ModelNetwork`, feature `train`), an exported file behind an inference engine
//! is another. An [`Extractor`] goes over a source once and keeps what every evaluation needs, in memory or in a cache
//! file ([`features`]).

mod extract;
pub mod features;
mod gallery;
pub mod hierarchy;
pub mod kmeans;
#[cfg(feature = "train")]
pub mod linear;
#[cfg(feature = "maps")]
mod map;
mod neighbour_rows;
mod neighbours;
#[cfg(feature = "train")]
mod network;
mod pixels;
mod selection;
mod usage;

pub use extract::{Extracted, Extractor, Forward, Keep, Network, Trace};
pub use gallery::{Gallery, Pick};
#[cfg(feature = "maps")]
pub use map::{FeatureMap, MapConfig};
pub use neighbour_rows::{Labelled, neighbour_rows};
pub use neighbours::nearest;
#[cfg(feature = "train")]
pub use network::{Features, ModelNetwork};
pub use pixels::PixelNetwork;
pub use selection::{Selection, read_names};
pub use usage::{Advice, HeadUsage, SIMILAR, advise, agreement};
