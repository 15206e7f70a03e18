//! Antialiased resizing, equal to Pillow's to the bit.
//!
//! Pillow resizes in two passes, one along each axis, each rounding to 8 bits, with weights in fixed
//! point of 22 fractional bits. The same numbers are computed here in another order: the pixels are
//! transposed before the pass along the rows, so that in both passes a weight multiplies whole runs of
//! neighbouring bytes. Only the part of the source that the wanted part of the result depends on is
//! touched, and it is split and turned once for all results that are made of the same image.

mod axis;
mod source;

use super::crop::CropBox;
use super::planes::Planes;
use super::simd::dispatch;
use super::transpose::{BLOCK, transpose};
use crate::config::Interpolation;
use crate::pixels::Rgb8;
use axis::Axis;
use source::{Sheet, padded};

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

/// Buffers of [`Resizes`], kept between images.
#[derive(Default)]
pub(crate) struct ResizeScratch {
    /// The source, for resizes that begin with the width.
    columns: Sheet,
    /// The source, for resizes that begin with the height.
    rows: Sheet,
    passes: PassScratch,
}

/// Resizes of the same image.
pub(crate) struct Resizes<'a> {
    prepared: Vec<Prepared>,
    scratch: &'a mut ResizeScratch,
}

/// A [`Resize`] with its weights.
struct Prepared {
    x: Axis,
    y: Axis,
    /// The part of the image that the weights are for.
    region: CropBox,
    height_first: bool,
    flip: bool,
}

impl Resize {
    /// Resizes `image` into `result`.
    ///
    /// The boxes must lie inside the image and the result; the callers' arithmetic guarantees it.
    pub(crate) fn apply(&self, image: &Rgb8, scratch: &mut ResizeScratch, result: &mut Planes) {
        Resizes::new(image, std::slice::from_ref(self), scratch).make(0, result);
    }

    fn prepare(&self) -> Prepared {
        let (source, window) = (&self.source, &self.window);
        let columns = window.left..window.left + window.width;
        let rows = window.top..window.top + window.height;
        let x = Axis::new(source.width, self.size.0, columns, self.filter);
        let y = Axis::new(source.height, self.size.1, rows, self.filter);
        let (xs, ys) = (x.extent(), y.extent());
        let region = CropBox {
            left: source.left + xs.start,
            top: source.top + ys.start,
            width: xs.len(),
            height: ys.len(),
        };
        Prepared {
            x,
            y,
            region,
            height_first: self.height_first(),
            flip: self.flip,
        }
    }

    /// Which pass comes first shows in the last bit. Since version 13, Pillow begins with the height if
    /// it loses more than twice the pixels that the width loses.
    fn height_first(&self) -> bool {
        let loss = |from: usize, to: usize| from as i64 - to as i64;
        let height = loss(self.source.height, self.size.1);
        height > 0 && height > 2 * loss(self.source.width, self.size.0)
    }
}

impl<'a> Resizes<'a> {
    /// Prepares all of `resizes`, which must be possible, as [`Resize::apply`] says.
    pub(crate) fn new(image: &Rgb8, resizes: &[Resize], scratch: &'a mut ResizeScratch) -> Self {
        let prepared: Vec<Prepared> = resizes.iter().map(Resize::prepare).collect();
        let needed = |height_first: bool| {
            let chosen = prepared.iter().filter(|p| p.height_first == height_first);
            chosen.map(|p| p.region).reduce(|a, b| a.around(&b))
        };
        if let Some(region) = needed(false) {
            scratch.columns.load_columns(image, region);
        }
        if let Some(region) = needed(true) {
            scratch.rows.load_rows(image, region);
        }
        Self { prepared, scratch }
    }

    /// The result of resize number `number`.
    pub(crate) fn make(&mut self, number: usize, result: &mut Planes) {
        let prepared = &self.prepared[number];
        result.reset(prepared.x.len(), prepared.y.len());
        let ResizeScratch {
            columns,
            rows,
            passes,
        } = &mut *self.scratch;
        dispatch(
            #[inline(always)]
            || {
                if prepared.height_first {
                    height_first(prepared, rows, passes, result);
                } else {
                    width_first(prepared, columns, passes, result);
                }
            },
        );
    }
}

#[inline(always)]
fn width_first(resize: &Prepared, columns: &Sheet, scratch: &mut PassScratch, result: &mut Planes) {
    let Prepared { x, y, region, .. } = resize;
    let (sources, stride) = columns.planes(region, true);
    for (source, plane) in sources.into_iter().zip(result.channels_mut()) {
        let rows = scratch.first_pass(x, resize.flip, source, stride, region.height);
        for (k, out) in plane.chunks_exact_mut(x.len()).enumerate() {
            y.weigh(k, rows, padded(x.len()), out);
        }
    }
}

#[inline(always)]
fn height_first(resize: &Prepared, rows: &Sheet, scratch: &mut PassScratch, result: &mut Planes) {
    let Prepared { x, y, region, .. } = resize;
    let (sources, stride) = rows.planes(region, false);
    let (width, height) = (x.len(), y.len());
    let mut finished = std::mem::take(&mut scratch.finished);
    finished.resize(width * height, 0);
    for (source, plane) in sources.into_iter().zip(result.channels_mut()) {
        let columns = scratch.first_pass(y, false, source, stride, region.width);
        for (k, out) in finished.chunks_exact_mut(height).enumerate() {
            let k = if resize.flip { width - 1 - k } else { k };
            x.weigh(k, columns, padded(height), out);
        }
        transpose(&finished, height, (height, width), plane, width);
    }
    scratch.finished = finished;
}

#[derive(Default)]
struct PassScratch {
    /// Some lines of the first pass.
    strip: Vec<u8>,
    /// The result of the first pass, transposed.
    turned: Vec<u8>,
    /// The result of the second pass where that is not yet the end.
    finished: Vec<u8>,
}

impl PassScratch {
    /// Weighs lines of `length` bytes, every `stride` bytes of `source`, along `axis`, and returns the
    /// transposed result: `length` lines as long as the axis, with the distance [`padded`] gives them.
    #[inline(always)]
    fn first_pass(
        &mut self,
        axis: &Axis,
        backwards: bool,
        source: &[u8],
        stride: usize,
        length: usize,
    ) -> &[u8] {
        let turned_stride = padded(axis.len());
        self.strip.resize(BLOCK * length, 0);
        self.turned.resize(length * turned_stride, 0);
        // Lines are turned as soon as there is a block of them, while they are at hand.
        for first in (0..axis.len()).step_by(BLOCK) {
            let lines = BLOCK.min(axis.len() - first);
            let outs = self.strip.chunks_exact_mut(length).take(lines);
            for (k, out) in (first..).zip(outs) {
                let k = if backwards { axis.len() - 1 - k } else { k };
                axis.weigh(k, source, stride, out);
            }
            let to = &mut self.turned[first..];
            transpose(&self.strip, length, (length, lines), to, turned_stride);
        }
        &self.turned
    }
}
