//! Images: where they come from, and how they become batches.
//!
//! A [`Source`] is a numbered set of images, labelled or not. [`Loader`] makes training batches of
//! random views from it, [`EvalLoader`] preprocessed batches in order; both work ahead on threads of
//! their own, and neither's result depends on how many.

mod cache;
mod chosen;
mod cifar;
mod contents;
mod decode;
mod file;
mod folder;
mod idx;
mod labels;
mod loader;
mod part;
mod prefetch;
mod reduced;
mod shapes;
mod shards;
mod shares;
mod subset;
mod walk;

pub use cifar::{Cifar, CifarKind};
pub use decode::{MAX_DECODED_BYTES, decode, decode_within, is_image_name, probe, read, read_all};
pub use file::{MAX_FILE_BYTES, file_bytes};
pub use folder::ImageFolder;
pub use idx::Idx;
pub use loader::{EvalBatch, EvalLoader, Loader, TrainBatch};
pub use part::Part;
pub use reduced::{decode_reduced, decode_reduced_within, read_reduced};
pub use shapes::{SHAPES, Shapes};
pub use shards::TarShards;
pub use shares::Shares;
pub use walk::{ImagesIn, PassedOver, images_in};

pub(crate) use contents::digest;

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

/// What can be given instead of a folder.
const FORMATS: &str = "cifar10:FOLDER, cifar100:FOLDER, cifar20:FOLDER, idx:FOLDER, tar:FOLDER, FILE.tar, name-{000..146}.tar, shapes[:COUNT]";

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
        Ok(Arc::new(Cifar::open(cifar_kind, &folder, part)?))
    };
    let opened: Arc<dyn Source> = match kind {
        "" => {
            return Err(Error::Data(format!(
                "no images are given; they are a folder, or one of {FORMATS}"
            )));
        }
        "shapes" => Arc::new(Shapes::parse(source)?),
        "cifar10" => cifar(CifarKind::Ten)?,
        "cifar100" => cifar(CifarKind::Hundred)?,
        "cifar20" => cifar(CifarKind::Twenty)?,
        "idx" => {
            let (folder, part) = Part::parse(kind, rest)?;
            Arc::new(Idx::open(&folder, part)?)
        }
        "tar" => Arc::new(TarShards::open(rest, config)?),
        _ if is_tar_name(source) && !Path::new(source).is_dir() => {
            Arc::new(TarShards::open(source, config)?)
        }
        // One letter is a drive of Windows.
        _ if kind.len() > 1 && !rest.is_empty() && !Path::new(source).exists() => {
            return Err(Error::Data(format!(
                "there is no folder {source}, and {kind} is no format of images; those are {FORMATS}"
            )));
        }
        // It chooses among files before it looks into them.
        _ => return Ok(Arc::new(ImageFolder::open(Path::new(source), config)?)),
    };
    Chosen::of(opened, source, config)
}

/// Whether a name is a tar file's. Compressed ones are refused with the reason, later than here.
fn is_tar_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    [".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst"]
        .iter()
        .any(|ending| name.ends_with(ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(source: &str) -> String {
        let opened = open(source, &DataConfig::default());
        opened.err().expect("refused").to_string()
    }

    #[test]
    fn what_is_no_source_is_told_the_formats() {
        for source in ["", "mnist:data"] {
            let message = refused(source);
            assert!(message.contains("idx:FOLDER"), "{message}");
        }
        // A path of Windows, an archive and a range are places, not formats.
        for (source, part) in [
            ("C:\\photos", "cannot open C:\\photos"),
            ("photos.TAR.gz", "cannot open photos.TAR.gz"),
            ("s-{1..2}.tar", "cannot open s-1.tar"),
            ("idx", "idx:FOLDER"),
            ("tar:", "tar:FOLDER"),
            ("cifar10:none:test", "test_batch.bin is missing"),
            ("./shapes", "cannot open ./shapes"),
        ] {
            let message = refused(source);
            assert!(message.contains(part), "{source}: {message}");
        }
    }

    #[test]
    fn a_folder_may_be_named_as_a_format_or_an_archive() {
        let root = tempfile::tempdir().expect("a folder");
        for name in ["idx", "photos.tar", "a:b"] {
            let folder = root.path().join(name);
            std::fs::create_dir(&folder).expect("created");
            let image = image::RgbImage::new(2, 2);
            image.save(folder.join("1.png")).expect("saved");
            let source = open(&folder.display().to_string(), &DataConfig::default());
            assert_eq!(source.expect("opens").len(), 1, "{name}");
        }
    }
}
