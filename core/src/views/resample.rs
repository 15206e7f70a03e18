//! Antialiased resizing, equal to Pillow's to the bit.
//!
//! Pillow resizes in two passes, one along each axis, each rounding to 8 bits, with weights in fixed
//! point of 22 fractional bits. The same numbers are computed here in another order: the pixels are
//! transposed before the pass along the rows, so that in both passes a weight multiplies whole runs of
//! neighbouring bytes. Only the part of the source that the wanted part of the result depends on is
//! touched.

use super::crop::CropBox;
use super::planes::{BLOCK, Planes, deinterleave, transpose};
use super::simd::dispatch;
use crate::config::Interpolation;
use crate::pixels::Rgb8;
use std::ops::Range;

/// Fractional bits of a weight: 8 bits of pixel and a sign leave 22 and one spare of 32.
const PRECISION: u32 = 32 - 8 - 2;

/// Lines that one step of a pass adds up.
const GROUP: usize = 4;

/// Lines are padded to a multiple of this many bytes, so that vectors come out even.
const LANES: usize = 32;

/// What one axis of a resize needs: which source pixels make each result pixel, with which weights.
struct Axis {
    /// First source pixel of each result pixel.
    starts: Vec<usize>,
    /// Number of weights of each result pixel.
    counts: Vec<usize>,
    /// `taps` weights for each result pixel.
    weights: Vec<i32>,
    taps: usize,
    /// First source pixel that any result pixel needs.
    first: usize,
}

impl Axis {
    /// The axis that maps `from` source pixels to `to` result pixels, for the result pixels in `window`.
    fn new(from: usize, to: usize, window: Range<usize>, filter: Interpolation) -> Self {
        let scale = from as f64 / to as f64;
        // Enlarging interpolates between neighbours; reducing widens the filter to see every pixel.
        let widening = scale.max(1.0);
        let support = radius(filter) * widening;
        let taps = support.ceil() as usize * 2 + 1;
        let mut axis = Self {
            starts: Vec::with_capacity(window.len()),
            counts: Vec::with_capacity(window.len()),
            weights: vec![0; window.len() * taps],
            taps,
            first: 0,
        };
        let mut real = vec![0.0; taps];
        // Pillow multiplies by the reciprocal; a division would round differently now and then.
        let narrowing = widening.recip();
        for (weights, position) in axis.weights.chunks_exact_mut(taps).zip(window) {
            let centre = (position as f64 + 0.5) * scale;
            let start = ((centre - support + 0.5).max(0.0)) as usize;
            let end = ((centre + support + 0.5) as usize).min(from);
            let real = &mut real[..end - start];
            for (k, weight) in real.iter_mut().enumerate() {
                *weight = response(filter, ((start + k) as f64 - centre + 0.5) * narrowing);
            }
            let total: f64 = real.iter().sum();
            for (fixed, weight) in weights.iter_mut().zip(real.iter()) {
                let scaled = weight / total * f64::from(1u32 << PRECISION);
                *fixed = (scaled + 0.5f64.copysign(scaled)) as i32;
            }
            axis.starts.push(start);
            axis.counts.push(end - start);
        }
        axis.first = axis.starts.first().copied().unwrap_or(0);
        axis
    }

    /// The source pixels that any result pixel needs.
    fn extent(&self) -> Range<usize> {
        let ends = self.starts.iter().zip(&self.counts).map(|(s, n)| s + n);
        self.first..ends.max().unwrap_or(self.first)
    }

    /// Result line `k`: the weighted sum of `source`'s lines of `stride` bytes, the first of which is
    /// the first of [`Axis::extent`]. `sums` has room for a line.
    #[inline(always)]
    fn weigh(&self, k: usize, source: &[u8], stride: usize, sums: &mut [i32], out: &mut [u8]) {
        let weights = &self.weights[k * self.taps..][..self.counts[k]];
        let start = self.starts[k] - self.first;
        // Four lines at a time: one alone would spend its time on loading and storing sums. A group that
        // is not full repeats a line with weight 0.
        let groups = weights.len().div_ceil(GROUP);
        for (number, weights) in weights.chunks(GROUP).enumerate() {
            let line = |k: usize| {
                let at = start + number * GROUP + k.min(weights.len() - 1);
                (
                    weights.get(k).copied().unwrap_or(0),
                    &source[at * stride..][..out.len()],
                )
            };
            let lines = [line(0), line(1), line(2), line(3)];
            let sums = &mut sums[..out.len()];
            match (number == 0, number + 1 == groups) {
                (true, true) => add_lines::<true, true>(lines, sums, out),
                (true, false) => add_lines::<true, false>(lines, sums, out),
                (false, false) => add_lines::<false, false>(lines, sums, out),
                (false, true) => add_lines::<false, true>(lines, sums, out),
            }
        }
    }
}

