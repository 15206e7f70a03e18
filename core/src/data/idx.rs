//! The IDX files of MNIST and the sets made in its likeness (Fashion-MNIST, EMNIST, KMNIST).

use super::Source;
use super::part::Part;
use crate::pixels::Rgb8;
use crate::{Error, Result};
use flate2::read::MultiGzDecoder;
use std::fs::{self, File};
use std::io::{BufReader, ErrorKind, Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The most bytes a file may hold, and an image: a small compressed file can unpack to a huge one.
const MAX_BYTES: u64 = 1 << 32;
const MAX_PIXELS: usize = 1 << 28;

/// Grey images and their labels, in memory.
///
/// A file is a magic number (two zero bytes, 8 for bytes, the number of axes), the length of each axis as a big-endian
/// 32-bit number, and the bytes; it may be compressed with gzip
/// (<https://web.archive.org/web/2020/http://yann.lecun.com/exdb/mnist/>). Pixels are taken as they lie in the file.
pub struct Idx {
    path: PathBuf,
    height: usize,
    width: usize,
    pixels: Vec<u8>,
    labels: Option<Vec<u8>>,
    classes: Vec<String>,
}

impl Idx {
    /// Reads the images of a part, and their labels if the folder has them: files named as
    /// `train-images-idx3-ubyte`, `t10k-labels-idx1-ubyte`, with other words before and `.gz` behind.
    ///
    /// # Errors
    /// If the folder holds no such images, or several, or a file is damaged, or labels are of another number.
    pub fn open(folder: &Path, part: Part) -> Result<Self> {
        let files = list(folder)?;
        let Some(path) = find(folder, &files, part, "images")? else {
            return Err(Error::Data(format!(
                "{} holds no IDX images to {}; they are called {}-images-idx3-ubyte, perhaps with .gz behind",
                folder.display(),
                if part == Part::Train {
                    "train on"
                } else {
                    "test on"
                },
                spellings(part)[0]
            )));
        };
        let (axes, pixels) = read(&path)?;
        let &[count, height, width] = &axes[..] else {
            return Err(Error::malformed(
                &path,
                format!("it has {} axes; images have three", axes.len()),
            ));
        };
        if count == 0 || height == 0 || width == 0 || height.saturating_mul(width) > MAX_PIXELS {
            return Err(Error::malformed(
                &path,
                format!(
                    "it holds {count} images of {height} x {width} pixels; there must be images, of 1 to {MAX_PIXELS} pixels"
                ),
            ));
        }
        let labels = match find(folder, &files, part, "labels")? {
            None => None,
            Some(path) => {
                let (axes, labels) = read(&path)?;
                if axes != [count] {
                    return Err(Error::malformed(
                        &path,
                        format!("its axes are {axes:?}; there are {count} images"),
                    ));
                }
                Some(labels)
            }
        };
        let largest = labels.iter().flatten().max();
        let classes = largest.map_or(0, |&label| usize::from(label) + 1);
        Ok(Self {
            path,
            height,
            width,
            pixels,
            labels,
            classes: (0..classes).map(|class| class.to_string()).collect(),
        })
    }
}

impl Source for Idx {
    fn len(&self) -> usize {
        self.pixels.len() / (self.height * self.width)
    }

    fn image(&self, index: usize) -> Result<Arc<Rgb8>> {
        let size = self.height * self.width;
        let grey = &self.pixels[index * size..][..size];
        let data = grey.iter().flat_map(|&value| [value; 3]).collect();
        Ok(Arc::new(Rgb8::new(self.width, self.height, data)?))
    }

    fn label(&self, index: usize) -> Option<usize> {
        self.labels.as_ref().map(|labels| labels[index].into())
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn name(&self, index: usize) -> String {
        format!("{}#{index}", self.path.display())
    }
}

/// The names of the files in a folder, without hidden ones (macOS leaves a `._` beside what it unpacks).
fn list(folder: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder).map_err(Error::io("open", folder))?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(Error::io("read", folder))?;
        // Through links too; some archives have each file in a folder of the same name.
        if entry.path().is_file() {
            names.extend(entry.file_name().into_string());
        }
    }
    names.retain(|name| !name.starts_with('.'));
    names.sort_unstable();
    Ok(names)
}

/// What the names of a part's files begin with, or have before the content.
fn spellings(part: Part) -> &'static [&'static str] {
    match part {
        Part::Train => &["train"],
        Part::Test => &["t10k", "test"],
    }
}

/// The one file of a part that holds `what`.
fn find(folder: &Path, files: &[String], part: Part, what: &str) -> Result<Option<PathBuf>> {
    let wanted = |name: &&String| {
        spellings(part)
            .iter()
            .any(|part| name.contains(&format!("{part}-{what}")))
            && name.contains("idx")
    };
    let mut found: Vec<&String> = files.iter().filter(wanted).collect();
    // Unpacked beside its archive: the same content.
    if let [plain, packed] = found[..]
        && *packed == format!("{plain}.gz")
    {
        found.pop();
    }
    match found[..] {
        [] => Ok(None),
        [name] => Ok(Some(folder.join(name))),
        [first, second, ..] => Err(Error::Data(format!(
            "{} holds several sets ({first}, {second}); put each into a folder of its own",
            folder.display()
        ))),
    }
}

