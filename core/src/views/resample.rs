//! Antialiased resizing, equal to Pillow's to the bit.
//!
//! Pillow resizes in two passes, rows first, each rounding to 8 bits, with weights in fixed point of 22
//! fractional bits. The same numbers are computed here in another order: the source is transposed
//! first, so that in both passes a weight multiplies whole runs of neighbouring bytes. Only the part of
//! the source that the wanted part of the result depends on is touched.

use super::crop::CropBox;
use super::planes::{BLOCK, Planes, deinterleave, transpose};
use super::simd::dispatch;
use crate::config::Interpolation;
use crate::pixels::Rgb8;
use std::ops::Range;

/// Fractional bits of a weight: 8 bits of pixel and a sign leave 22 and one spare of 32.
const PRECISION: u32 = 32 - 8 - 2;

/// Bytes that one step of a pass works on.
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
        axis
    }

    /// The source pixels that any result pixel needs.
    fn extent(&self) -> Range<usize> {
        let ends = self.starts.iter().zip(&self.counts).map(|(s, n)| s + n);
        let start = self.starts.iter().copied().min().unwrap_or(0);
        start..ends.max().unwrap_or(start)
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

/// Buffers that a [`Resize`] uses, kept between calls.
#[derive(Default)]
pub(crate) struct ResizeScratch {
    /// Some rows of the source as planes, `[3, BLOCK, width]`.
    strip: Vec<u8>,
    /// The source, transposed, `[3, width, height]`.
    columns: Vec<u8>,
    /// After the first pass, `[3, new width, height]`.
    narrowed: Vec<u8>,
    /// The same, rows first again, `[3, height, new width]`.
    rows: Vec<u8>,
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
        let stride = ys.len().next_multiple_of(LANES);
        let row_stride = width.next_multiple_of(LANES);
        let ResizeScratch {
            strip,
            columns,
            narrowed,
            rows,
        } = scratch;
        strip.resize(3 * BLOCK * xs.len().next_multiple_of(BLOCK), 0);
        columns.resize(3 * xs.len().next_multiple_of(BLOCK) * stride, 0);
        narrowed.resize(3 * row_stride * stride, 0);
        rows.resize(3 * stride * row_stride, 0);
        result.reset(width, height);
        dispatch(
            #[inline(always)]
            || {
                to_columns(image, &region, strip, columns, stride);
                let columns = columns.chunks_exact(xs.len().next_multiple_of(BLOCK) * stride);
                let narrowed = narrowed.chunks_exact_mut(row_stride * stride);
                let rows = rows.chunks_exact_mut(stride * row_stride);
                let planes = result.channels_mut().into_iter();
                for (((columns, narrowed), rows), plane) in
                    columns.zip(narrowed).zip(rows).zip(planes)
                {
                    for k in 0..width {
                        let at = if self.flip { width - 1 - k } else { k };
                        let out = &mut narrowed[at * stride..][..stride];
                        weigh(&x, k, xs.start, columns, stride, out);
                    }
                    transpose(narrowed, stride, (ys.len(), width), rows, row_stride);
                    for (k, out) in plane.chunks_exact_mut(width).enumerate() {
                        weigh(&y, k, ys.start, rows, row_stride, out);
                    }
                }
            },
        );
    }
}

/// Copies `region` of `image` to planes of columns: `columns` is `[3, width, stride]`, of each column the
/// first `region.height` bytes matter.
#[inline(always)]
fn to_columns(image: &Rgb8, region: &CropBox, strip: &mut [u8], columns: &mut [u8], stride: usize) {
    let padded = region.width.next_multiple_of(BLOCK);
    for y in (0..region.height).step_by(BLOCK) {
        let (red, rest) = strip.split_at_mut(BLOCK * padded);
        let (green, blue) = rest.split_at_mut(BLOCK * padded);
        for k in 0..BLOCK.min(region.height - y) {
            let start = 3 * ((region.top + y + k) * image.width() + region.left);
            deinterleave(
                &image.data()[start..start + 3 * region.width],
                &mut red[k * padded..],
                &mut green[k * padded..],
                &mut blue[k * padded..],
            );
        }
        for (strip, columns) in strip
            .chunks_exact(BLOCK * padded)
            .zip(columns.chunks_exact_mut(padded * stride))
        {
            transpose(
                strip,
                padded,
                (region.width, BLOCK),
                &mut columns[y..],
                stride,
            );
        }
    }
}

/// One result line of a pass: the weighted sum of `from`'s lines (each `stride` bytes, the first of them
/// being source line `first`), for result position `k` of `axis`.
#[inline(always)]
fn weigh(axis: &Axis, k: usize, first: usize, from: &[u8], stride: usize, out: &mut [u8]) {
    let weights = &axis.weights[k * axis.taps..][..axis.counts[k]];
    let lines = &from[(axis.starts[k] - first) * stride..];
    for (block, out) in out.chunks_mut(LANES).enumerate() {
        let mut sums = [1i32 << (PRECISION - 1); LANES];
        for (line, &weight) in lines.chunks_exact(stride).zip(weights) {
            let (values, _) = line[block * LANES..].as_chunks::<LANES>();
            let values = &values[0];
            for (sum, &value) in sums.iter_mut().zip(values) {
                *sum += weight * i32::from(value);
            }
        }
        let bytes = sums.map(|sum| (sum >> PRECISION).clamp(0, 255) as u8);
        out.copy_from_slice(&bytes[..out.len()]);
    }
}
