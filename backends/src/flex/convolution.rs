//! Convolution of images that lie channels last, and its gradients, as matrix products.
//!
//! What lies under the kernel at each place becomes a row of a matrix, a tile of rows at a time, small enough to
//! stay in the cache until it is multiplied by the weights.

use std::ops::Range;

use rayon::prelude::*;

use super::filters::Filters;
use super::product::{Matrix, product};
use super::window::{Axis, Window};
use crate::options::Convolution;

/// Values of a tile of rows: 512 KiB, which the second-level cache of most processors holds beside the weights.
const TILE: usize = 128 << 10;
/// Rows that a product is worth its set-up for.
const LEAST_ROWS: usize = 48;
/// Weights of which every task may have gradients of its own, 1 MiB.
const SMALL: usize = 256 << 10;
/// Tasks that gather such gradients.
const PARTS: usize = 8;
/// Values of the rows that large gradients are taken from at a time, 16 MiB.
const BLOCK: usize = 4 << 20;
/// Output channels of one task of these.
const OUTPUTS: usize = 64;

/// A convolution of images of one shape by weights of one shape.
pub(super) struct Plan {
    batch: usize,
    window: Window,
    filters: Filters,
}

impl Plan {
    /// For images `[batch, channels, height, width]` and weights `[outputs, channels / groups, height, width]`.
    pub(super) fn new(images: [usize; 4], weight: [usize; 4], shape: Convolution) -> Self {
        let [batch, channels, height, width] = images;
        let [outputs, inputs, kernel_height, kernel_width] = weight;
        let Convolution {
            stride,
            padding,
            groups,
        } = shape;
        let axis = |input, taps| Axis::new(input, taps, stride, padding).map(Axis::cut);
        let axes = axis(height, kernel_height).zip(axis(width, kernel_width));
        // burn's operations cannot return errors; such shapes are a mistake of ours.
        let (Some(axes), true) = (axes, channels == inputs * groups) else {
            panic!("conv2d of {images:?} by {weight:?} with {shape:?}");
        };
        let ((down, rows), (right, columns)) = axes;
        let kept = rows.flat_map(|row| columns.clone().map(move |tap| row * kernel_width + tap));
        Self {
            batch,
            window: Window {
                down,
                right,
                channels,
                part: 0..inputs,
            },
            filters: Filters {
                groups,
                inputs,
                outputs: outputs / groups,
                taps: kernel_height * kernel_width,
                kept: kept.collect(),
            },
        }
    }

    /// `[batch, outputs, height, width]`.
    pub(super) fn output(&self) -> [usize; 4] {
        let (down, right) = (self.window.down.output, self.window.right.output);
        [
            self.batch,
            self.filters.groups * self.filters.outputs,
            down,
            right,
        ]
    }

    /// The output, channels last.
    pub(super) fn forward(&self, images: &[f32], weight: &[f32]) -> Vec<f32> {
        let weight = self.filters.outputs_last(weight);
        self.correlate(&self.window, images, &weight, self.filters.outputs)
    }

    /// The images' gradient, channels last, from the output's.
    pub(super) fn images_gradient(&self, gradient: &[f32], weight: &[f32]) -> Vec<f32> {
        if (self.window.down.stride, self.window.right.stride) != (1, 1) {
            return self.spread(gradient, weight);
        }
        let window = Window {
            down: self.window.down.reversed(),
            right: self.window.right.reversed(),
            channels: self.filters.groups * self.filters.outputs,
            part: 0..self.filters.outputs,
        };
        let weight = self.filters.reversed(weight);
        self.correlate(&window, gradient, &weight, self.filters.inputs)
    }

    /// The weights' gradient from the output's and the images.
    pub(super) fn weight_gradient(&self, gradient: &[f32], images: &[f32]) -> Vec<f32> {
        let sums = if self.filters.group() <= SMALL {
            self.small_sums(gradient, images)
        } else {
            self.large_sums(gradient, images)
        };
        self.filters.restored(&sums)
    }

    /// Places of the kernel over all images.
    fn places(&self) -> usize {
        self.batch * self.window.places()
    }

    /// What `window` sees of `images` at each place times each group's `weight`, `[groups, window, outputs]`.
    fn correlate(
        &self,
        window: &Window,
        images: &[f32],
        weight: &[f32],
        outputs: usize,
    ) -> Vec<f32> {
        let (columns, size) = (self.filters.groups * outputs, window.size());
        let places = self.batch * window.places();
        let mut out = vec![0.0; places * columns];
        let share = places.div_ceil(rayon::current_num_threads());
        let rows = tile(size).min(share.max(LEAST_ROWS));
        out.par_chunks_mut(rows * columns)
            .enumerate()
            .for_each_init(Vec::new, |scratch, (number, out)| {
                let places = number * rows..number * rows + out.len() / columns;
                for (group, weight) in weight.chunks_exact(size * outputs).enumerate() {
                    let seen = under(&of_group(window, group), images, places.clone(), scratch);
                    let weight = Matrix::new(weight, [size, outputs]);
                    product(&mut out[group * outputs..], columns, seen, weight, false);
                }
            });
        out
    }

    /// The images' gradient where places are further apart than pixels: each adds to what it lies over.
    fn spread(&self, gradient: &[f32], weight: &[f32]) -> Vec<f32> {
        let weight = self.filters.outputs_first(weight);
        let (image, places, size) = (
            self.window.image(),
            self.window.places(),
            self.window.size(),
        );
        let mut out = vec![0.0; self.batch * image];
        let images = LEAST_ROWS.div_ceil(places);
        let rows = tile(size);
        out.par_chunks_mut(images * image)
            .enumerate()
            .for_each_init(Vec::new, |scratch: &mut Vec<f32>, (number, out)| {
                let (first, count) = (number * images * places, out.len() / image * places);
                for start in (0..count).step_by(rows) {
                    let end = (start + rows).min(count);
                    scratch.resize((end - start) * size, 0.0);
                    for group in 0..self.filters.groups {
                        let gradient = self.gradient(gradient, group, first + start..first + end);
                        let weight = self.of_group(&weight, group);
                        product(scratch, size, gradient, weight, false);
                        of_group(&self.window, group).scatter(scratch, start, out);
                    }
                }
            });
        out
    }

