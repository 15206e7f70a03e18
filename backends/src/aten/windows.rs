//! Convolutions in bf16 as products of matrices, where those are faster.
//!
//! A row per place of the output holds what the kernel sees there; the output is the product of these rows with the
//! weight, and the weight's gradient their product with the output's. oneDNN 3.7 multiplies bf16 matrices at one
//! rate, with AVX-512 BF16 near the processor's, and falls below it in convolutions whose inner loops are short: those
//! over a row of a small image, and those with a stride. Rows of a wide kernel have to be written first, which costs
//! little where outputs are few. In f32 its convolutions are faster than products.
//!
//! The bounds here are those found on one and two threads with the layers of ResNet-18 and ResNet-50, images of 16 to
//! 224 pixels.

use burn::backend::TensorMetadata;
use burn::backend::libtorch::TchTensor;
use tch::{Kind, TchError, Tensor};

use super::extension::expect;
use super::ffi::Convolution;

type Result<T> = std::result::Result<T, TchError>;

/// Axes of `[batch, channels, height, width]` as values lie in memory, and back.
const LAST: [i64; 4] = [0, 2, 3, 1];
const FIRST: [i64; 4] = [0, 3, 1, 2];

/// Channels in and out with which the values of one pixel are worth a row.
const CHANNELS: usize = 64;
/// Those with which a product is as fast as a convolution of single pixels without a stride.
const CHANNELS_OF_PIXELS: usize = 128;
/// Outputs in a row of an image, per stride, up to which the weight's gradient is faster as a product.
const SHORT_ROW: usize = 7;
/// Outputs in a row up to which the output is.
const SHORTEST_ROW: usize = 3;

/// A convolution some of whose products are better made one by one.
pub(super) struct Windows {
    /// Height and width of the kernel.
    kernel: i64,
    stride: i64,
    padding: i64,
    /// `[height, width]` of the images.
    image: [i64; 2],
    /// `[height, width]` of the output.
    output: [i64; 2],
}

impl Windows {
    /// For operands on the CPU, if the weight's gradient is faster as a product.
    pub(super) fn of(input: &TchTensor, weight: &TchTensor, shape: Convolution) -> Option<Self> {
        let tensor = &input.tensor;
        if tensor.kind() != Kind::BFloat16 || tensor.device() != tch::Device::Cpu {
            return None;
        }
        let [_, channels, height, width] = input.shape().dims();
        let [outputs, _, kernel, right] = weight.shape().dims();
        let Convolution {
            stride,
            padding,
            groups,
        } = shape;
        let fewest = channels.min(outputs);
        if groups != 1 || kernel != right || fewest < CHANNELS {
            return None;
        }
        let places = |size: usize| Some((size + 2 * padding).checked_sub(kernel)? / stride + 1);
        let (rows, columns) = (places(height)?, places(width)?);
        let pays = match (kernel, padding) {
            (1, 0) => stride > 1 || fewest >= CHANNELS_OF_PIXELS,
            _ => columns <= SHORT_ROW * stride,
        };
        pays.then_some(Self {
            kernel: kernel as i64,
            stride: stride as i64,
            padding: padding as i64,
            image: [height as i64, width as i64],
            output: [rows as i64, columns as i64],
        })
    }

    /// The output, channels last, if it is faster as a product.
    pub(super) fn forward(&self, input: &TchTensor, weight: &TchTensor) -> Option<TchTensor> {
        self.is_one_forward().then(|| {
            product(|| {
                let output = self
                    .rows(&input.tensor)?
                    .f_matmul(&matrix(&weight.tensor)?.f_tr()?)?;
                self.outputs(&output)
            })
        })
    }

    /// The gradient of the input from the output's, channels last, if it is faster as a product.
    pub(super) fn of_input(&self, gradient: &TchTensor, weight: &TchTensor) -> Option<TchTensor> {
        // Of a wider kernel, what belongs to one pixel would have to be gathered from several rows.
        self.sees_pixels().then(|| {
            product(|| {
                let seen = lines(&gradient.tensor)?.f_matmul(&matrix(&weight.tensor)?)?;
                let seen = self.outputs(&seen)?;
                if self.stride == 1 {
                    return Ok(seen);
                }
                let [batch, channels, ..] = seen.size()[..] else {
                    unreachable!("images have four axes")
                };
                let [height, width] = self.image;
                let options = (seen.kind(), seen.device());
                let images = Tensor::f_zeros([batch, height, width, channels], options)?;
                self.steps(&images)?.f_copy_(&seen.f_permute(LAST)?)?;
                images.f_permute(FIRST)
            })
        })
    }

