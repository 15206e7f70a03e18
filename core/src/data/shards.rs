//! Images in tar files, so that a data set of millions is a few hundred files.

use super::Source;
use super::cache::Cache;
use super::decode::{begins_as_image, decode, is_image_name};
use super::labels::{Labelled, of_folders};
use crate::config::DataConfig;
use crate::pixels::Rgb8;
use crate::{Error, Result};
use rayon::prelude::*;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Class numbers that a `.cls` file may give lie below this.
const MAX_CLASS: usize = 1_000_000;
/// The most tar files that a range may mean, and digits of their numbers.
const MAX_SHARDS: u32 = 1_000_000;
const MAX_DIGITS: usize = 9;
/// The largest image file in bytes: what is decoded is no larger.
const MAX_BYTES: u64 = 1 << 30;
/// Names that an error lists.
const LISTED: usize = 5;

/// Images in uncompressed tar files, in the order of the files and of their members.
///
/// Labels come from members that share an image's name up to its first dot and end in `.cls`, each a class number in
/// decimal digits (the layout of WebDataset, <https://github.com/webdataset/webdataset>), or from the folders in which
/// the images lie, as in [`ImageFolder`](super::ImageFolder), below those that all of them share. Hidden members are
/// passed over, such as the `._` files that macOS adds. Only headers are read at first; an image is read where it lies
/// when it is needed, so that shuffling costs a seek.
pub struct TarShards {
    shards: Vec<PathBuf>,
    members: Vec<Member>,
    labels: Option<Vec<usize>>,
    classes: Vec<String>,
    cache: Cache,
}

/// An image in a tar file.
struct Member {
    shard: usize,
    name: Box<str>,
    offset: u64,
    size: usize,
}

/// What the headers of a tar file say.
struct Listing {
    images: Vec<Member>,
    /// Class numbers, by the names of their images up to the first dot.
    classes: HashMap<Box<str>, usize>,
}

impl TarShards {
    /// Lists the images of the tar files that `pattern` means: one file, a folder of `.tar` files, or a name with a
    /// range of numbers such as `train-{000..146}.tar`.
    ///
    /// # Errors
    /// If a file is missing, damaged or compressed, there are no images, a member is not the image that its name says,
    /// or only some images have a class number.
    pub fn open(pattern: &str, config: &DataConfig) -> Result<Self> {
        let shards = shards(pattern)?;
        let numbered: Vec<(usize, &PathBuf)> = shards.iter().enumerate().collect();
        let listings: Vec<Listing> = numbered
            .into_par_iter()
            .map(|(number, path)| list(number, path))
            .collect::<Result<_>>()?;
        let (mut members, mut given) = (Vec::new(), Vec::new());
        for listing in listings {
            let class = |member: &Member| listing.classes.get(sample(&member.name)).copied();
            given.extend(listing.images.iter().map(class));
            members.extend(listing.images);
        }
        if members.is_empty() {
            return Err(Error::Data(format!(
                "{pattern} holds no images ({} tar files); members are .jpg, .jpeg, .png, .bmp, .gif or .webp files",
                shards.len()
            )));
        }
        let (labels, classes) = if given.iter().any(Option::is_some) {
            numbers(&shards, &members, given)?
        } else {
            of_folders(&pattern, folders(&members))?
        };
        Ok(Self {
            cache: Cache::new(members.len(), config.cache_mib.saturating_mul(1 << 20)),
            shards,
            members,
            labels,
            classes,
        })
    }

    fn read(&self, member: &Member) -> Result<Vec<u8>> {
        let path = &self.shards[member.shard];
        let mut file = File::open(path).map_err(Error::io("open", path))?;
        let mut bytes = vec![0; member.size];
        let read = file
            .seek(SeekFrom::Start(member.offset))
            .and_then(|_| file.read_exact(&mut bytes));
        read.map_err(Error::io("read", path))?;
        Ok(bytes)
    }
}

impl Source for TarShards {
    fn len(&self) -> usize {
        self.members.len()
    }

    fn image(&self, index: usize) -> Result<Arc<Rgb8>> {
        self.cache.get(index, || {
            let bytes = self.read(&self.members[index])?;
            decode(&bytes, Path::new(&self.name(index)))
        })
    }

