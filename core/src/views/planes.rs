//! The working form of a view: three planes of bytes, so that one instruction serves many pixels.

use super::simd::dispatch;
use crate::Result;
use crate::pixels::Rgb8;

/// An 8-bit RGB image as planes, `[3, height, width]`. Kept and reused between views.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Planes {
    width: usize,
    height: usize,
    data: Vec<u8>,
}

impl Planes {
    /// Splits `image` into planes.
    pub fn from_rgb(image: &Rgb8) -> Self {
        let mut planes = Self::default();
        planes.reset(image.width(), image.height());
        let [red, green, blue] = planes.channels_mut();
        dispatch(
            #[inline(always)]
            || deinterleave(image.data(), red, green, blue),
        );
        planes
    }

    /// Interleaves the planes.
    ///
    /// # Errors
    /// If the image has no pixel.
    pub fn to_rgb(&self) -> Result<Rgb8> {
        let [red, green, blue] = self.channels();
        let pixels = red.iter().zip(green).zip(blue);
        let data = pixels.flat_map(|((&r, &g), &b)| [r, g, b]).collect();
        Rgb8::new(self.width, self.height, data)
    }

    /// Makes this a `width` x `height` image; the pixels are whatever was there.
    pub(super) fn reset(&mut self, width: usize, height: usize) {
        (self.width, self.height) = (width, height);
        self.data.resize(3 * width * height, 0);
    }

    /// Width in pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// All bytes, `[3, height, width]`.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    pub(super) fn data_mut(&mut self) -> &mut [u8] {
        &mut self.data
    }

    /// Red, green and blue, `[height, width]` each.
    pub fn channels(&self) -> [&[u8]; 3] {
        let (red, rest) = self.data.split_at(self.width * self.height);
        let (green, blue) = rest.split_at(self.width * self.height);
        [red, green, blue]
    }

    /// Red, green and blue, mutable.
    pub fn channels_mut(&mut self) -> [&mut [u8]; 3] {
        let (red, rest) = self.data.split_at_mut(self.width * self.height);
        let (green, blue) = rest.split_at_mut(self.width * self.height);
        [red, green, blue]
    }

    /// Mirrors left and right.
    pub fn flip_horizontally(&mut self) {
        for row in self.data.chunks_exact_mut(self.width.max(1)) {
            row.reverse();
        }
    }

    /// Writes `[3, height, width]` floats, `(value / 255 - mean) / std` per channel.
    ///
    /// # Panics
    /// If `out` has another length.
    pub fn normalise(&self, mean: [f32; 3], std: [f32; 3], out: &mut [f32]) {
        assert_eq!(out.len(), self.data.len(), "length of a normalised view");
        let area = self.width * self.height;
        for (c, plane) in self.channels().into_iter().enumerate() {
            let (scale, offset) = ((255.0 * std[c]).recip(), -mean[c] / std[c]);
            let out = &mut out[c * area..][..area];
            dispatch(
                #[inline(always)]
                || {
                    for (to, &from) in out.iter_mut().zip(plane) {
                        *to = f32::from(from) * scale + offset;
                    }
                },
            );
        }
    }
}

/// Splits interleaved RGB into three slices of a third of its length.
#[inline(always)]
pub(super) fn deinterleave(rgb: &[u8], red: &mut [u8], green: &mut [u8], blue: &mut [u8]) {
    let (pixels, _) = rgb.as_chunks::<3>();
    for (((pixel, r), g), b) in pixels.iter().zip(red).zip(green).zip(blue) {
        [*r, *g, *b] = *pixel;
    }
}

/// Side of the blocks in which bytes are transposed: eight rows of one `u64` each.
pub(super) const BLOCK: usize = 8;

/// Transposes a matrix of bytes. `from` has rows of `from_stride`, `to` rows of `to_stride` bytes; the
/// first `width` columns of `height` rows are moved, both rounded up to a multiple of [`BLOCK`], which
/// the strides and lengths must allow for.
#[inline(always)]
pub(super) fn transpose(
    from: &[u8],
    from_stride: usize,
    (width, height): (usize, usize),
    to: &mut [u8],
    to_stride: usize,
) {
    for y in (0..height).step_by(BLOCK) {
        for x in (0..width).step_by(BLOCK) {
            let mut rows = [0u64; BLOCK];
            for (k, row) in rows.iter_mut().enumerate() {
                *row = read8(from, (y + k) * from_stride + x);
            }
            let columns = transpose8(rows);
            for (k, column) in columns.into_iter().enumerate() {
                let at = (x + k) * to_stride + y;
                to[at..at + BLOCK].copy_from_slice(&column.to_le_bytes());
            }
        }
    }
}

#[inline(always)]
fn read8(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; BLOCK];
    word.copy_from_slice(&bytes[at..at + BLOCK]);
    u64::from_le_bytes(word)
}

/// Transposes an 8 x 8 matrix of bytes, one row per word, by exchanging the off-diagonal quarters of
/// ever smaller squares (the recursive scheme of Warren, "Hacker's Delight", section 7-3).
#[inline(always)]
fn transpose8(mut rows: [u64; BLOCK]) -> [u64; BLOCK] {
    exchange::<4>(&mut rows, 0x0000_0000_ffff_ffff);
    exchange::<2>(&mut rows, 0x0000_ffff_0000_ffff);
    exchange::<1>(&mut rows, 0x00ff_00ff_00ff_00ff);
    rows
}

/// Exchanges the upper right and the lower left quarter of each square of `2 * HALF` rows and bytes.
#[inline(always)]
fn exchange<const HALF: usize>(rows: &mut [u64; BLOCK], low: u64) {
    for square in rows.chunks_exact_mut(2 * HALF) {
        let (upper, lower) = square.split_at_mut(HALF);
        for (a, b) in upper.iter_mut().zip(lower) {
            let swap = ((*a >> (8 * HALF)) ^ *b) & low;
            *a ^= swap << (8 * HALF);
            *b ^= swap;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transposes_any_size() {
        for (width, height) in [(1_usize, 1_usize), (8, 8), (9, 17), (24, 5)] {
            let (w8, h8) = (
                width.next_multiple_of(BLOCK),
                height.next_multiple_of(BLOCK),
            );
            let from: Vec<u8> = (0..w8 * h8).map(|i| (i * 7 % 251) as u8).collect();
            let mut to = vec![0; w8 * h8];
            transpose(&from, w8, (width, height), &mut to, h8);
            for y in 0..height {
                for x in 0..width {
                    assert_eq!(
                        to[x * h8 + y],
                        from[y * w8 + x],
                        "{width} x {height} at {x}, {y}"
                    );
                }
            }
        }
    }

    #[test]
    fn planes_and_back() {
        let image = Rgb8::new(3, 2, (0..18).collect()).expect("18 bytes");
        let mut planes = Planes::from_rgb(&image);
        assert_eq!(planes.channels()[1], [1, 4, 7, 10, 13, 16]);
        assert_eq!(planes.to_rgb().expect("not empty"), image);
        planes.flip_horizontally();
        assert_eq!(planes.channels()[0], [6, 3, 0, 15, 12, 9]);
    }
}
