//! flex's tensors as images that lie channels last.

use burn::backend::TensorMetadata;
use burn::backend::flex::{FlexTensor, Layout};
use burn::tensor::{Bytes, DType, Shape};

/// `[batch, channels, height, width]` to the places of these in memory, and back.
const LAST: [usize; 4] = [0, 2, 3, 1];
const FIRST: [usize; 4] = [0, 3, 1, 2];

/// The same values with the channels of a pixel side by side, and nothing else in the buffer.
pub(super) fn channels_last(images: FlexTensor) -> FlexTensor {
    let layout = images.layout().permute(&LAST);
    // Free where they lie so already.
    let laid_out = images.with_layout(layout).to_contiguous();
    let layout = laid_out.layout().permute(&FIRST);
    laid_out.with_layout(layout)
}

/// Images `[batch, channels, height, width]` of values that lie channels last.
pub(super) fn from_values(values: Vec<f32>, shape: [usize; 4]) -> FlexTensor {
    let shape = Shape::from(LAST.map(|axis| shape[axis]));
    let layout = Layout::contiguous(shape).permute(&FIRST);
    FlexTensor::new(Bytes::from_elems(values), layout, DType::F32)
}

/// A tensor of values that lie in order.
pub(super) fn in_order<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> FlexTensor {
    let layout = Layout::contiguous(Shape::from(shape));
    FlexTensor::new(Bytes::from_elems(values), layout, DType::F32)
}

/// A vector.
pub(super) fn vector(values: Vec<f32>) -> FlexTensor {
    let length = values.len();
    in_order(values, [length])
}

/// The shape of images or of a convolution's weights.
pub(super) fn shape(images: &FlexTensor) -> [usize; 4] {
    images.shape().dims()
}
