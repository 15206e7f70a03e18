//! Where the taps of a convolution's kernel meet its input, along one axis and over an image.

use std::ops::Range;

/// A kernel over one axis: tap `t` at output `o` lies on input `first + o * stride + t`, which may be outside.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Axis {
    /// Length of the input.
    pub(super) input: usize,
    /// Length of the output.
    pub(super) output: usize,
    /// Inputs from one output to the next.
    pub(super) stride: usize,
    /// Input under tap 0 at output 0.
    pub(super) first: isize,
    /// Length of the kernel.
    pub(super) taps: usize,
}

impl Axis {
    /// A kernel of `taps` over `input` with `padding` at both ends; none where the padded input is shorter.
    pub(super) fn new(input: usize, taps: usize, stride: usize, padding: usize) -> Option<Self> {
        let places = (input + 2 * padding).checked_sub(taps)?;
        Some(Self {
            input,
            output: places / stride + 1,
            stride,
            first: -(padding as isize),
            taps,
        })
    }

    /// Without the taps at either end that lie outside at every output, and which taps were kept. A kernel of
    /// three over a single pixel has one that counts.
    pub(super) fn cut(self) -> (Self, Range<usize>) {
        let meets = |&tap: &usize| {
            let start = self.first + tap as isize;
            let output = start.min(0).unsigned_abs().div_ceil(self.stride);
            let place = start + (output * self.stride) as isize;
            output < self.output && place < self.input as isize
        };
        let first = (0..self.taps).find(meets).unwrap_or_default();
        let last = (first..self.taps).rev().find(meets).unwrap_or(first);
        let cut = Self {
            first: self.first + first as isize,
            taps: last + 1 - first,
            ..self
        };
        (cut, first..last + 1)
    }

    /// The kernel that, with its taps in reverse, takes gradients of the output to those of the input. For
    /// stride 1.
    pub(super) fn reversed(self) -> Self {
        Self {
            input: self.output,
            output: self.input,
            first: 1 - self.taps as isize - self.first,
            ..self
        }
    }

    /// Input under tap 0 at `output`, and which taps are inside.
    fn at(self, output: usize) -> (isize, Range<usize>) {
        let start = self.first + (output * self.stride) as isize;
        let before = start.min(0).unsigned_abs().min(self.taps);
        let inside = (self.input as isize - start).clamp(0, self.taps as isize) as usize;
        (start, before..inside.max(before))
    }
}

/// A kernel over images of `channels`, of which a group sees `part`, channels last.
#[derive(Debug, Clone)]
pub(super) struct Window {
    /// From top to bottom.
    pub(super) down: Axis,
    /// From left to right.
    pub(super) right: Axis,
    /// Channels of the image.
    pub(super) channels: usize,
    /// The group's.
    pub(super) part: Range<usize>,
}

impl Window {
    /// Values under the kernel: of all taps, the group's channels.
    pub(super) fn size(&self) -> usize {
        self.down.taps * self.right.taps * self.part.len()
    }

    /// Places of the kernel over one image.
    pub(super) fn places(&self) -> usize {
        self.down.output * self.right.output
    }

    /// Values of one image.
    pub(super) fn image(&self) -> usize {
        self.down.input * self.right.input * self.channels
    }

    /// Whether what lies under the kernel is the pixel of the same number.
    pub(super) fn is_pointwise(&self) -> bool {
        [self.down, self.right].iter().all(|axis| {
            (axis.taps, axis.stride, axis.first) == (1, 1, 0) && axis.input == axis.output
        })
    }

    /// Copies what lies under the kernel, `[taps down, taps right, part]` with zeros outside, for as many places
    /// as `rows` has room for, from place number `start` of all images on.
    pub(super) fn gather(&self, images: &[f32], start: usize, rows: &mut [f32]) {
        let line = self.right.taps * self.part.len();
        self.walk(start, rows.len() / self.size(), |row, image, places| {
            let row = &mut rows[row * self.size()..][..self.size()];
            let image = &images[image * self.image()..][..self.image()];
            for (tap, values) in row.chunks_exact_mut(line).enumerate() {
                let Some((pixel, inside)) = places.line(tap) else {
                    values.fill(0.0);
                    continue;
                };
                let (before, rest) = values.split_at_mut(inside.start * self.part.len());
                let (within, after) = rest.split_at_mut(inside.len() * self.part.len());
                before.fill(0.0);
                self.pixels(image, pixel, inside.len(), |at, pixels| {
                    within[at..][..pixels.len()].copy_from_slice(pixels);
                });
                after.fill(0.0);
            }
        });
    }

    /// The reverse of [`gather`](Self::gather): adds `rows` to what they lie over in `images`, from place
    /// number `start` on.
    pub(super) fn scatter(&self, rows: &[f32], start: usize, images: &mut [f32]) {
        let (line, width) = (self.right.taps * self.part.len(), self.part.len());
        self.walk(start, rows.len() / self.size(), |row, image, places| {
            let row = &rows[row * self.size()..][..self.size()];
            let image = &mut images[image * self.image()..][..self.image()];
            for (tap, values) in row.chunks_exact(line).enumerate() {
                let Some((pixel, inside)) = places.line(tap) else {
                    continue;
                };
                for (number, values) in values.chunks_exact(width).enumerate() {
                    if inside.contains(&number) {
                        let pixel = pixel + number - inside.start;
                        let target = &mut image[pixel * self.channels..][self.part.clone()];
                        for (sum, value) in target.iter_mut().zip(values) {
                            *sum += value;
                        }
                    }
                }
            }
        });
    }

    /// The group's channels of `count` pixels from `first` on, in pieces as long as they come.
    fn pixels(
        &self,
        image: &[f32],
        first: usize,
        count: usize,
        mut visit: impl FnMut(usize, &[f32]),
    ) {
        let pixels = &image[first * self.channels..][..count * self.channels];
        if self.part.len() == self.channels {
            visit(0, pixels);
            return;
        }
        for (number, pixel) in pixels.chunks_exact(self.channels).enumerate() {
            visit(number * self.part.len(), &pixel[self.part.clone()]);
        }
    }

    /// Goes through `count` places from number `start` on: number in this walk, image, taps.
    fn walk(&self, start: usize, count: usize, mut visit: impl FnMut(usize, usize, Places)) {
        if count == 0 {
            return;
        }
        let (mut image, place) = (start / self.places(), start % self.places());
        let (mut row, mut column) = (place / self.right.output, place % self.right.output);
        let mut down = self.down.at(row);
        for number in 0..count {
            let places = Places {
                width: self.right.input,
                down: down.clone(),
                right: self.right.at(column),
            };
            visit(number, image, places);
            column += 1;
            if column == self.right.output {
                (column, row) = (0, row + 1);
                if row == self.down.output {
                    (row, image) = (0, image + 1);
                }
                down = self.down.at(row);
            }
        }
    }
}

/// Where the taps lie at one place of the kernel.
struct Places {
    width: usize,
    down: (isize, Range<usize>),
    right: (isize, Range<usize>),
}

impl Places {
    /// Of the kernel's line `tap`: the first pixel in the image under it, and which of its taps are inside.
    fn line(&self, tap: usize) -> Option<(usize, Range<usize>)> {
        let ((top, rows), (left, columns)) = (&self.down, &self.right);
        if !rows.contains(&tap) || columns.is_empty() {
            return None;
        }
        let row = top + tap as isize;
        let column = left + columns.start as isize;
        // Invariant: taps within the ranges lie inside, so neither is negative.
        let pixel = row as usize * self.width + column as usize;
        Some((pixel, columns.clone()))
    }
}
