//! The bytes of image files, and of nothing else.

use super::decode::{MAX_DECODED_BYTES, begins_as_image, no_known_format, not_an_image};
use crate::{Error, Result};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Most bytes of an image file: more than the pixels may have in memory ([`MAX_DECODED_BYTES`]) no picture needs.
pub const MAX_FILE_BYTES: u64 = MAX_DECODED_BYTES;

/// How many first bytes tell a format.
const MAGIC_BYTES: u64 = 32;

/// The bytes of the image file at `path`. What is no image by its first bytes is not read any further.
///
/// # Errors
/// If it cannot be read, is no plain file (a pipe could be waited for without end, and a device has none), begins as no
/// image does, or has more than [`MAX_FILE_BYTES`].
pub fn file_bytes(path: &Path) -> Result<Vec<u8>> {
    let (mut file, size) = open_plain(path)?;
    let mut bytes = Vec::new();
    read_up_to(&mut file, MAGIC_BYTES, &mut bytes, path)?;
    if !begins_as_image(&bytes) {
        return Err(no_known_format(path));
    }
    if size > MAX_FILE_BYTES {
        return Err(too_large(path));
    }
    bytes.reserve_exact(size as usize);
    // It may grow while it is read.
    read_up_to(&mut file, MAX_FILE_BYTES, &mut bytes, path)?;
    match bytes.len() as u64 {
        0..=MAX_FILE_BYTES => Ok(bytes),
        _ => Err(too_large(path)),
    }
}

/// Opens what is a file with bytes of its own, and nothing else: opening a pipe would wait for its other end. With it comes
/// the number of its bytes, as it was before.
pub(super) fn open_plain(path: &Path) -> Result<(File, u64)> {
    let found = std::fs::metadata(path).map_err(Error::io("read", path))?;
    if !found.is_file() {
        let kind = if found.is_dir() {
            "a folder"
        } else {
            "no plain file"
        };
        return Err(not_an_image(path, &format!("it is {kind}")));
    }
    let file = File::open(path).map_err(Error::io("read", path))?;
    Ok((file, found.len()))
}

/// Adds at most `limit` bytes of `file`; how many.
pub(super) fn read_up_to(
    file: &mut File,
    limit: u64,
    bytes: &mut Vec<u8>,
    path: &Path,
) -> Result<u64> {
    let part = file.by_ref().take(limit).read_to_end(bytes);
    part.map(|count| count as u64)
        .map_err(Error::io("read", path))
}

fn too_large(path: &Path) -> Error {
    not_an_image(
        path,
        &format!("it has more than {MAX_FILE_BYTES} bytes, the most of a file"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{probe, read};
    use image::{DynamicImage, ImageFormat};
    use std::io::Cursor;

    /// A file that says it is 3 GiB large takes no memory, neither as zeros nor as an image with zeros behind it.
    #[test]
    fn no_file_is_read_beyond_what_an_image_may_have() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.jpg");
        let mut jpeg = Cursor::new(Vec::new());
        DynamicImage::new_rgb8(30, 20)
            .write_to(&mut jpeg, ImageFormat::Jpeg)
            .expect("encodes");
        for (begin, said) in [
            (&Vec::new(), "no known image format"),
            (jpeg.get_ref(), "more than 536870912 bytes"),
        ] {
            std::fs::write(&path, begin).expect("writes");
            let file = File::options().write(true).open(&path).expect("opens");
            if file.set_len(3 << 30).is_err() {
                return;
            }
            let message = read(&path).expect_err("refused").to_string();
            assert!(
                message.contains("a.jpg: ") && message.contains(said),
                "{message}"
            );
        }
        let message = read(folder.path()).expect_err("refused").to_string();
        assert!(message.contains("it is a folder"), "{message}");
    }

    #[test]
    #[cfg(unix)]
    fn devices_and_pipes_are_not_waited_for() {
        use std::os::fd::AsRawFd;
        // Nothing is started for it: a child has the locks of other tests until it is another program.
        let (pipe, _open) = std::io::pipe().expect("a pipe");
        let pipe = format!("/dev/fd/{}", pipe.as_raw_fd());
        for path in [pipe.as_str(), "/dev/zero"].map(Path::new) {
            for refused in [read(path).err(), probe(path).err()] {
                let message = refused.expect("refused").to_string();
                assert!(message.contains("it is no plain file"), "{message}");
            }
        }
    }
}