/// Adds weighted lines to `sums`; the `FIRST` group starts them, the `LAST` one rounds them to `out`.
#[inline(always)]
fn add_lines<const FIRST: bool, const LAST: bool>(
    [(u, a), (v, b), (w, c), (x, d)]: [(i32, &[u8]); GROUP],
    sums: &mut [i32],
    out: &mut [u8],
) {
    let pixels = a.iter().zip(b).zip(c).zip(d);
    for (((((&a, &b), &c), &d), sum), out) in pixels.zip(sums).zip(out) {
        let so_far = if FIRST { 1 << (PRECISION - 1) } else { *sum };
        let [a, b, c, d] = [i32::from(a), i32::from(b), i32::from(c), i32::from(d)];
        let total = so_far + (u * a + v * b) + (w * c + x * d);
        if LAST {
            *out = (total >> PRECISION).clamp(0, 255) as u8;
        } else {
            *sum = total;
        }
    }
}

/// Half the width of the filter when it interpolates.
fn radius(filter: Interpolation) -> f64 {
    match filter {
        Interpolation::Bilinear => 1.0,
        Interpolation::Bicubic => 2.0,
    }
}

/// The filter's value at distance `x`: the triangle, or Keys' cubic with a = -0.5.
fn response(filter: Interpolation, x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    match filter {
        Interpolation::Bilinear => (1.0 - x).max(0.0),
        Interpolation::Bicubic if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
        Interpolation::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
        Interpolation::Bicubic => 0.0,
    }
}

/// A resize: `source` of an image becomes `size` (width, height), of which `window` is kept.
#[derive(Debug, Clone)]
pub(crate) struct Resize {
    /// The part of the image to resize; pixels outside it do not bleed in.
    pub(crate) source: CropBox,
    /// Width and height of the whole result.
    pub(crate) size: (usize, usize),
    /// The part of the result to compute.
    pub(crate) window: CropBox,
    /// Mirror the result (its window, that is) left and right.
    pub(crate) flip: bool,
    /// Filter.
    pub(crate) filter: Interpolation,
}

/// Buffers that a [`Resize`] uses, kept between calls; each holds three planes.
#[derive(Default)]
pub(crate) struct ResizeScratch {
    /// Some rows of the source, not yet transposed.
    strip: Vec<u8>,
    /// The source, in the orientation of the first pass.
    source: Vec<u8>,
    /// After the first pass.
    halfway: Vec<u8>,
    /// The same, in the orientation of the second pass.
    turned: Vec<u8>,
    /// After the second pass, where that leaves columns.
    columns: Vec<u8>,
    /// A line of the result in the making.
    sums: Vec<i32>,
}

/// Rows and columns of one plane in a buffer; both are padded so that whole blocks can be worked on.
#[derive(Clone, Copy)]
struct Grid {
    /// Padded length of a line.
    stride: usize,
    /// Padded number of lines.
    lines: usize,
}

impl Grid {
    fn new(length: usize, lines: usize) -> Self {
        Self {
            stride: length.next_multiple_of(LANES),
            lines: lines.next_multiple_of(BLOCK),
        }
    }

    fn area(self) -> usize {
        self.stride * self.lines
    }
}

impl Resize {
    /// Resizes `image` into `result`.
    ///
    /// The boxes must lie inside the image and the result; the callers' arithmetic guarantees it.
    pub(crate) fn apply(&self, image: &Rgb8, scratch: &mut ResizeScratch, result: &mut Planes) {
        let CropBox {
            left,
            top,
            width,
            height,
        } = self.window;
        let x = Axis::new(
            self.source.width,
            self.size.0,
            left..left + width,
            self.filter,
        );
        let y = Axis::new(
            self.source.height,
            self.size.1,
            top..top + height,
            self.filter,
        );
        let (xs, ys) = (x.extent(), y.extent());
        let region = CropBox {
            left: self.source.left + xs.start,
            top: self.source.top + ys.start,
            width: xs.len(),
            height: ys.len(),
        };
        result.reset(width, height);
        dispatch(
            #[inline(always)]
            || {
                if self.height_first() {
                    height_first(image, &region, [&x, &y], self.flip, scratch, result);
                } else {
                    width_first(image, &region, [&x, &y], self.flip, scratch, result);
                }
            },
        );
    }

    /// Which pass comes first shows in the last bit. Since version 13, Pillow begins with the height if
    /// it loses more than twice the pixels that the width loses.
    fn height_first(&self) -> bool {
        let loss = |from: usize, to: usize| from as i64 - to as i64;
        let height = loss(self.source.height, self.size.1);
        height > 0 && height > 2 * loss(self.source.width, self.size.0)
    }
}

