//! CIFAR-10 and CIFAR-100 as their authors distribute them for C programs.

use super::Source;
use super::part::Part;
use crate::pixels::Rgb8;
use crate::{Error, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Side of an image in pixels.
const SIDE: usize = 32;
/// Bytes of a colour plane.
const PLANE: usize = SIDE * SIDE;
/// The largest file that is read, several times CIFAR's own: whatever else bears its name need not fit into memory.
const MAX_BYTES: u64 = 1 << 30;

/// Which data set, and which of its labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CifarKind {
    /// CIFAR-10.
    Ten,
    /// CIFAR-100 with its 100 fine labels.
    Hundred,
    /// CIFAR-100 with its 20 coarse labels, as the first arXiv version evaluates it.
    Twenty,
}

/// The names of CIFAR-10's classes, should `batches.meta.txt` be missing.
const TEN: [&str; 10] = [
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
];

impl CifarKind {
    /// The folder that the archive unpacks to.
    fn folder(self) -> &'static str {
        match self {
            Self::Ten => "cifar-10-batches-bin",
            Self::Hundred | Self::Twenty => "cifar-100-binary",
        }
    }

    fn files(self, part: Part) -> &'static [&'static str] {
        match (self, part) {
            (Self::Ten, Part::Train) => &[
                "data_batch_1.bin",
                "data_batch_2.bin",
                "data_batch_3.bin",
                "data_batch_4.bin",
                "data_batch_5.bin",
            ],
            (Self::Ten, Part::Test) => &["test_batch.bin"],
            (_, Part::Train) => &["train.bin"],
            (_, Part::Test) => &["test.bin"],
        }
    }

    /// Label bytes before the pixels, and the one that counts.
    fn labels(self) -> (usize, usize) {
        match self {
            Self::Ten => (1, 0),
            // Coarse, fine.
            Self::Hundred => (2, 1),
            Self::Twenty => (2, 0),
        }
    }

    fn classes(self) -> usize {
        match self {
            Self::Ten => 10,
            Self::Hundred => 100,
            Self::Twenty => 20,
        }
    }

    fn names(self) -> &'static str {
        match self {
            Self::Ten => "batches.meta.txt",
            Self::Hundred => "fine_label_names.txt",
            Self::Twenty => "coarse_label_names.txt",
        }
    }
}

/// The images of the binary version, in memory: a record is its label bytes and the red, green and blue planes
/// (<https://www.cs.toronto.edu/~kriz/cifar.html>).
pub struct Cifar {
    kind: CifarKind,
    /// Each file, and the position of its first image.
    files: Vec<(PathBuf, usize)>,
    records: Vec<u8>,
    classes: Vec<String>,
}

impl Cifar {
    /// Reads the training or the test images from `folder`, or from the folder in it that the archive unpacks to.
    ///
    /// # Errors
    /// If a file is missing, is not a whole number of records, or holds a label that the data set does not have.
    pub fn open(kind: CifarKind, folder: &Path, part: Part) -> Result<Self> {
        let inner = folder.join(kind.folder());
        let folder = if inner.is_dir() { &inner } else { folder };
        let (labels, label) = kind.labels();
        let record = labels + 3 * PLANE;
        let (mut files, mut records) = (Vec::new(), Vec::new());
        for name in kind.files(part) {
            let path = folder.join(name);
            if !path.exists() {
                return Err(Error::Data(format!(
                    "{} is missing; {} is the folder of the data set's binary version ({}), or the one above it",
                    path.display(),
                    folder.display(),
                    kind.folder()
                )));
            }
            let size = fs::metadata(&path).map_err(Error::io("read", &path))?.len();
            if size == 0 || size > MAX_BYTES || size % record as u64 != 0 {
                return Err(Error::malformed(
                    &path,
                    format!(
                        "its {size} bytes are not a whole number of records of {record} bytes, {MAX_BYTES} bytes at most; it is damaged, or not of the binary version"
                    ),
                ));
            }
            let mut bytes = fs::read(&path).map_err(Error::io("read", &path))?;
            // It may have changed since.
            bytes.truncate(bytes.len() / record * record);
            for (number, image) in bytes.chunks_exact(record).enumerate() {
                if usize::from(image[label]) >= kind.classes() {
                    return Err(Error::malformed(
                        &path,
                        format!(
                            "image {number} has label {}; labels go from 0 to {}",
                            image[label],
                            kind.classes() - 1
                        ),
                    ));
                }
            }
            files.push((path, records.len() / record));
            records.extend(bytes);
        }
        Ok(Self {
            kind,
            files,
            records,
            classes: names(&folder.join(kind.names()), kind)?,
        })
    }

    fn record(&self, index: usize) -> &[u8] {
        let record = self.kind.labels().0 + 3 * PLANE;
        &self.records[index * record..][..record]
    }
}

