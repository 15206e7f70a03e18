//! Images: where they come from, and how they become batches.
//!
//! A [`Source`] is a numbered set of images, labelled or not. [`Loader`] makes training batches of
//! random views from it, [`EvalLoader`] preprocessed batches in order; both work ahead on threads of
//! their own, and neither's result depends on how many.

mod cache;
mod chosen;
mod cifar;
mod decode;
mod folder;
mod idx;
mod loader;
mod part;
mod prefetch;
mod reduced;
mod shapes;
mod shards;
mod subset;
mod walk;

pub use cifar::{Cifar, CifarKind};
pub use decode::{decode, is_image_name, probe, read, read_all};
pub use folder::ImageFolder;
pub use idx::Idx;
pub use loader::{EvalBatch, EvalLoader, Loader, TrainBatch};
pub use part::Part;
pub use reduced::read_reduced;
pub use shapes::{SHAPES, Shapes};
pub use shards::TarShards;
pub use walk::{ImagesIn, images_in};

use crate::config::DataConfig;
use crate::pixels::Rgb8;
use crate::{Error, Result};
use chosen::Chosen;
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

/// Opens what `--data` names:
///
/// | SOURCE | images |
/// |---|---|
/// | `FOLDER` | files, with or without a sub-folder per class: [`ImageFolder`] |
/// | `cifar10:FOLDER[:test]`, `cifar100:...`, `cifar20:...` | CIFAR's binary version: [`Cifar`] (20: coarse labels) |
/// | `idx:FOLDER[:test]` | MNIST and its kin: [`Idx`] |
/// | `FILE.tar`, `tar:FOLDER`, `tar:name-{000..146}.tar` | tar files, WebDataset's among them: [`TarShards`] |
/// | `shapes[:COUNT[:SPLIT]]` | drawn: [`Shapes`]; split 0 is for training, any other number gives fresh images |
///
/// A folder that has the name of one of these is reached as `./shapes`.
///
/// # Errors
/// If there are no such images, or they are damaged; see the types above. If a class subset is asked of images
/// without labels.
pub fn open(source: &str, config: &DataConfig) -> Result<Arc<dyn Source>> {
    let (kind, rest) = source.split_once(':').unwrap_or((source, ""));
    let cifar = |cifar_kind| -> Result<Arc<dyn Source>> {
        let (folder, part) = Part::parse(kind, rest)?;
        Chosen::of(Arc::new(Cifar::open(cifar_kind, &folder, part)?), config)
    };
    match kind {
        "" => Err(Error::Data(
            "no images are given; use --data FOLDER, or --data shapes for the built-in set".into(),
        )),
        "shapes" => Chosen::of(Arc::new(Shapes::parse(source)?), config),
        "cifar10" => cifar(CifarKind::Ten),
        "cifar100" => cifar(CifarKind::Hundred),
        "cifar20" => cifar(CifarKind::Twenty),
        "idx" => {
            let (folder, part) = Part::parse(kind, rest)?;
            Chosen::of(Arc::new(Idx::open(&folder, part)?), config)
        }
        "tar" => Chosen::of(Arc::new(TarShards::open(rest, config)?), config),
        _ if source.ends_with(".tar") && !Path::new(source).is_dir() => {
            Chosen::of(Arc::new(TarShards::open(source, config)?), config)
        }
        _ => Ok(Arc::new(ImageFolder::open(Path::new(source), config)?)),
    }
}