#[inline(always)]
fn width_first(
    image: &Rgb8,
    region: &CropBox,
    [x, y]: [&Axis; 2],
    flip: bool,
    scratch: &mut ResizeScratch,
    result: &mut Planes,
) {
    let width = result.width();
    let columns = Grid::new(region.height, region.width);
    let narrowed = Grid::new(region.height, width);
    let rows = Grid::new(width, region.height);
    let ResizeScratch {
        strip,
        source,
        halfway,
        turned,
        sums,
        ..
    } = scratch;
    source.resize(3 * columns.area(), 0);
    halfway.resize(narrowed.area(), 0);
    turned.resize(rows.stride * narrowed.stride, 0);
    sums.resize(narrowed.stride.max(width), 0);
    to_columns(image, region, strip, source, columns);
    for (source, plane) in source
        .chunks_exact(columns.area())
        .zip(result.channels_mut())
    {
        for k in 0..width {
            let at = if flip { width - 1 - k } else { k };
            let out = &mut halfway[at * narrowed.stride..][..narrowed.stride];
            x.weigh(k, source, columns.stride, sums, out);
        }
        transpose(
            halfway,
            narrowed.stride,
            (region.height, width),
            turned,
            rows.stride,
        );
        for (k, out) in plane.chunks_exact_mut(width).enumerate() {
            y.weigh(k, turned, rows.stride, sums, out);
        }
    }
}

#[inline(always)]
fn height_first(
    image: &Rgb8,
    region: &CropBox,
    [x, y]: [&Axis; 2],
    flip: bool,
    scratch: &mut ResizeScratch,
    result: &mut Planes,
) {
    let (width, height) = (result.width(), result.height());
    let rows = Grid::new(region.width, region.height);
    let lowered = Grid::new(region.width, height);
    let narrowed = Grid::new(height, width);
    let finished = Grid::new(width, height);
    let ResizeScratch {
        source,
        halfway,
        turned,
        columns,
        strip,
        sums,
    } = scratch;
    source.resize(3 * rows.area(), 0);
    halfway.resize(lowered.area(), 0);
    turned.resize(lowered.stride * narrowed.stride, 0);
    sums.resize(narrowed.stride.max(lowered.stride), 0);
    columns.resize(narrowed.area(), 0);
    strip.resize(finished.stride * narrowed.stride, 0);
    to_rows(image, region, source, rows);
    for (source, plane) in source.chunks_exact(rows.area()).zip(result.channels_mut()) {
        for (k, out) in halfway
            .chunks_exact_mut(lowered.stride)
            .take(height)
            .enumerate()
        {
            y.weigh(k, source, rows.stride, sums, out);
        }
        transpose(
            halfway,
            lowered.stride,
            (region.width, height),
            turned,
            narrowed.stride,
        );
        for k in 0..width {
            let at = if flip { width - 1 - k } else { k };
            let out = &mut columns[at * narrowed.stride..][..narrowed.stride];
            x.weigh(k, turned, narrowed.stride, sums, out);
        }
        transpose(
            columns,
            narrowed.stride,
            (height, width),
            strip,
            finished.stride,
        );
        for (to, from) in plane
            .chunks_exact_mut(width)
            .zip(strip.chunks_exact(finished.stride))
        {
            to.copy_from_slice(&from[..width]);
        }
    }
}

/// One row of `region`, interleaved.
#[inline(always)]
fn source_row<'a>(image: &'a Rgb8, region: &CropBox, y: usize) -> &'a [u8] {
    let start = 3 * ((region.top + y) * image.width() + region.left);
    &image.data()[start..start + 3 * region.width]
}

/// Copies `region` of `image` to three planes of rows.
#[inline(always)]
fn to_rows(image: &Rgb8, region: &CropBox, planes: &mut [u8], grid: Grid) {
    let (red, rest) = planes.split_at_mut(grid.area());
    let (green, blue) = rest.split_at_mut(grid.area());
    for y in 0..region.height {
        let at = y * grid.stride;
        let row = source_row(image, region, y);
        deinterleave(row, &mut red[at..], &mut green[at..], &mut blue[at..]);
    }
}

/// Copies `region` of `image` to three planes of columns.
#[inline(always)]
fn to_columns(image: &Rgb8, region: &CropBox, strip: &mut Vec<u8>, planes: &mut [u8], grid: Grid) {
    let padded = grid.lines;
    strip.resize(3 * BLOCK * padded, 0);
    for y in (0..region.height).step_by(BLOCK) {
        let (red, rest) = strip.split_at_mut(BLOCK * padded);
        let (green, blue) = rest.split_at_mut(BLOCK * padded);
        for k in 0..BLOCK.min(region.height - y) {
            let row = source_row(image, region, y + k);
            let at = k * padded;
            deinterleave(row, &mut red[at..], &mut green[at..], &mut blue[at..]);
        }
        let strips = strip.chunks_exact(BLOCK * padded);
        for (strip, plane) in strips.zip(planes.chunks_exact_mut(grid.area())) {
            transpose(
                strip,
                padded,
                (region.width, BLOCK),
                &mut plane[y..],
                grid.stride,
            );
        }
    }
}
