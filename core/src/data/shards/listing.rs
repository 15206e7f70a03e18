//! What the headers of a tar file say.

use crate::data::decode::{begins_as_image, is_image_name};
use crate::{Error, Result};
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;

/// Class numbers that a `.cls` file may give lie below this.
const MAX_CLASS: usize = 1_000_000;
/// The largest image file in bytes: what is decoded is no larger.
const MAX_BYTES: u64 = 1 << 30;

/// An image in a tar file.
pub(super) struct Member {
    pub(super) shard: usize,
    pub(super) name: Box<str>,
    pub(super) offset: u64,
    pub(super) size: usize,
}

/// What the headers of a tar file say.
pub(super) struct Listing {
    pub(super) images: Vec<Member>,
    /// Class numbers, by the names of their images up to the first dot.
    pub(super) classes: HashMap<Box<str>, usize>,
}

/// Reads the headers of a tar file, class numbers, and the first bytes of each image.
pub(super) fn list(shard: usize, path: &Path) -> Result<Listing> {
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
