//! Self-supervised image classification after Self-Classifier (Amrani, Karlinsky, Bronstein:
//! "Self-Supervised Classification Network", arXiv 2103.10994): labels and representations learned
//! together, in one stage, from unlabelled images.
//!
//! The crate has no backend. Its feature `train` (default) brings in [burn](https://burn.dev) and with
//! it models, loss, optimisers and the trainer, generic over any device; without the feature what is
//! left is what an application needs around an exported classifier: images, preprocessing, metadata,
//! data sources and metrics.
//!
//! | room | what it holds |
//! |---|---|
//! | [`config`] | the one configuration type, presets, validation |
//! | [`data`] | image sources, decoding, batches |
//! | [`views`] | random crops and colour operations, equal to Pillow's and torchvision's |
//! | [`preprocess`], [`metadata`], [`positions`] | what a deployed classifier needs to know |
//! | [`metrics`] | NMI, AMI, ARI, clustering accuracy, nearest-neighbour accuracy |
//! | [`checkpoint`], [`weights`], [`loss_scale`] | what a run leaves on disk |
//! | [`pretrained`] | the authors' and other projects' checkpoints, in and out |
//! | [`eval`] | one pass of a network over a data set |
//! | [`picture`], [`atomic`], [`partial`] | a PNG of the discovered classes; files that appear whole or not at all |
//! | `model`, `loss`, `queue`, `optim`, `train` | the method (feature `train`) |

pub mod atomic;
pub mod checkpoint;
pub mod config;
pub mod data;
mod error;
pub mod eval;
pub mod loss_scale;
pub mod metadata;
pub mod metrics;
pub mod panics;
pub mod partial;
pub mod picture;
pub mod pixels;
pub mod positions;
pub mod preprocess;
pub mod pretrained;
mod products;
pub mod random;
pub mod views;
pub mod weights;

#[cfg(feature = "train")]
pub mod collective;
#[cfg(feature = "train")]
pub mod kernels;
#[cfg(feature = "train")]
pub mod loss;
#[cfg(feature = "train")]
pub mod model;
#[cfg(feature = "train")]
pub mod optim;
#[cfg(feature = "train")]
pub mod queue;
#[cfg(feature = "train")]
pub mod runtime;
#[cfg(feature = "train")]
pub mod train;

pub use config::Config;
pub use error::{Error, Result};
