//! Convolutions of images of very few pixels as products of matrices.
//!
//! Those whose every place sees the [whole image](crate::whole_image). oneDNN's gradients go through all taps: of 512
//! channels of one pixel they take about ten times as long.

use burn::backend::TensorMetadata;
use burn::backend::libtorch::TchTensor;
use tch::{Kind, TchError, Tensor};

use super::extension::expect;
use super::ffi::Convolution;
use crate::whole_image::WholeImage;

type Result<T> = std::result::Result<T, TchError>;

/// Axes of `[batch, channels, height, width]` as values lie in memory, and back.
const LAST: [i64; 4] = [0, 2, 3, 1];
const FIRST: [i64; 4] = [0, 3, 1, 2];

/// A convolution all of whose places see all of the image.
pub(super) struct Unrolled(WholeImage);

impl Unrolled {
    /// For operands on the CPU, if it is such a convolution.
    pub(super) fn of(input: &TchTensor, weight: &TchTensor, shape: Convolution) -> Option<Self> {
        let [_, _, height, width] = input.shape().dims();
        let [_, _, down, right] = weight.shape().dims();
        if input.tensor.device() != tch::Device::Cpu {
            return None;
        }
        WholeImage::of([height, width], [down, right], shape).map(Self)
    }

    /// The output, channels last.
    pub(super) fn forward(&self, input: &TchTensor, weight: &TchTensor) -> TchTensor {
        let forward = || {
            let output = rows(&input.tensor)?.f_matmul(&self.matrix(&weight.tensor)?.f_tr()?)?;
            images(&output, self.0.output)
        };
        TchTensor::new(expect(
            "matmul",
            forward().map_err(|error| error.to_string()),
        ))
    }

    /// Gradients of input and weight, where wanted, from the output's.
    pub(super) fn backward(
        &self,
        gradient: &TchTensor,
        input: &TchTensor,
        weight: &TchTensor,
        [input_wanted, weight_wanted]: [bool; 2],
    ) -> [Option<TchTensor>; 2] {
        let backward = || -> Result<_> {
            let gradient = rows(&gradient.tensor)?;
            let of_input = input_wanted.then(|| {
                images(
                    &gradient.f_matmul(&self.matrix(&weight.tensor)?)?,
                    self.0.image,
                )
            });
            let of_weight = weight_wanted.then(|| {
                let matrix = gradient.f_tr()?.f_matmul(&rows(&input.tensor)?)?;
                self.folded(&matrix, &weight.tensor)
            });
            Ok([of_input.transpose()?, of_weight.transpose()?])
        };
        expect("matmul", backward().map_err(|error| error.to_string()))
            .map(|gradient| gradient.map(TchTensor::new))
    }

    /// The taps that the place of the kernel with this corner has over the image, of weights `[out, kh, kw, in]`.
    fn seen(&self, weight: &Tensor, corner: [usize; 2]) -> Result<Tensor> {
        let [height, width] = self.0.image.map(|n| n as i64);
        let [row, column] = corner.map(|n| n as i64);
        weight.f_narrow(1, row, height)?.f_narrow(2, column, width)
    }

    /// `[places * out, pixels * in]`, from the weight `[out, in, kh, kw]`.
    fn matrix(&self, weight: &Tensor) -> Result<Tensor> {
        let weight = weight.f_permute(LAST)?;
        let seen: Result<Vec<Tensor>> = self
            .0
            .corners
            .iter()
            .map(|corner| self.seen(&weight, *corner))
            .collect();
        match seen?.as_slice() {
            // One tap is taken where it lies.
            [seen] => seen.f_reshape([seen.size()[0], -1]),
            seen => Tensor::f_stack(seen, 0)?.f_flatten(0, 1)?.f_flatten(1, 3),
        }
    }

    /// The weight's gradient from that of its matrix: each tap's is the sum over the places that it has in it.
    fn folded(&self, matrix: &Tensor, weight: &Tensor) -> Result<Tensor> {
        let [outputs, inputs, ..] = weight.size()[..] else {
            unreachable!("a convolution's weight has four axes")
        };
        let [height, width] = self.0.image.map(|n| n as i64);
        let places = matrix.f_view([-1, outputs, height, width, inputs])?;
        // The sum is rounded once, as in a convolution; of one place nothing is added up.
        let kind = match weight.kind() {
            Kind::Half | Kind::BFloat16 if self.0.corners.len() > 1 => Kind::Float,
            kind => kind,
        };
        let size = weight.f_permute(LAST)?.size();
        let sums = Tensor::f_zeros(size, (kind, weight.device()))?;
        for (place, corner) in self.0.corners.iter().enumerate() {
            let place = places.f_select(0, place as i64)?;
            let _sum = self.seen(&sums, *corner)?.f_add_(&place)?;
        }
        sums.f_to_kind(weight.kind())?.f_permute(FIRST)
    }
}

/// Images `[batch, channels, height, width]` as rows of their values, pixel after pixel: as they lie, channels last.
fn rows(images: &Tensor) -> Result<Tensor> {
    images.f_permute(LAST)?.f_reshape([images.size()[0], -1])
}

/// The reverse of [`rows`].
fn images(rows: &Tensor, size: [usize; 2]) -> Result<Tensor> {
    let [height, width] = size.map(|n| n as i64);
    let pixels = rows.f_view([rows.size()[0], height, width, -1])?;
    pixels.f_permute(FIRST)
}