    /// Sums over all places, `[groups, outputs, kept, inputs]`: of few weights, a sum per part of the places.
    fn small_sums(&self, gradient: &[f32], images: &[f32]) -> Vec<f32> {
        let (size, group_size) = (self.window.size(), self.filters.group());
        let part = self.places().div_ceil(PARTS).max(1);
        let rows = tile(size);
        let sum = |start: usize| {
            let mut scratch = Vec::new();
            let mut sums = vec![0.0; self.filters.groups * group_size];
            let end = (start + part).min(self.places());
            for start in (start..end).step_by(rows) {
                let places = start..(start + rows).min(end);
                for (group, sums) in sums.chunks_exact_mut(group_size).enumerate() {
                    let window = of_group(&self.window, group);
                    let seen = under(&window, images, places.clone(), &mut scratch);
                    let gradient = self.gradient(gradient, group, places.clone());
                    product(sums, size, gradient.transposed(), seen, true);
                }
            }
            sums
        };
        let starts: Vec<usize> = (0..self.places()).step_by(part).collect();
        let parts: Vec<Vec<f32>> = starts.into_par_iter().map(sum).collect();
        let mut sums = vec![0.0; self.filters.groups * group_size];
        for part in parts {
            for (sum, value) in sums.iter_mut().zip(part) {
                *sum += value;
            }
        }
        sums
    }

    /// As [`small_sums`](Self::small_sums), of many weights: tasks share out the output channels, and what
    /// lies under the kernel is gathered for all of them.
    fn large_sums(&self, gradient: &[f32], images: &[f32]) -> Vec<f32> {
        let size = self.window.size();
        let mut sums = vec![0.0; self.filters.groups * self.filters.group()];
        let rows = (BLOCK / size).max(LEAST_ROWS);
        let mut scratch = Vec::new();
        for start in (0..self.places()).step_by(rows) {
            let places = start..(start + rows).min(self.places());
            for (group, sums) in sums.chunks_exact_mut(self.filters.group()).enumerate() {
                let window = of_group(&self.window, group);
                let seen = under_at_once(&window, images, places.clone(), &mut scratch);
                let gradient = self.gradient(gradient, group, places.clone());
                sums.par_chunks_mut(OUTPUTS * size)
                    .enumerate()
                    .for_each(|(number, sums)| {
                        let first = number * OUTPUTS;
                        let gradient = gradient.columns(first..first + sums.len() / size);
                        product(sums, size, gradient.transposed(), seen, true);
                    });
            }
        }
        sums
    }

    /// A group's part of the output's gradient at `places`, `[places, outputs]`.
    fn gradient<'a>(&self, gradient: &'a [f32], group: usize, places: Range<usize>) -> Matrix<'a> {
        let (outputs, step) = (
            self.filters.outputs,
            self.filters.groups * self.filters.outputs,
        );
        let first = places.start * step + group * outputs;
        Matrix::spaced(&gradient[first..], [places.len(), outputs], step)
    }

    /// A group's weights in the order `[groups, outputs, kept, inputs]`, `[outputs, window]`.
    fn of_group<'a>(&self, weight: &'a [f32], group: usize) -> Matrix<'a> {
        let length = self.filters.group();
        let shape = [self.filters.outputs, self.window.size()];
        Matrix::new(&weight[group * length..][..length], shape)
    }
}

/// Rows of `size` values that fill a tile.
fn tile(size: usize) -> usize {
    (TILE / size.max(1)).max(LEAST_ROWS)
}

/// The window of the group with this number, made from that of the first.
fn of_group(window: &Window, group: usize) -> Window {
    let width = window.part.len();
    Window {
        part: group * width..(group + 1) * width,
        ..window.clone()
    }
}

/// What lies under the kernel at `places`, `[places, window]`; copied to `scratch` where it does not lie so
/// already.
fn under<'a>(
    window: &Window,
    images: &'a [f32],
    places: Range<usize>,
    scratch: &'a mut Vec<f32>,
) -> Matrix<'a> {
    if window.is_pointwise() {
        return pixels(window, images, places);
    }
    scratch.resize(places.len() * window.size(), 0.0);
    window.gather(images, places.start, scratch);
    Matrix::new(scratch, [places.len(), window.size()])
}

/// As [`under`], by all threads.
fn under_at_once<'a>(
    window: &Window,
    images: &'a [f32],
    places: Range<usize>,
    scratch: &'a mut Vec<f32>,
) -> Matrix<'a> {
    if window.is_pointwise() {
        return pixels(window, images, places);
    }
    let size = window.size();
    scratch.resize(places.len() * size, 0.0);
    let rows = tile(size);
    let tiles = scratch.par_chunks_mut(rows * size).enumerate();
    tiles.for_each(|(number, out)| window.gather(images, places.start + number * rows, out));
    Matrix::new(scratch, [places.len(), size])
}

/// A group's channels of pixels.
fn pixels<'a>(window: &Window, images: &'a [f32], places: Range<usize>) -> Matrix<'a> {
    let first = places.start * window.channels + window.part.start;
    let shape = [places.len(), window.part.len()];
    Matrix::spaced(&images[first..], shape, window.channels)
}
