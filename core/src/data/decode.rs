//! Files to pixels.

use super::file::{MAX_FILE_BYTES, file_bytes, open_plain, read_up_to};
use crate::pixels::Rgb8;
use crate::{Error, Result};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageReader, Limits};
use rayon::prelude::*;
use std::io::{BufRead, Cursor, Seek};
use std::path::{Path, PathBuf};

/// Endings of file names that are taken for images, in any case.
const ENDINGS: [&str; 6] = ["jpg", "jpeg", "png", "bmp", "gif", "webp"];

/// The longest side that is decoded, in pixels: a small file can claim to be a huge image.
const MAX_SIDE: u32 = 1 << 16;

/// Most bytes that an image may have when it is decoded, each pixel counted as three or, where it has more (an
/// alpha channel, 16 bits), as those: 512 MiB, or 178,956,970 plain pixels. There Pillow refuses an image as a
/// decompression bomb, too; a camera's photo has a third of it at most. Decoding takes up to four times as much
/// for a moment (a progressive JPEG's coefficients, a copy that is turned), for each image decoded at a time.
pub const MAX_DECODED_BYTES: u64 = 1 << 29;

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
    decode(&file_bytes(path)?, path)
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
/// If the bytes are no image, damaged, or larger than 65536 pixels a side or [`MAX_DECODED_BYTES`].
pub fn decode(bytes: &[u8], name: &Path) -> Result<Rgb8> {
    decode_within(bytes, name, MAX_DECODED_BYTES)
}

/// As [`decode`], with another limit than [`MAX_DECODED_BYTES`]: a lower one where strangers send images, a higher
/// one where they are known to be huge. The size is checked before the pixels get their memory.
///
/// # Errors
/// As [`decode`].
pub fn decode_within(bytes: &[u8], name: &Path, limit: u64) -> Result<Rgb8> {
    let fail = |error: &dyn std::fmt::Display| not_an_image(name, error);
    let mut reader = reader(Cursor::new(bytes), name)?;
    reader.limits(limits(limit));
    let mut decoder = reader.into_decoder().map_err(|error| fail(&error))?;
    let (width, height) = decoder.dimensions();
    let wide = decoder.color_type().bytes_per_pixel();
    // The decoders themselves check the sides alone, and what they allocate is filled before it is decoded.
    check_size([width, height], wide, limit).map_err(|reason| Error::malformed(name, reason))?;
    // Damaged EXIF data is no reason to refuse a picture.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let image = DynamicImage::from_decoder(decoder).map_err(|error| fail(&error))?;
    oriented(image, orientation)
}

/// Refuses an image of `sides`, with so many bytes in each decoded pixel, that is larger than `limit`.
pub(super) fn check_size(
    [width, height]: [u32; 2],
    bytes_per_pixel: u8,
    limit: u64,
) -> std::result::Result<(), String> {
    let pixels = u64::from(width) * u64::from(height);
    let bytes = pixels.saturating_mul(u64::from(bytes_per_pixel.max(3)));
    if bytes > limit {
        return Err(format!(
            "an image of {width} x {height} pixels, {bytes} bytes when decoded, and {limit} is the most; scale it down or cut it up"
        ));
    }
    Ok(())
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
/// If it cannot be read, does not begin as an image does, or claims more pixels than [`decode`] takes.
pub fn probe(path: &Path) -> Result<(usize, usize)> {
    let (mut file, _) = open_plain(path)?;
    // JPEG's decoder reads all it is given, and a data set's first bytes are a hundredth of it.
    let mut bytes = Vec::new();
    let first = read_up_to(&mut file, HEADER_BYTES, &mut bytes, path)?;
    let mut size = dimensions(&bytes, path);
    // A long colour profile or a preview can stand before the size.
    if size.is_err() && first == HEADER_BYTES && begins_as_image(&bytes) {
        read_up_to(&mut file, MAX_FILE_BYTES, &mut bytes, path)?;
        size = dimensions(&bytes, path);
    }
    let (width, height) = size?;
    if width == 0 || height == 0 {
        return Err(not_an_image(path, &"it has no pixels"));
    }
    check_size([width, height], 3, MAX_DECODED_BYTES)
        .map_err(|reason| Error::malformed(path, reason))?;
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
        return Err(no_known_format(name));
    }
    reader.limits(limits(MAX_DECODED_BYTES));
    Ok(reader)
}

