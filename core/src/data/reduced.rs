//! JPEG files decoded at a fraction of their size.
//!
//! A camera's photo has fifty times the pixels that a network wants, and decoding them all takes longer than
//! running the network. JPEG stores blocks of frequencies: leaving the high ones out gives an image of a
//! half, a quarter or an eighth of the size for a fraction of the work.

use super::decode::{MAX_DECODED_BYTES, check_size, decode_within, oriented};
use super::file::file_bytes;
use crate::Result;
use crate::pixels::Rgb8;
use image::metadata::Orientation;
use image::{DynamicImage, GrayImage, RgbImage};
use jpeg_decoder::{Decoder, PixelFormat};
use std::path::Path;

/// How many times as large as wanted an image must be: the decoder that can reduce is the slower one.
const WORTH: usize = 2;

/// Reads the image file at `path`; a JPEG file may come at a half, a quarter or an eighth of its size, as long
/// as its short side keeps `short` pixels. Everything else is as [`super::read`].
///
/// # Errors
/// If it cannot be read or is no image.
pub fn read_reduced(path: &Path, short: usize) -> Result<Rgb8> {
    decode_reduced(&file_bytes(path)?, path, short)
}

/// [`read_reduced`] for a file that is already in memory; `name` is used in messages only.
///
/// # Errors
/// As [`super::decode`].
pub fn decode_reduced(bytes: &[u8], name: &Path, short: usize) -> Result<Rgb8> {
    decode_reduced_within(bytes, name, short, MAX_DECODED_BYTES)
}

/// As [`decode_reduced`], with another limit than [`MAX_DECODED_BYTES`] for the size that the image has in full; see
/// [`super::decode_within`].
///
/// # Errors
/// As [`super::decode`].
pub fn decode_reduced_within(bytes: &[u8], name: &Path, short: usize, limit: u64) -> Result<Rgb8> {
    match reduced(bytes, short, limit) {
        Some(image) => oriented(image.0, image.1),
        None => decode_within(bytes, name, limit),
    }
}

/// The reduced image and how it has to be turned; none where it is better decoded in full, because it is
/// not larger, of an unusual kind, damaged or no JPEG.
fn reduced(bytes: &[u8], short: usize, limit: u64) -> Option<(DynamicImage, Orientation)> {
    if !bytes.starts_with(&[0xFF, 0xD8]) {
        return None;
    }
    let mut decoder = Decoder::new(bytes);
    decoder.set_max_decoding_buffer_size(usize::try_from(limit).unwrap_or(usize::MAX));
    decoder.read_info().ok()?;
    let info = decoder.info()?;
    // Of the full size: a progressive file's coefficients are all kept, however small the result is.
    let sides = [u32::from(info.width), u32::from(info.height)];
    let bytes_per_pixel = info.pixel_format.pixel_bytes() as u8;
    check_size(sides, bytes_per_pixel, limit).ok()?;
    let (width, height) = (usize::from(info.width), usize::from(info.height));
    if width.min(height) < WORTH * short {
        return None;
    }
    // The smallest size offered with one of the sides at least as asked for: only the short one can be.
    let (short, long) = (u16::try_from(short).ok()?, u16::MAX);
    let (wide, high) = if width < height {
        (short, long)
    } else {
        (long, short)
    };
    decoder.scale(wide, high).ok()?;
    let pixels = decoder.decode().ok()?;
    let size = decoder.info()?;
    let (width, height) = (u32::from(size.width), u32::from(size.height));
    let image = match size.pixel_format {
        PixelFormat::RGB24 => RgbImage::from_raw(width, height, pixels)?.into(),
        PixelFormat::L8 => GrayImage::from_raw(width, height, pixels)?.into(),
        PixelFormat::L16 | PixelFormat::CMYK32 => return None,
    };
    let orientation = decoder.exif_data().and_then(Orientation::from_exif_chunk);
    Some((image, orientation.unwrap_or(Orientation::NoTransforms)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::ImageFormat;
    use std::io::Cursor;

    fn jpeg(width: u32, height: u32) -> Vec<u8> {
        let image = RgbImage::from_fn(width, height, |x, y| {
            let wave = |t: u32| (127.0 + 120.0 * (t as f32 / 40.0).sin()) as u8;
            image::Rgb([wave(x), wave(y), wave(x + y)])
        });
        let mut bytes = Cursor::new(Vec::new());
        DynamicImage::from(image)
            .write_to(&mut bytes, ImageFormat::Jpeg)
            .expect("encodes");
        bytes.into_inner()
    }

    #[test]
    fn large_files_come_reduced_and_never_too_small() {
        let bytes = jpeg(640, 480);
        for (short, expected) in [
            (480, None),
            (241, None),
            (240, Some((320, 240))),
            (121, Some((320, 240))),
            (120, Some((160, 120))),
            (60, Some((80, 60))),
            (10, Some((80, 60))),
        ] {
            let found = reduced(&bytes, short, MAX_DECODED_BYTES);
            let size = found.map(|(image, _)| (image.width(), image.height()));
            assert_eq!(size, expected, "{short}");
        }
        for other in [&b"text"[..], &bytes[..300], &[0xFF, 0xD8], &[]] {
            assert!(reduced(other, 10, MAX_DECODED_BYTES).is_none());
        }
    }

    #[test]
    fn huge_files_are_left_to_the_decoder_that_refuses_them() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.jpg");
        let mut bytes = jpeg(640, 480);
        let frame = bytes.windows(2).position(|two| two == [0xFF, 0xC0]);
        let frame = frame.expect("a frame");
        bytes[frame + 5..frame + 9].copy_from_slice(&[0xFF, 0xDC, 0xFF, 0xDC]);
        // Of coefficients that are refined later: 25 GB.
        bytes[frame + 1] = 0xC2;
        assert!(reduced(&bytes, 10, MAX_DECODED_BYTES).is_none());
        std::fs::write(&path, bytes).expect("writes");
        let message = read_reduced(&path, 10).expect_err("refused").to_string();
        assert!(message.contains("65500 x 65500 pixels"), "{message}");
    }

    #[test]
    fn a_limit_is_for_the_full_size() {
        let (bytes, name) = (jpeg(640, 480), Path::new("a.jpg"));
        let full = 640 * 480 * 3;
        let image = decode_reduced_within(&bytes, name, 60, full).expect("decodes");
        assert_eq!((image.width(), image.height()), (80, 60));
        let refused = decode_reduced_within(&bytes, name, 60, full - 1);
        let message = refused.expect_err("too large").to_string();
        assert!(message.contains("640 x 480 pixels"), "{message}");
        assert!(message.contains(&(full - 1).to_string()), "{message}");
    }

    #[test]
    fn it_shows_the_same() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.jpg");
        std::fs::write(&path, jpeg(640, 480)).expect("writes");
        let full = super::super::read(&path).expect("reads");
        let half = read_reduced(&path, 240).expect("reads");
        assert_eq!((half.width(), half.height()), (320, 240));
        let mean = |y: usize, x: usize, c: usize| {
            let at = |dy, dx| f32::from(full.data()[((2 * y + dy) * 640 + 2 * x + dx) * 3 + c]);
            (at(0, 0) + at(0, 1) + at(1, 0) + at(1, 1)) / 4.0
        };
        let mut worst = 0.0_f32;
        for (i, &value) in half.data().iter().enumerate() {
            let (pixel, c) = (i / 3, i % 3);
            worst = worst.max((f32::from(value) - mean(pixel / 320, pixel % 320, c)).abs());
        }
        assert!(worst <= 6.0, "{worst}");
    }
}
