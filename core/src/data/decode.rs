//! Files to pixels.

use crate::pixels::Rgb8;
use crate::{Error, Result};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageReader, Limits};
use rayon::prelude::*;
use std::fs::File;
use std::io::{BufRead, Cursor, Read, Seek};
use std::path::{Path, PathBuf};

/// Endings of file names that are taken for images, in any case.
const ENDINGS: [&str; 6] = ["jpg", "jpeg", "png", "bmp", "gif", "webp"];

/// The longest side that is decoded, in pixels, and the memory a decoder may take: a small file can
/// claim to be a huge image.
const MAX_SIDE: u32 = 1 << 16;
pub(super) const MAX_BYTES: u64 = 1 << 30;

/// How much of a file is read at first for its size.
const HEADER_BYTES: u64 = 1 << 16;

/// Whether a file's name says that it is an image this crate reads.
pub fn is_image_name(path: &Path) -> bool {
    path.extension()
        .and_then(|ending| ending.to_str())
        .is_some_and(|ending| {
            ENDINGS
                .iter()
                .any(|known| ending.eq_ignore_ascii_case(known))
        })
}

/// Whether these are the first bytes of an image, as far as its format's magic number tells; 32 are enough.
pub(super) fn begins_as_image(bytes: &[u8]) -> bool {
    image::guess_format(bytes).is_ok()
}

/// Reads and decodes the image file at `path`; see [`decode`].
///
/// # Errors
/// If it cannot be read or is no image.
pub fn read(path: &Path) -> Result<Rgb8> {
    let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
    decode(&bytes, path)
}

/// Reads many files at once, on all threads of the current rayon pool; see [`read`].
pub fn read_all(paths: &[PathBuf]) -> Vec<Result<Rgb8>> {
    paths.par_iter().map(|path| read(path)).collect()
}

/// Decodes an image. The contents decide the format, not the name, which is used in messages only.
///
/// Transparency is dropped, grey is spread over the three channels, 16 bits are rounded to 8, and of an
/// animation the first picture is taken. The orientation a camera noted in EXIF is applied, so that
/// a photo lies as its owner sees it (PIL-based pipelines, the authors' among them, ignore it).
///
/// # Errors
/// If the bytes are no image, damaged, or larger than 65536 pixels a side or 1 GiB in memory.
pub fn decode(bytes: &[u8], name: &Path) -> Result<Rgb8> {
    let fail = |error: &dyn std::fmt::Display| not_an_image(name, error);
    let mut decoder = reader(Cursor::new(bytes), name)?
        .into_decoder()
        .map_err(|error| fail(&error))?;
    // Damaged EXIF data is no reason to refuse a picture.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let image = DynamicImage::from_decoder(decoder).map_err(|error| fail(&error))?;
    oriented(image, orientation)
}

/// The image turned as `orientation` says, as bytes.
pub(super) fn oriented(mut image: DynamicImage, orientation: Orientation) -> Result<Rgb8> {
    image.apply_orientation(orientation);
    let image = image.into_rgb8();
    let (width, height) = image.dimensions();
    Rgb8::new(width as usize, height as usize, image.into_raw())
}

/// Width and height in pixels that the file at `path` claims, read from its first bytes.
///
/// # Errors
/// If it cannot be read, or does not begin as an image does.
pub fn probe(path: &Path) -> Result<(usize, usize)> {
    let mut file = File::open(path).map_err(Error::io("read", path))?;
    // JPEG's decoder reads all it is given, and a data set's first bytes are a hundredth of it.
    let mut bytes = Vec::new();
    let mut read = |limit: u64, bytes: &mut Vec<u8>| {
        let part = file.by_ref().take(limit).read_to_end(bytes);
        part.map_err(Error::io("read", path))
    };
    let first = read(HEADER_BYTES, &mut bytes)?;
    let mut size = dimensions(&bytes, path);
    // A long colour profile or a preview can stand before the size.
    if size.is_err() && first as u64 == HEADER_BYTES {
        read(u64::MAX, &mut bytes)?;
        size = dimensions(&bytes, path);
    }
    let (width, height) = size?;
    if width == 0 || height == 0 {
        return Err(not_an_image(path, &"it has no pixels"));
    }
    Ok((width as usize, height as usize))
}

