//! A convolution in whichever of two ways takes fewer products.

use rayon::prelude::*;

use super::convolution::Plan;
use crate::options::Convolution;
use crate::whole_image::WholeImage;

/// A convolution of images of one shape by weights of one shape, with the methods of a [`Plan`].
pub(super) enum Layer {
    /// What lies under the kernel times its weights.
    Direct(Plan),
    /// All values of an image times a matrix.
    Unrolled(Unrolled),
}

/// A convolution as one of single pixels that have all values of an image as their channels.
pub(super) struct Unrolled {
    whole: WholeImage,
    plan: Plan,
    weight: [usize; 4],
}

impl Layer {
    /// As [`Plan::new`].
    pub(super) fn new(images: [usize; 4], weight: [usize; 4], shape: Convolution) -> Self {
        let [batch, channels, height, width] = images;
        let [outputs, inputs, down, right] = weight;
        match WholeImage::of([height, width], [down, right], shape) {
            // A single place is one product either way.
            Some(whole) if whole.corners.len() > 1 && channels == inputs => {
                let (places, pixels) = (whole.corners.len(), height * width);
                let single = Convolution {
                    stride: 1,
                    padding: 0,
                    groups: 1,
                };
                let matrix = [places * outputs, pixels * inputs, 1, 1];
                let plan = Plan::new([batch, pixels * channels, 1, 1], matrix, single);
                Self::Unrolled(Unrolled {
                    whole,
                    plan,
                    weight,
                })
            }
            _ => Self::Direct(Plan::new(images, weight, shape)),
        }
    }

    /// `[batch, outputs, height, width]`.
    pub(super) fn output(&self) -> [usize; 4] {
        match self {
            Self::Direct(plan) => plan.output(),
            Self::Unrolled(unrolled) => {
                let [batch, ..] = unrolled.plan.output();
                let [height, width] = unrolled.whole.output;
                [batch, unrolled.weight[0], height, width]
            }
        }
    }

    /// The output, channels last.
    pub(super) fn forward(&self, images: &[f32], weight: &[f32]) -> Vec<f32> {
        match self {
            Self::Direct(plan) => plan.forward(images, weight),
            Self::Unrolled(unrolled) => unrolled.plan.forward(images, &unrolled.matrix(weight)),
        }
    }

    /// The images' gradient, channels last, from the output's.
    pub(super) fn images_gradient(&self, gradient: &[f32], weight: &[f32]) -> Vec<f32> {
        match self {
            Self::Direct(plan) => plan.images_gradient(gradient, weight),
            Self::Unrolled(unrolled) => {
                let matrix = unrolled.matrix(weight);
                unrolled.plan.images_gradient(gradient, &matrix)
            }
        }
    }

    /// The weights' gradient from the output's and the images.
    pub(super) fn weight_gradient(&self, gradient: &[f32], images: &[f32]) -> Vec<f32> {
        match self {
            Self::Direct(plan) => plan.weight_gradient(gradient, images),
            Self::Unrolled(unrolled) => {
                unrolled.folded(&unrolled.plan.weight_gradient(gradient, images))
            }
        }
    }
}

impl Unrolled {
    /// Values of one row of the matrix.
    fn row(&self) -> usize {
        let [height, width] = self.whole.image;
        height * width * self.weight[1]
    }

    /// The taps that the place of the kernel with this number has over the image's pixels, in their order.
    fn taps(&self, place: usize) -> impl Iterator<Item = usize> {
        let ([row, column], [height, width]) = (self.whole.corners[place], self.whole.image);
        let right = self.weight[3];
        (row..row + height)
            .flat_map(move |row| (column..column + width).map(move |column| row * right + column))
    }

    /// `[places * outputs, pixels * inputs]`, from the weight `[outputs, inputs, height, width]`.
    fn matrix(&self, weight: &[f32]) -> Vec<f32> {
        let [outputs, inputs, down, right] = self.weight;
        let filter = inputs * down * right;
        let mut matrix = vec![0.0; self.whole.corners.len() * outputs * self.row()];
        let rows = matrix.par_chunks_mut(self.row()).enumerate();
        rows.for_each(|(number, row)| {
            let weight = &weight[number % outputs * filter..][..filter];
            for (pixel, tap) in row
                .chunks_exact_mut(inputs)
                .zip(self.taps(number / outputs))
            {
                for (value, taps) in pixel.iter_mut().zip(weight.chunks_exact(down * right)) {
                    *value = taps[tap];
                }
            }
        });
        matrix
    }

    /// The weight's gradient from that of its matrix: each tap's is the sum over the places that it has in it.
    fn folded(&self, matrix: &[f32]) -> Vec<f32> {
        let [outputs, inputs, down, right] = self.weight;
        let filter = inputs * down * right;
        let mut sums = vec![0.0; outputs * filter];
        let filters = sums.par_chunks_mut(filter).enumerate();
        filters.for_each(|(output, sums)| {
            for place in 0..self.whole.corners.len() {
                let row = &matrix[(place * outputs + output) * self.row()..][..self.row()];
                for (pixel, tap) in row.chunks_exact(inputs).zip(self.taps(place)) {
                    for (sums, value) in sums.chunks_exact_mut(down * right).zip(pixel) {
                        sums[tap] += *value;
                    }
                }
            }
        });
        sums
    }
}