/// What a decoder may take for itself, beside the pixels that it hands over: enough to say how large the image is, however
/// little is allowed.
fn limits(bytes: u64) -> Limits {
    const LEAST: u64 = 16 << 20;
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(bytes.max(LEAST));
    limits
}

pub(super) fn no_known_format(path: &Path) -> Error {
    not_an_image(path, &"its contents are of no known image format")
}

pub(super) fn not_an_image(path: &Path, reason: &dyn std::fmt::Display) -> Error {
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

    /// A small image of `format` whose header claims `width` x `height`.
    fn claiming(format: ImageFormat, width: u32, height: u32) -> Vec<u8> {
        let rgb = DynamicImage::new_rgb8(20, 30);
        let image = match format {
            // GIF's encoder takes palettes or alpha.
            ImageFormat::Gif => rgb.into_rgba8().into(),
            _ => rgb,
        };
        let mut bytes = encoded(&image, format);
        let short = |side: u32| u16::try_from(side).expect("a short side");
        match format {
            ImageFormat::Png => {
                bytes[16..20].copy_from_slice(&width.to_be_bytes());
                bytes[20..24].copy_from_slice(&height.to_be_bytes());
                let sum = crc32(&bytes[12..29]);
                bytes[29..33].copy_from_slice(&sum.to_be_bytes());
            }
            ImageFormat::Jpeg => {
                let frame = bytes.windows(2).position(|two| two == [0xFF, 0xC0]);
                let at = frame.expect("a frame") + 5;
                bytes[at..at + 2].copy_from_slice(&short(height).to_be_bytes());
                bytes[at + 2..at + 4].copy_from_slice(&short(width).to_be_bytes());
            }
            ImageFormat::Gif => {
                bytes[6..8].copy_from_slice(&short(width).to_le_bytes());
                bytes[8..10].copy_from_slice(&short(height).to_le_bytes());
            }
            ImageFormat::Bmp => {
                bytes[18..22].copy_from_slice(&width.to_le_bytes());
                bytes[22..26].copy_from_slice(&height.to_le_bytes());
            }
            other => panic!("{other:?}"),
        }
        bytes
    }

    /// The sum that PNG has behind every part.
    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(u32::MAX, |sum, &byte| {
            (0..8).fold(sum ^ u32::from(byte), |sum, _| {
                (sum >> 1) ^ (0xEDB8_8320 * (sum & 1))
            })
        })
    }

    const FORMATS: [ImageFormat; 4] = [
        ImageFormat::Png,
        ImageFormat::Jpeg,
        ImageFormat::Gif,
        ImageFormat::Bmp,
    ];

    #[test]
    fn what_a_header_claims_is_checked_before_it_is_allocated() {
        for format in FORMATS {
            // 10.8 GB, or one row too many of 13,378.
            for (width, height) in [(60_000, 60_000), (13_378, 13_378)] {
                let bytes = claiming(format, width, height);
                let message = decode(&bytes, Path::new("x.img"))
                    .expect_err("refused")
                    .to_string();
                let said = format!("x.img: an image of {width} x {height} pixels");
                assert!(message.starts_with(&said), "{format:?}: {message}");
                assert!(message.contains("536870912 is the most; scale it down"));
            }
        }
    }

    #[test]
    fn another_limit_can_be_set() {
        for format in FORMATS {
            let bytes = claiming(format, 20, 30);
            let width = if format == ImageFormat::Gif { 4 } else { 3 };
            let size = 20 * 30 * width;
            let image = decode_within(&bytes, Path::new("x"), 1 << 20).expect("decodes");
            assert_eq!((image.width(), image.height()), (20, 30), "{format:?}");
            let message = decode_within(&bytes, Path::new("x"), size - 1).expect_err("refused");
            let said = format!("{size} bytes when decoded");
            assert!(message.to_string().contains(&said), "{format:?}: {message}");
        }
        // Grey becomes three channels.
        assert!(check_size([10, 10], 1, 300).is_ok());
        assert!(check_size([10, 10], 1, 299).is_err());
        assert!(check_size([10, 10], 8, 799).is_err());
        assert!(check_size([u32::MAX; 2], 16, u64::MAX - 1).is_err());
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
        // What cannot be decoded is found before it has to be.
        let huge = claiming(ImageFormat::Png, 13_378, 13_378);
        std::fs::write(&path, huge).expect("writes");
        let message = probe(&path).expect_err("refused").to_string();
        assert!(message.contains("scale it down"), "{message}");
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