fn dimensions(bytes: &[u8], name: &Path) -> Result<(u32, u32)> {
    reader(Cursor::new(bytes), name)?
        .into_dimensions()
        .map_err(|error| not_an_image(name, &error))
}

fn reader<R: BufRead + Seek>(from: R, name: &Path) -> Result<ImageReader<R>> {
    let mut reader = ImageReader::new(from)
        .with_guessed_format()
        .map_err(Error::io("read", name))?;
    if reader.format().is_none() {
        return Err(not_an_image(
            name,
            &"its contents are of no known image format",
        ));
    }
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_BYTES);
    reader.limits(limits);
    Ok(reader)
}

fn not_an_image(path: &Path, reason: &dyn std::fmt::Display) -> Error {
    Error::malformed(
        path,
        format!("not a readable image ({reason}); repair or remove the file"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{ImageFormat, RgbaImage};

    fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, format).expect("encodes");
        bytes.into_inner()
    }

    #[test]
    fn transparency_is_dropped_and_grey_spread() {
        let rgba = RgbaImage::from_raw(2, 1, vec![10, 20, 30, 0, 40, 50, 60, 255]).expect("2 x 1");
        let png = encoded(&rgba.into(), ImageFormat::Png);
        let image = decode(&png, Path::new("a.png")).expect("decodes");
        assert_eq!(image.data(), [10, 20, 30, 40, 50, 60]);
        let grey = image::GrayImage::from_raw(1, 2, vec![7, 200]).expect("1 x 2");
        let bmp = encoded(&grey.into(), ImageFormat::Bmp);
        // The name does not matter.
        let image = decode(&bmp, Path::new("a.jpg")).expect("decodes");
        assert_eq!(image.data(), [7, 7, 7, 200, 200, 200]);
        assert_eq!((image.width(), image.height()), (1, 2));
    }

    #[test]
    fn damage_and_bombs_are_refused_by_name() {
        let rgb = DynamicImage::new_rgb8(20, 20);
        let png = encoded(&rgb, ImageFormat::Png);
        let mut huge = png.clone();
        huge[16..20].copy_from_slice(&1_000_000_u32.to_be_bytes());
        for bytes in [&b"plain text"[..], &[], &png[..png.len() / 2], &huge] {
            let message = decode(bytes, Path::new("x.png"))
                .expect_err("refused")
                .to_string();
            assert!(
                message.starts_with("x.png: not a readable image"),
                "{message}"
            );
        }
    }

    #[test]
    fn a_size_is_found_wherever_it_stands() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.jpg");
        let jpeg = encoded(&DynamicImage::new_rgb8(30, 20), ImageFormat::Jpeg);
        let mut late = jpeg[..2].to_vec();
        // Two comments of the greatest length push the size beyond the first bytes.
        for _ in 0..2 {
            late.extend([0xFF, 0xFE, 0xFF, 0xFF]);
            late.extend(std::iter::repeat_n(b' ', 0xFFFF - 2));
        }
        late.extend(&jpeg[2..]);
        for bytes in [&jpeg, &late] {
            std::fs::write(&path, bytes).expect("writes");
            assert_eq!(probe(&path).expect("an image"), (30, 20));
        }
        std::fs::write(&path, vec![b' '; 100_000]).expect("writes");
        assert!(probe(&path).is_err());
    }

    #[test]
    fn names() {
        for (name, expected) in [
            ("a.JPG", true),
            ("b.webp", true),
            ("c.txt", false),
            ("jpg", false),
        ] {
            assert_eq!(is_image_name(Path::new(name)), expected, "{name}");
        }
    }
}
