//! What features depend on.

use super::Share;
use crate::data::{Source, digest};
use crate::preprocess::Preprocess;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::time::UNIX_EPOCH;

/// Everything that features and assignments depend on. Two evaluations with equal keys may share them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// What tells the model from any other, e.g. the SHA-256 of its file.
    pub model: String,
    /// [`source_fingerprint`] of the images.
    pub data: String,
    /// SHA-256 of the preprocessing and of the temperature of the probabilities.
    pub preprocess: String,
    /// Which features: `backbone` or `head`.
    pub features: String,
    /// Which share of the images; none if it is all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<Share>,
}

impl Key {
    /// The key of what a model makes of a source.
    pub fn new(
        model: impl Into<String>,
        source: &dyn Source,
        preprocess: &Preprocess,
        temperature: f32,
        features: impl Into<String>,
    ) -> Self {
        let mut hash = Sha256::new();
        // Debug prints every field, floats so that they are read back as they were.
        hash.update(format!("{preprocess:?} {temperature:?}"));
        Self {
            model: model.into(),
            data: source_fingerprint(source),
            preprocess: hex(hash),
            features: features.into(),
            share: None,
        }
    }

    /// What `other` was made from that this was not, in words; none if they are equal.
    pub(super) fn differences(&self, other: &Self) -> Vec<&'static str> {
        [
            (self.model != other.model, "another model"),
            (self.data != other.data, "other images"),
            (self.preprocess != other.preprocess, "other preprocessing"),
            (self.features != other.features, "other features"),
            (self.share != other.share, "another share of the images"),
        ]
        .into_iter()
        .filter_map(|(differs, what)| differs.then_some(what))
        .collect()
    }
}

/// SHA-256 of a file's contents.
///
/// # Errors
/// [`Error::Io`] if it cannot be read.
pub fn file_fingerprint(path: &Path) -> Result<String> {
    const PART: usize = 1 << 20;
    let mut hash = Sha256::new();
    let mut file = File::open(path).map_err(Error::io("read", path))?;
    let mut part = vec![0; PART];
    loop {
        let count = file.read(&mut part).map_err(Error::io("read", path))?;
        if count == 0 {
            break;
        }
        hash.update(&part[..count]);
    }
    Ok(hex(hash))
}

/// SHA-256 of the images' names, labels and class names and, where a name is a file, of its size and the time it was
/// last changed. The contents are not read: that would take as long as the evaluation. The folder that all files share
/// is left out, so that the same data are known under a relative path too.
pub fn source_fingerprint(source: &dyn Source) -> String {
    let mut hash = Sha256::new();
    hash.update(digest(source));
    for index in 0..source.len() {
        let Ok(file) = fs::metadata(Path::new(&source.name(index))) else {
            continue;
        };
        let changed = file.modified().ok();
        let changed = changed.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        hash.update((index as u64).to_le_bytes());
        hash.update(file.len().to_le_bytes());
        hash.update(changed.map_or(0, |time| time.as_nanos()).to_le_bytes());
    }
    hex(hash)
}

fn hex(hash: Sha256) -> String {
    hash.finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DataConfig;
    use crate::data::{ImageFolder, Shapes};
    use crate::picture::write_png;

    #[test]
    fn files_are_told_apart_by_their_contents() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.onnx");
        fs::write(&path, "abc").expect("written");
        let print = file_fingerprint(&path).expect("read");
        // FIPS 180-4's first example.
        assert!(print.starts_with("ba7816bf8f01cfea"), "{print}");
        assert!(file_fingerprint(Path::new("/nowhere")).is_err());
    }

    #[test]
    fn fingerprints_follow_the_images_and_not_the_way_to_them() {
        let print = |count, split| source_fingerprint(&Shapes::new(count, split, 8));
        assert_eq!(print(20, 0), print(20, 0));
        assert_ne!(print(20, 0), print(20, 1));
        assert_ne!(print(20, 0), print(21, 0));

        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().join("photos");
        let shapes = Shapes::new(4, 0, 8);
        for index in 0..4 {
            let class = root.join(["a", "b"][index % 2]);
            fs::create_dir_all(&class).expect("created");
            let image = shapes.image(index).expect("drawn");
            write_png(&class.join(format!("{index}.png")), &image).expect("written");
        }
        let of = |root: &Path| {
            let folder = ImageFolder::open(root, &DataConfig::default()).expect("opens");
            source_fingerprint(&folder)
        };
        let before = of(&root);
        // The same folder, by another way.
        assert_eq!(of(&root.join("..").join("photos")), before);
        let changed = root.join("a/0.png");
        let later = fs::metadata(&changed)
            .expect("a file")
            .modified()
            .expect("a time");
        let file = fs::File::options()
            .write(true)
            .open(&changed)
            .expect("opens");
        file.set_modified(later + std::time::Duration::from_secs(2))
            .expect("set");
        drop(file);
        let touched = of(&root);
        assert_ne!(touched, before);
        fs::rename(&changed, root.join("b/0.png")).expect("renamed");
        assert_ne!(of(&root), touched);
    }
}