    /// The gradient of the weight from the output's.
    pub(super) fn of_weight(&self, gradient: &TchTensor, input: &TchTensor) -> TchTensor {
        product(|| {
            let (gradient, rows) = (lines(&gradient.tensor)?, self.rows(&input.tensor)?);
            let outputs = gradient.size()[1];
            let matrix = gradient.f_tr()?.f_matmul(&rows)?;
            let weight = matrix.f_view([outputs, self.kernel, self.kernel, -1])?;
            weight.f_permute(FIRST)
        })
    }

    fn is_one_forward(&self) -> bool {
        self.sees_pixels() || self.output[1] <= SHORTEST_ROW as i64
    }

    fn sees_pixels(&self) -> bool {
        (self.kernel, self.padding) == (1, 0)
    }

    /// The pixels of `[batch, height, width, channels]` that a kernel of one pixel sees.
    fn steps(&self, images: &Tensor) -> Result<Tensor> {
        images
            .f_slice(1, None, None, self.stride)?
            .f_slice(2, None, None, self.stride)
    }

    /// What the kernel sees at each place, `[batch * places, kernel * kernel * channels]`.
    fn rows(&self, images: &Tensor) -> Result<Tensor> {
        let images = images.f_permute(LAST)?;
        if self.sees_pixels() {
            return self.steps(&images)?.f_flatten(0, 2);
        }
        let (kernel, stride, border) = (self.kernel, self.stride, self.padding);
        let padded = images.f_constant_pad_nd([0, 0, border, border, border, border])?;
        let seen = padded
            .f_unfold(1, kernel, stride)?
            .f_unfold(2, kernel, stride)?;
        let seen = seen.f_permute([0, 1, 2, 4, 5, 3])?.f_contiguous()?;
        seen.f_flatten(0, 2)?.f_flatten(1, 3)
    }

    /// Rows of one place each as images.
    fn outputs(&self, rows: &Tensor) -> Result<Tensor> {
        let [height, width] = self.output;
        let channels = rows.size()[1];
        rows.f_view([-1, height, width, channels])?.f_permute(FIRST)
    }
}

/// Images as rows of one pixel each.
fn lines(images: &Tensor) -> Result<Tensor> {
    images.f_permute(LAST)?.f_flatten(0, 2)
}

/// The weight `[out, in, kh, kw]` as `[out, kh * kw * in]`.
fn matrix(weight: &Tensor) -> Result<Tensor> {
    weight.f_permute(LAST)?.f_flatten(1, 3)
}

fn product(make: impl FnOnce() -> Result<Tensor>) -> TchTensor {
    let made = make().map_err(|error| error.to_string());
    TchTensor::new(expect("matmul", made))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(kind: Kind, kernel: i64, stride: i64, channels: i64, size: i64) -> Option<Windows> {
        let options = (kind, tch::Device::Cpu);
        let tensor = |shape| TchTensor::new(Tensor::zeros(shape, options));
        let shape = Convolution {
            stride: stride as usize,
            padding: kernel as usize / 2,
            groups: 1,
        };
        Windows::of(
            &tensor([2, channels, size, size]),
            &tensor([channels, channels, kernel, kernel]),
            shape,
        )
    }

    #[test]
    fn products_are_made_where_they_are_faster() {
        let low = |kernel, stride, channels, size| {
            windows(Kind::BFloat16, kernel, stride, channels, size).is_some()
        };
        // ResNet-50's layers at 224 and 96 pixels.
        assert!(low(1, 2, 256, 56) && low(1, 1, 128, 28) && low(3, 2, 512, 14));
        assert!(low(3, 2, 256, 28) && low(3, 1, 512, 7) && low(3, 1, 256, 6));
        assert!(!low(1, 1, 64, 56) && !low(3, 2, 128, 56) && !low(3, 1, 256, 14));
        // The stem of a CIFAR network.
        assert!(!low(3, 2, 3, 8));
        assert!(windows(Kind::Float, 1, 2, 256, 56).is_none());
        assert!(windows(Kind::Half, 1, 2, 256, 56).is_none());
        let forward = |kernel, stride, channels, size| {
            let windows = windows(Kind::BFloat16, kernel, stride, channels, size);
            windows.expect("some are products").is_one_forward()
        };
        assert!(forward(1, 1, 128, 28) && forward(3, 2, 512, 6) && !forward(3, 1, 512, 7));
    }
}