/// The names of the classes, a line each; CIFAR-10's own or numbers without the file.
fn names(path: &Path, kind: CifarKind) -> Result<Vec<String>> {
    if !path.exists() {
        return Ok(match kind {
            CifarKind::Ten => TEN.map(String::from).to_vec(),
            _ => (0..kind.classes()).map(|label| label.to_string()).collect(),
        });
    }
    let text = fs::read_to_string(path).map_err(Error::io("read", path))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let names: Vec<String> = lines.map(String::from).collect();
    if names.len() != kind.classes() {
        return Err(Error::malformed(
            path,
            format!(
                "it names {} classes; there are {}",
                names.len(),
                kind.classes()
            ),
        ));
    }
    Ok(names)
}

impl Source for Cifar {
    fn len(&self) -> usize {
        self.records.len() / (self.kind.labels().0 + 3 * PLANE)
    }

    fn image(&self, index: usize) -> Result<Arc<Rgb8>> {
        let planes = &self.record(index)[self.kind.labels().0..];
        let (red, rest) = planes.split_at(PLANE);
        let (green, blue) = rest.split_at(PLANE);
        let pixels = red.iter().zip(green).zip(blue);
        let data = pixels.flat_map(|((&r, &g), &b)| [r, g, b]).collect();
        Ok(Arc::new(Rgb8::new(SIDE, SIDE, data)?))
    }

    fn label(&self, index: usize) -> Option<usize> {
        Some(usize::from(self.record(index)[self.kind.labels().1]))
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn name(&self, index: usize) -> String {
        let after = self.files.partition_point(|&(_, first)| first <= index);
        let (path, first) = &self.files[after - 1];
        format!("{}#{}", path.display(), index - first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record whose pixel p has the colours (p, p + 1, p + 2) modulo 256.
    fn record(labels: &[u8]) -> Vec<u8> {
        let mut record = labels.to_vec();
        for channel in 0..3 {
            record.extend((0..PLANE).map(|pixel| (pixel + channel) as u8));
        }
        record
    }

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("a folder")
    }

    #[test]
    fn cifar10_reads_its_five_files_in_order() {
        let root = folder();
        let inner = root.path().join("cifar-10-batches-bin");
        fs::create_dir(&inner).expect("created");
        for number in 1..=5_u8 {
            let bytes = [record(&[number]), record(&[9])].concat();
            fs::write(inner.join(format!("data_batch_{number}.bin")), bytes).expect("written");
        }
        let source = Cifar::open(CifarKind::Ten, root.path(), Part::Train).expect("opens");
        assert_eq!(source.len(), 10);
        assert_eq!((source.label(2), source.label(5)), (Some(2), Some(9)));
        assert_eq!(source.classes()[9], "truck");
        assert!(source.name(5).ends_with("data_batch_3.bin#1"));
        let image = source.image(4).expect("an image");
        assert_eq!((image.width(), image.height()), (32, 32));
        // Row 1, column 2 is pixel 34.
        assert_eq!(image.data()[3 * 34..][..3], [34, 35, 36]);
        let missing = Cifar::open(CifarKind::Ten, root.path(), Part::Test);
        let message = missing.err().expect("refused").to_string();
        assert!(message.contains("test_batch.bin is missing"), "{message}");
    }

    #[test]
    fn cifar100_has_two_labels() {
        let root = folder();
        let bytes = [record(&[19, 99]), record(&[3, 42])].concat();
        fs::write(root.path().join("test.bin"), bytes).expect("written");
        let open = |kind| Cifar::open(kind, root.path(), Part::Test);
        let label = |kind, index| open(kind).expect("opens").label(index);
        assert_eq!(label(CifarKind::Hundred, 0), Some(99));
        assert_eq!(label(CifarKind::Twenty, 1), Some(3));
        let names: String = (0..20).map(|class| format!("class {class}\n")).collect();
        fs::write(root.path().join("coarse_label_names.txt"), names).expect("written");
        let source = open(CifarKind::Twenty).expect("opens");
        assert_eq!(source.classes()[7], "class 7");
        fs::write(root.path().join("coarse_label_names.txt"), "one\n").expect("written");
        assert!(open(CifarKind::Twenty).is_err());
    }

    #[test]
    fn damage_is_named() {
        let root = folder();
        let path = root.path().join("test_batch.bin");
        for (bytes, part) in [
            (record(&[3])[1..].to_vec(), "whole number of records"),
            (Vec::new(), "whole number of records"),
            (
                [record(&[3]), record(&[10])].concat(),
                "image 1 has label 10",
            ),
        ] {
            fs::write(&path, bytes).expect("written");
            let opened = Cifar::open(CifarKind::Ten, root.path(), Part::Test);
            let message = opened.err().expect("refused").to_string();
            assert!(
                message.contains(part) && message.contains("test_batch.bin"),
                "{message}"
            );
        }
    }
}