/// The lengths of the axes and the bytes of an IDX file.
fn read(path: &Path) -> Result<(Vec<usize>, Vec<u8>)> {
    let damaged = |reason: String| Error::malformed(path, reason);
    let unreadable = |error: std::io::Error| {
        damaged(match error.kind() {
            ErrorKind::UnexpectedEof => "it ends too early; fetch it again".into(),
            _ => format!("it cannot be read to its end ({error})"),
        })
    };
    let mut file = BufReader::new(File::open(path).map_err(Error::io("open", path))?);
    let mut magic = [0; 2];
    let packed = file.read_exact(&mut magic).is_ok() && magic == [0x1f, 0x8b];
    file.rewind().map_err(Error::io("read", path))?;
    let mut file: Box<dyn Read> = if packed {
        Box::new(MultiGzDecoder::new(file))
    } else {
        Box::new(file)
    };

    let mut magic = [0; 4];
    file.read_exact(&mut magic).map_err(unreadable)?;
    let [0, 0, 8, axes @ 1..=3] = magic else {
        return Err(damaged(format!(
            "it begins with {magic:02x?}; an IDX file of bytes begins with 00 00 08 and the number of axes"
        )));
    };
    let mut lengths = Vec::new();
    for _ in 0..axes {
        let mut length = [0; 4];
        file.read_exact(&mut length).map_err(unreadable)?;
        lengths.push(u32::from_be_bytes(length) as usize);
    }
    let size = lengths
        .iter()
        .try_fold(1_u64, |n, &m| n.checked_mul(m as u64));
    let size = size
        .filter(|&size| size <= MAX_BYTES)
        .ok_or_else(|| damaged(format!("it claims to hold {lengths:?} bytes")))?;
    let mut bytes = Vec::new();
    // One more than there should be, to see that there is none.
    let read = file.take(size + 1).read_to_end(&mut bytes);
    read.map_err(unreadable)?;
    if bytes.len() as u64 != size {
        let relation = if (bytes.len() as u64) < size {
            "fewer"
        } else {
            "more"
        };
        return Err(damaged(format!(
            "it holds {relation} bytes than the {size} that {lengths:?} need"
        )));
    }
    Ok((lengths, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write;

    fn idx(axes: &[u32], bytes: &[u8]) -> Vec<u8> {
        let mut file = vec![0, 0, 8, axes.len() as u8];
        file.extend(axes.iter().flat_map(|length| length.to_be_bytes()));
        file.extend(bytes);
        file
    }

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).expect("packs");
        encoder.finish().expect("packs")
    }

    fn folder(files: &[(&str, Vec<u8>)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, bytes) in files {
            fs::write(folder.path().join(name), bytes).expect("written");
        }
        folder
    }

    #[test]
    fn images_become_grey_and_labels_classes() {
        let images = idx(&[2, 2, 3], &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
        let labels = idx(&[2], &[4, 1]);
        let root = folder(&[
            ("train-images-idx3-ubyte.gz", packed(&images)),
            ("train-images-idx3-ubyte", images.clone()),
            ("train-labels-idx1-ubyte.gz", packed(&labels)),
            ("t10k-images.idx3-ubyte", images),
        ]);
        let source = Idx::open(root.path(), Part::Train).expect("opens");
        assert_eq!((source.len(), source.classes().len()), (2, 5));
        assert_eq!((source.label(0), source.label(1)), (Some(4), Some(1)));
        let image = source.image(1).expect("an image");
        assert_eq!((image.width(), image.height()), (3, 2));
        assert_eq!(image.data()[..6], [6, 6, 6, 7, 7, 7]);
        let test = Idx::open(root.path(), Part::Test).expect("opens");
        assert!(test.label(0).is_none() && test.classes().is_empty());
    }

    #[test]
    fn damage_is_named() {
        let good = idx(&[1, 1, 2], &[1, 2]);
        let name = "train-images-idx3-ubyte";
        let mut wrong_checksum = packed(&good);
        let checksum = wrong_checksum.len() - 8;
        wrong_checksum[checksum] ^= 1;
        for (bytes, part) in [
            (good[..good.len() - 1].to_vec(), "fewer bytes"),
            (idx(&[1, 1, 2], &[1, 2, 3]), "more bytes"),
            (good[..7].to_vec(), "too early"),
            (b"text of some length".to_vec(), "begins with"),
            (idx(&[u32::MAX; 3], &[]), "claims to hold"),
            (idx(&[2], &[1, 2]), "images have three"),
            (idx(&[0, 1, 2], &[]), "0 images"),
            (packed(&good)[..12].to_vec(), "early"),
            (vec![0x1f, 0x8b, 7, 0, 0, 0, 0, 0, 0, 0], "cannot be read"),
            (wrong_checksum, "cannot be read"),
            (packed(&idx(&[1, 1, 2], &[0; 1 << 16])), "more bytes"),
            (idx(&[1, 1 << 16, 1 << 16], &[]), "fewer bytes"),
        ] {
            let opened = Idx::open(folder(&[(name, bytes)]).path(), Part::Train);
            let message = opened.err().expect("refused").to_string();
            assert!(
                message.contains(part) && message.contains(name),
                "{part}: {message}"
            );
        }
        let other = [
            (name, good.clone()),
            ("train-labels-idx1-ubyte", idx(&[2], &[0, 1])),
        ];
        let message = |files: &[(&str, Vec<u8>)]| {
            let opened = Idx::open(folder(files).path(), Part::Train);
            opened.err().expect("refused").to_string()
        };
        assert!(message(&other).contains("there are 1 images"));
        assert!(message(&[]).contains("no IDX images"));
        let hidden = [(name, good.clone()), ("._train-images-idx3-ubyte", vec![0])];
        assert_eq!(
            Idx::open(folder(&hidden).path(), Part::Train)
                .expect("opens")
                .len(),
            1
        );
        let two = [
            (name, good.clone()),
            ("emnist-train-images-idx3-ubyte", good),
        ];
        assert!(message(&two).contains("several sets"));
    }
}
