//! The pixels that resizes start from, split by channel and turned the way the first pass wants them.

use super::axis::LANES;
use crate::pixels::Rgb8;
use crate::views::crop::CropBox;
use crate::views::planes::deinterleave;
use crate::views::simd::dispatch;
use crate::views::transpose::{BLOCK, transpose};

/// A part of an image as three planes of lines, each line a row or a column of it. Made once for all
/// resizes from the same image, and kept between images for its memory.
#[derive(Default)]
pub(super) struct Sheet {
    /// The part; none as long as nothing was loaded.
    region: Option<CropBox>,
    /// From a line to the next.
    stride: usize,
    /// From a plane to the next.
    area: usize,
    data: Vec<u8>,
    /// Some rows on their way to becoming columns.
    strip: Vec<u8>,
}

impl Sheet {
    pub(super) fn load_rows(&mut self, image: &Rgb8, region: CropBox) {
        let [red, green, blue] = self.reset(region, region.width, region.height);
        let stride = padded(region.width);
        dispatch(
            #[inline(always)]
            || {
                for y in 0..region.height {
                    let row = source_row(image, &region, y);
                    let at = y * stride;
                    deinterleave(row, &mut red[at..], &mut green[at..], &mut blue[at..]);
                }
            },
        );
    }

    pub(super) fn load_columns(&mut self, image: &Rgb8, region: CropBox) {
        let mut strip = std::mem::take(&mut self.strip);
        strip.resize(3 * BLOCK * region.width, 0);
        let planes = self.reset(region, region.height, region.width);
        let stride = padded(region.height);
        dispatch(
            #[inline(always)]
            || {
                // As many rows as a block is high, so that what is split is still at hand when it is turned.
                let (red, rest) = strip.split_at_mut(BLOCK * region.width);
                let (green, blue) = rest.split_at_mut(BLOCK * region.width);
                let [to_red, to_green, to_blue] = planes;
                for y in (0..region.height).step_by(BLOCK) {
                    let rows = BLOCK.min(region.height - y);
                    for k in 0..rows {
                        let row = source_row(image, &region, y + k);
                        let at = k * region.width;
                        deinterleave(row, &mut red[at..], &mut green[at..], &mut blue[at..]);
                    }
                    let size = (region.width, rows);
                    transpose(red, region.width, size, &mut to_red[y..], stride);
                    transpose(green, region.width, size, &mut to_green[y..], stride);
                    transpose(blue, region.width, size, &mut to_blue[y..], stride);
                }
            },
        );
        self.strip = strip;
    }

    /// Makes room for three planes of `lines` lines of `length` bytes.
    fn reset(&mut self, region: CropBox, length: usize, lines: usize) -> [&mut [u8]; 3] {
        self.region = Some(region);
        self.stride = padded(length);
        self.area = self.stride * lines;
        self.data.resize(3 * self.area, 0);
        let (red, rest) = self.data.split_at_mut(self.area);
        let (green, blue) = rest.split_at_mut(self.area);
        [red, green, blue]
    }

    /// The three planes, each from the first line and the first byte of `region` on, a part of what was
    /// loaded, and the distance of their lines; `columns` says which way they were loaded.
    pub(super) fn planes(&self, region: &CropBox, columns: bool) -> ([&[u8]; 3], usize) {
        let loaded = self.region.unwrap_or(*region);
        let (x, y) = (region.left - loaded.left, region.top - loaded.top);
        let (line, along) = if columns { (x, y) } else { (y, x) };
        let start = line * self.stride + along;
        let plane = |c: usize| &self.data[c * self.area..(c + 1) * self.area][start..];
        ([plane(0), plane(1), plane(2)], self.stride)
    }
}

/// The room for a line of `length` bytes: sums are made of whole [`LANES`] from any byte on. Together
/// with the half of a cache line that this adds to most strides, neighbouring lines do not compete for
/// the same places in a cache.
pub(super) fn padded(length: usize) -> usize {
    length.next_multiple_of(BLOCK) + LANES
}

/// One row of `region`, interleaved.
#[inline(always)]
fn source_row<'a>(image: &'a Rgb8, region: &CropBox, y: usize) -> &'a [u8] {
    let start = 3 * ((region.top + y) * image.width() + region.left);
    &image.data()[start..start + 3 * region.width]
}
