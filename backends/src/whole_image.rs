//! Convolutions whose kernel sees all of the image at every place.
//!
//! A kernel over a small image lies mostly outside it: of nine taps over a single pixel one counts, of those over
//! 2 x 2 pixels four at each place. Where every place sees the whole image, a convolution is a linear layer from all
//! values of an image to all values of its output, and no product is made for nothing. The last stages of a ResNet see
//! such images where views are small.

use crate::options::Convolution;

/// A convolution all of whose places see all of the image.
pub(crate) struct WholeImage {
    /// `[height, width]` of the images.
    pub(crate) image: [usize; 2],
    /// `[height, width]` of the output.
    pub(crate) output: [usize; 2],
    /// Per place of the kernel, row after row: the taps, down and right, over the image's first pixel.
    pub(crate) corners: Vec<[usize; 2]>,
}

impl WholeImage {
    /// For images and a kernel of `[height, width]`, if it is such a convolution in one group, and not one of single
    /// pixels by a kernel of one, which is a product of matrices anyway.
    pub(crate) fn of(image: [usize; 2], kernel: [usize; 2], shape: Convolution) -> Option<Self> {
        if shape.groups != 1 || kernel == [1, 1] {
            return None;
        }
        let rows = starts(image[0], kernel[0], shape)?;
        let columns = starts(image[1], kernel[1], shape)?;
        let corners = rows
            .iter()
            .flat_map(|row| columns.iter().map(|column| [*row, *column]));
        Some(Self {
            image,
            output: [rows.len(), columns.len()],
            corners: corners.collect(),
        })
    }
}

/// The tap over the first input at each place along one axis, where every place sees all `input`s.
fn starts(input: usize, taps: usize, shape: Convolution) -> Option<Vec<usize>> {
    let last = (input + 2 * shape.padding).checked_sub(taps)? / shape.stride;
    let start = |place: usize| shape.padding.checked_sub(place * shape.stride);
    let sees_all = |start: &usize| start + input <= taps;
    (0..=last)
        .map(|place| start(place).filter(sees_all))
        .collect()
}