    fn label(&self, index: usize) -> Option<usize> {
        self.labels.as_ref().map(|labels| labels[index])
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn name(&self, index: usize) -> String {
        let member = &self.members[index];
        format!("{}/{}", self.shards[member.shard].display(), member.name)
    }
}

/// The files that a pattern means, at least one.
fn shards(pattern: &str) -> Result<Vec<PathBuf>> {
    let path = Path::new(pattern);
    if pattern.is_empty() {
        return Err(Error::Data(
            "tar needs its files: tar:FILE.tar, tar:FOLDER or tar:name-{000..146}.tar; a folder called tar is given as ./tar".into(),
        ));
    }
    if !path.is_dir() {
        return range(pattern);
    }
    let entries = fs::read_dir(path).map_err(Error::io("open", path))?;
    let mut found = Vec::new();
    for entry in entries {
        let file = entry.map_err(Error::io("read", path))?.path();
        let ending = file.extension().unwrap_or_default();
        if ending.eq_ignore_ascii_case("tar") && file.is_file() {
            found.push(file);
        }
    }
    found.sort_unstable();
    if found.is_empty() {
        return Err(Error::Data(format!("{pattern} holds no .tar files")));
    }
    Ok(found)
}

/// `a{08..11}b` as a08b, a09b, a10b, a11b; other names as they are.
fn range(pattern: &str) -> Result<Vec<PathBuf>> {
    let parts = pattern.split_once('{').and_then(|(before, rest)| {
        let (inner, after) = rest.split_once('}')?;
        let (from, to) = inner.split_once("..")?;
        Some((before, from, to, after))
    });
    let Some((before, from, to, after)) = parts else {
        return Ok(vec![pattern.into()]);
    };
    let number = |digits: &str| {
        let plain = digits.len() <= MAX_DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| digits.parse::<u32>().ok()).flatten()
    };
    match (number(from), number(to)) {
        (Some(first), Some(last)) if first <= last && last - first < MAX_SHARDS => {
            let width = from.len();
            let name = |number| format!("{before}{number:0width$}{after}").into();
            Ok((first..=last).map(name).collect())
        }
        _ => Err(Error::Data(format!(
            "{{{from}..{to}}} in {pattern} is no range of numbers, such as {{000..146}}"
        ))),
    }
}

/// Reads the headers of a tar file, class numbers, and the first bytes of each image.
fn list(shard: usize, path: &Path) -> Result<Listing> {
    let mut file = File::open(path).map_err(Error::io("open", path))?;
    let length = file.metadata().map_err(Error::io("read", path))?.len();
    let mut magic = [0; 6];
    let first = file.read(&mut magic).map_err(Error::io("read", path))?;
    for (beginning, format) in [
        (&[0x1f, 0x8b][..], "gzip"),
        (b"BZh", "bzip2"),
        (&[0xfd, b'7', b'z', b'X', b'Z'], "xz"),
        (&[0x28, 0xb5, 0x2f, 0xfd], "zstd"),
    ] {
        if magic[..first].starts_with(beginning) {
            return Err(Error::malformed(
                path,
                format!(
                    "it is compressed with {format}, and images are read where they lie; unpack it to a plain .tar"
                ),
            ));
        }
    }
    file.rewind().map_err(Error::io("read", path))?;
    let damaged =
        |error| Error::malformed(path, format!("it is no tar file, or damaged ({error})"));

    let mut archive = tar::Archive::new(file);
    let mut listing = Listing {
        images: Vec::new(),
        classes: HashMap::new(),
    };
    for entry in archive.entries_with_seek().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let name: Box<str> = name.strip_prefix("./").unwrap_or(&name).into();
        let hidden = |part: &str| part.starts_with('.') && part != "." && part != "..";
        if name.split('/').any(hidden) {
            continue;
        }
        let (offset, size) = (entry.raw_file_position(), entry.size());
        if offset.checked_add(size).is_none_or(|end| end > length) {
            return Err(Error::malformed(
                path,
                format!("it ends within {name}; fetch it again"),
            ));
        }
        if is_image_name(Path::new(&*name)) {
            let mut first = Vec::new();
            let read = entry.by_ref().take(32).read_to_end(&mut first);
            read.map_err(damaged)?;
            if !begins_as_image(&first) {
                return Err(Error::malformed(
                    path.join(&*name),
                    "its contents are of no known image format; make the tar file without it",
                ));
            }
            if size > MAX_BYTES {
                return Err(Error::malformed(
                    path.join(&*name),
                    format!("its {size} bytes are more than the {MAX_BYTES} of the largest image"),
                ));
            }
            listing.images.push(Member {
                shard,
                name,
                offset,
                size: size as usize,
            });
        } else if let Some(sample) = name.strip_suffix(".cls") {
            let mut text = String::new();
            let read = entry.by_ref().take(32).read_to_string(&mut text);
            let class = read.ok().and_then(|_| text.trim().parse().ok());
            let class = class.filter(|&class| class < MAX_CLASS).ok_or_else(|| {
                Error::malformed(
                    path.join(&*name),
                    format!(
                        "{:?} is no class number from 0 to {}",
                        text.trim(),
                        MAX_CLASS - 1
                    ),
                )
            })?;
            listing.classes.insert(sample.into(), class);
        }
    }
    Ok(listing)
}

