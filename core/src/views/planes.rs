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
        let mut data = vec![0; self.data.len()];
        self.interleave(&mut data);
        Rgb8::new(self.width, self.height, data)
    }

    /// Writes the pixels as `[height, width, 3]`.
    ///
    /// # Panics
    /// If `out` has another length.
    pub fn interleave(&self, out: &mut [u8]) {
        assert_eq!(out.len(), self.data.len(), "length of an image");
        let [red, green, blue] = self.channels();
        let pixels = red.iter().zip(green).zip(blue);
        let (to, _) = out.as_chunks_mut::<3>();
        for (to, ((&r, &g), &b)) in to.iter_mut().zip(pixels) {
            *to = [r, g, b];
        }
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

#[cfg(test)]
mod tests {
    use super::*;

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
