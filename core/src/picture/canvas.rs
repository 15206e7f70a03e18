//! Drawing on an image.

use super::font;
use crate::Result;
use crate::config::Interpolation;
use crate::pixels::Rgb8;
use crate::views::{CropBox, resized_crop};

/// An image in the making.
pub(super) struct Canvas {
    pub(super) image: Rgb8,
}

impl Canvas {
    pub(super) fn new(width: usize, height: usize, colour: [u8; 3]) -> Result<Self> {
        let data = colour.repeat(width * height);
        Ok(Self {
            image: Rgb8::new(width, height, data)?,
        })
    }

    /// Fills a rectangle, as far as it lies inside the canvas.
    pub(super) fn fill(
        &mut self,
        x: usize,
        y: usize,
        width: usize,
        height: usize,
        colour: [u8; 3],
    ) {
        let (left, right) = (
            x.min(self.image.width()),
            (x + width).min(self.image.width()),
        );
        let stride = self.image.width() * 3;
        for row in self
            .image
            .data_mut()
            .chunks_exact_mut(stride)
            .skip(y)
            .take(height)
        {
            for pixel in row[left * 3..right * 3].chunks_exact_mut(3) {
                pixel.copy_from_slice(&colour);
            }
        }
    }

    /// Fills a circle, as far as it lies inside the canvas.
    pub(super) fn dot(&mut self, x: f64, y: f64, radius: f64, colour: [u8; 3]) {
        let (top, bottom) = ((y - radius).floor().max(0.0), (y + radius).ceil().max(0.0));
        for row in top as usize..(bottom as usize).min(self.image.height()) {
            // Half the chord at the middle of this row of pixels.
            let height = row as f64 + 0.5 - y;
            let half = (radius * radius - height * height).max(0.0).sqrt();
            let (left, right) = ((x - half).round().max(0.0), (x + half).round().max(0.0));
            self.fill(left as usize, row, (right - left) as usize, 1, colour);
        }
    }

    /// Draws a line from one point to another with a square pen, as far as it lies inside the canvas.
    pub(super) fn line(
        &mut self,
        (x, y): (f64, f64),
        (to_x, to_y): (f64, f64),
        width: f64,
        colour: [u8; 3],
    ) {
        let pen = width.round().max(1.0);
        let steps = (to_x - x).abs().max((to_y - y).abs()).ceil().max(1.0);
        for step in 0..=steps as usize {
            let part = step as f64 / steps;
            let (x, y) = (x + (to_x - x) * part, y + (to_y - y) * part);
            let (left, top) = ((x - pen / 2.0).round(), (y - pen / 2.0).round());
            if left >= 0.0 && top >= 0.0 {
                self.fill(
                    left as usize,
                    top as usize,
                    pen as usize,
                    pen as usize,
                    colour,
                );
            }
        }
    }

    /// Writes a line of text with its top left corner at (x, y); one pixel of the font is `scale` pixels.
    pub(super) fn text(&mut self, x: usize, y: usize, text: &str, scale: usize, colour: [u8; 3]) {
        for (index, character) in text.chars().enumerate() {
            let left = x + index * font::ADVANCE * scale;
            for (row, bits) in font::glyph(character).into_iter().enumerate() {
                for column in
                    (0..font::WIDTH).filter(|&column| bits >> (font::WIDTH - 1 - column) & 1 == 1)
                {
                    self.fill(left + column * scale, y + row * scale, scale, scale, colour);
                }
            }
        }
    }

    /// Draws `image` centred in the square of side `tile` at (x, y), as large as fits, aspect ratio kept.
    pub(super) fn fit(&mut self, x: usize, y: usize, tile: usize, image: &Rgb8) -> Result<()> {
        let longest = image.width().max(image.height());
        let scaled = |length: usize| (length * tile).div_ceil(longest).clamp(1, tile);
        let (width, height) = (scaled(image.width()), scaled(image.height()));
        let pixels = resize(image, width, height)?;
        let (left, top) = (x + (tile - width) / 2, y + (tile - height) / 2);
        let stride = self.image.width() * 3;
        let rows = self.image.data_mut().chunks_exact_mut(stride).skip(top);
        for (target, source) in rows.zip(pixels.chunks_exact(width * 3)) {
            target[left * 3..(left + width) * 3].copy_from_slice(source);
        }
        Ok(())
    }
}

/// The pixels of `image` at another size, `[height, width, 3]`. Enlarging repeats pixels, so that small
/// images are seen as they are; shrinking is antialiased.
fn resize(image: &Rgb8, width: usize, height: usize) -> Result<Vec<u8>> {
    let (old_width, old_height) = (image.width(), image.height());
    if width < old_width {
        let whole = CropBox::whole(old_width, old_height);
        let planes = resized_crop(image, whole, (width, height), Interpolation::Bilinear);
        return Ok(planes.to_rgb()?.into_data());
    }
    let mut pixels = Vec::with_capacity(width * height * 3);
    for y in 0..height {
        let row = y * old_height / height * old_width;
        for x in 0..width {
            let start = (row + x * old_width / width) * 3;
            pixels.extend_from_slice(&image.data()[start..start + 3]);
        }
    }
    Ok(pixels)
}