/// What the members of a sample share: the path up to the first dot of the file's name.
fn sample(name: &str) -> &str {
    let file = name.rfind('/').map_or(0, |slash| slash + 1);
    let dot = name[file..].find('.').map_or(name.len(), |dot| file + dot);
    &name[..dot]
}

/// Labels from class numbers, which all images must have.
fn numbers(shards: &[PathBuf], members: &[Member], given: Vec<Option<usize>>) -> Result<Labelled> {
    let without: Vec<String> = members
        .iter()
        .zip(&given)
        .filter(|(_, class)| class.is_none())
        .take(LISTED)
        .map(|(member, _)| format!("{}/{}", shards[member.shard].display(), member.name))
        .collect();
    if !without.is_empty() {
        return Err(Error::Data(format!(
            "some images have a .cls member with their class and others have none, such as {}; give all of them one, or none",
            without.join(", ")
        )));
    }
    let labels: Vec<usize> = given.into_iter().flatten().collect();
    let classes = labels.iter().max().map_or(0, |&largest| largest + 1);
    let names = (0..classes).map(|class| class.to_string()).collect();
    Ok((Some(labels), names))
}

/// The folder that names the class of each member: the first below the folders that all of them share. None if some
/// member lies in no further folder.
fn folders(members: &[Member]) -> Option<Vec<String>> {
    // Bytes, for names may differ in the middle of a character; a slash is one in itself.
    let up_to_slash = |name: &[u8]| {
        name.iter()
            .rposition(|&byte| byte == b'/')
            .map_or(0, |at| at + 1)
    };
    let first = members.first()?.name.as_bytes();
    let mut shared = up_to_slash(first);
    for member in members {
        let pairs = first[..shared].iter().zip(member.name.as_bytes());
        let common = pairs.take_while(|(a, b)| a == b).count();
        shared = up_to_slash(&first[..common]);
    }
    let class = |member: &Member| Some(member.name[shared..].split_once('/')?.0.to_string());
    members.iter().map(class).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{DynamicImage, ImageFormat};
    use std::io::Cursor;

    fn png(side: u32) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        let image = DynamicImage::new_rgb8(side, side);
        image
            .write_to(&mut bytes, ImageFormat::Png)
            .expect("encodes");
        bytes.into_inner()
    }

    fn write(path: &Path, members: &[(&str, Vec<u8>)]) {
        let mut builder = tar::Builder::new(File::create(path).expect("created"));
        for (name, bytes) in members {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            builder
                .append_data(&mut header, name, &bytes[..])
                .expect("appended");
        }
        builder.finish().expect("finished");
    }

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("a folder")
    }

    fn open(pattern: &Path) -> Result<TarShards> {
        TarShards::open(&pattern.display().to_string(), &DataConfig::default())
    }

    fn refused(pattern: &Path) -> String {
        open(pattern).err().expect("refused").to_string()
    }

    #[test]
    fn samples_of_several_shards_have_their_class_numbers() {
        let root = folder();
        let class = |text: &str| text.as_bytes().to_vec();
        // Longer than a header has room for.
        let long = format!("{}/0007.png", "x".repeat(150));
        write(
            &root.path().join("s-09.tar"),
            &[
                ("0001.png", png(1)),
                ("0001.cls", class("3")),
                ("0001.json", class("{}")),
                ("0002.cls", class("0\n")),
                ("0002.seg.png", png(2)),
            ],
        );
        write(
            &root.path().join("s-10.tar"),
            &[(&long, png(7)), (&long.replace(".png", ".cls"), class("1"))],
        );
        for pattern in ["s-{09..10}.tar", ""] {
            let source = open(&root.path().join(pattern)).expect("opens");
            let labels: Vec<_> = (0..source.len()).map(|i| source.label(i)).collect();
            assert_eq!(labels, [Some(3), Some(0), Some(1)]);
            assert_eq!(source.classes(), ["0", "1", "2", "3"]);
            for (index, side) in [1, 2, 7].into_iter().enumerate() {
                assert_eq!(source.image(index).expect("an image").width(), side);
            }
            assert!(source.name(1).ends_with("s-09.tar/0002.seg.png"));
        }
        let one = open(&root.path().join("s-10.tar")).expect("opens");
        assert_eq!(one.len(), 1);
    }

    #[test]
    fn folders_are_classes_without_class_numbers() {
        let root = folder();
        let path = root.path().join("a.tar");
        write(
            &path,
            &[
                ("./b/1.png", png(1)),
                ("a/x/2.png", png(2)),
                ("b/notes.txt", vec![1]),
            ],
        );
        let source = open(&path).expect("opens");
        assert_eq!(source.classes(), ["a", "b"]);
        assert_eq!((source.label(0), source.label(1)), (Some(1), Some(0)));
        for unlabelled in [["b/1.png", "2.png"], ["b/1.png", "b/2.png"]] {
            write(&path, &unlabelled.map(|name| (name, png(1))));
            let source = open(&path).expect("opens");
            assert!(source.classes().is_empty() && source.label(0).is_none());
        }
        write(&path, &[("train/1.png", png(1)), ("val/2.png", png(2))]);
        assert!(refused(&path).contains("several parts (train, val)"));
    }

    #[test]
    fn folders_that_all_share_and_hidden_members_are_passed_over() {
        let root = folder();
        let path = root.path().join("a.tar");
        write(
            &path,
            &[
                ("photos/._cat.png", vec![0, 5, 22, 7]),
                ("photos/cats/1.png", png(1)),
                ("photos/cats/._1.png", vec![0, 5, 22, 7]),
                ("photos/cattle/2.png", png(2)),
                (".cache/3.png", png(3)),
            ],
        );
        let source = open(&path).expect("opens");
        assert_eq!(source.classes(), ["cats", "cattle"]);
        assert_eq!((source.len(), source.label(1)), (2, Some(1)));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let root = folder();
        let path = root.path().join("a.tar");
        write(
            &path,
            &[("1.png", png(1)), ("1.cls", vec![b'7']), ("2.png", png(1))],
        );
        assert!(refused(&path).contains("a.tar/2.png"));
        write(&path, &[("1.png", png(1)), ("1.cls", b"cat".to_vec())]);
        assert!(refused(&path).contains("\"cat\" is no class number"));
        write(&path, &[("1.png", b"text, not an image".to_vec())]);
        assert!(refused(&path).contains("a.tar/1.png"));
        write(&path, &[("1.txt", b"text".to_vec())]);
        assert!(refused(&path).contains("no images"));
        write(&path, &[("1.png", png(40))]);
        let whole = fs::read(&path).expect("read");
        fs::write(&path, &whole[..560]).expect("written");
        assert!(
            refused(&path).contains("ends within 1.png"),
            "{}",
            refused(&path)
        );
        fs::write(&path, [0x1f, 0x8b, 8, 0]).expect("written");
        assert!(refused(&path).contains("gzip"));
        fs::write(&path, vec![b'x'; 2000]).expect("written");
        assert!(refused(&path).contains("no tar file"), "{}", refused(&path));
        assert!(refused(&root.path().join("b.tar")).contains("b.tar"));
        for wrong in ["{1..x}", "{+1..2}", "{2..1}", "{0..4000000000}"] {
            assert!(
                refused(&root.path().join(wrong)).contains("no range"),
                "{wrong}"
            );
        }
        let long = format!("{{{}1..2}}", "0".repeat(70_000));
        assert!(refused(&root.path().join(long)).contains("no range"));
        assert!(refused(Path::new("")).contains("tar needs its files"));
        assert!(refused(&root.path().join("{01..02}.tar")).contains("01.tar"));
        fs::remove_file(&path).expect("removed");
        assert!(refused(root.path()).contains("no .tar files"));
    }

    /// A header can claim any size, for any kind of member.
    #[test]
    fn sizes_that_no_file_has_are_refused() {
        let root = folder();
        let path = root.path().join("a.tar");
        for kind in [
            tar::EntryType::Regular,
            tar::EntryType::Directory,
            tar::EntryType::GNULongName,
            tar::EntryType::XHeader,
        ] {
            for size in [1 << 40, i64::MAX as u64, u64::MAX] {
                let mut header = tar::Header::new_gnu();
                header.set_path("1.png").expect("a name");
                header.set_entry_type(kind);
                header.set_size(size);
                header.set_cksum();
                let mut bytes = header.as_bytes().to_vec();
                bytes.extend(png(1));
                bytes.resize(2048, 0);
                fs::write(&path, bytes).expect("written");
                let message = refused(&path);
                assert!(message.contains("a.tar"), "{kind:?} of {size}: {message}");
            }
        }
    }

    #[test]
    fn sample_names() {
        for (name, expected) in [
            ("a/b.c/0001.seg.png", "a/b.c/0001"),
            ("0001.png", "0001"),
            ("0001", "0001"),
        ] {
            assert_eq!(sample(name), expected);
        }
    }
}
