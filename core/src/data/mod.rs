//! Images: where they come from, and how they become batches.
//!
//! A [`Source`] is a numbered set of images, labelled or not. [`Loader`] makes training batches of
//! random views from it, [`EvalLoader`] preprocessed batches in order; both work ahead on threads of
//! their own, and neither's result depends on how many.

mod cache;
mod decode;
mod folder;
mod loader;
mod prefetch;
mod shapes;
mod subset;

pub use decode::{decode, is_image_name, probe, read, read_all};
pub use folder::ImageFolder;
pub use loader::{EvalBatch, EvalLoader, Loader, TrainBatch};
pub use shapes::{SHAPES, Shapes};

use crate::config::DataConfig;
use crate::pixels::Rgb8;
use crate::{Error, Result};
use std::path::Path;
use std::sync::Arc;

/// A numbered set of images.
pub trait Source: Send + Sync {
    /// Number of images.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Image `index`, below [`len`](Self::len).
    ///
    /// # Errors
    /// If it cannot be read, naming the file.
    fn image(&self, index: usize) -> Result<Arc<Rgb8>>;

    /// The label of image `index`, a position in [`classes`](Self::classes); none in an unlabelled set.
    fn label(&self, index: usize) -> Option<usize>;

    /// Names of the classes; empty in an unlabelled set.
    fn classes(&self) -> &[String];

    /// What image `index` is called in messages and results: its path, where it has one.
    fn name(&self, index: usize) -> String;
}

/// Opens what `--data` names: a folder of images, or `shapes[:COUNT[:SPLIT]]` for procedural ones
/// ([`Shapes`]; split 0 is for training, any other number gives fresh images).
///
/// # Errors
/// If there is no such folder, it holds no images, or some of its files are none; see [`ImageFolder`].
/// If a class subset is asked of the procedural set.
pub fn open(source: &str, config: &DataConfig) -> Result<Arc<dyn Source>> {
    match source.split_once(':').map_or(source, |(name, _)| name) {
        "" => Err(Error::Data(
            "no images are given; use --data FOLDER, or --data shapes for the built-in set".into(),
        )),
        // A folder of this name is reached as ./shapes.
        "shapes" if !config.classes_file.is_empty() => Err(Error::Data(
            "data.classes_file chooses among class folders; the built-in shapes have none".into(),
        )),
        "shapes" => Ok(Arc::new(Shapes::parse(source)?)),
        _ => Ok(Arc::new(ImageFolder::open(Path::new(source), config)?)),
    }
}
