//! ATen's operations in burn's graph: forward on libtorch's tensors, backward by ATen's own formulas.
//!
//! What a backward pass needs is kept in the graph as handles to tensors, never copied. Tensors of
//! images are laid out channels last throughout: a convolution converts what comes in otherwise (the
//! first one of a network), and all operations here keep the layout.

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::libtorch::TchTensor;
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, LibTorch, TensorMetadata, backend_extension};
use tch::Kind;

use super::ffi::{self, Convolution, Normalisation, SavedStatistics};
use super::unrolled::Unrolled;
use super::windows::Windows;
use crate::kept::{Kept, track};

#[backend_extension(Autodiff, LibTorch)]
pub(super) trait AtenOps: Backend {
    /// Convolution of `[batch, in, h, w]` with `[out, in / groups, kh, kw]`.
    fn aten_conv2d(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        shape: Convolution,
    ) -> FloatTensor<Self>;

    /// Batch normalisation of `[batch, channels, h, w]`: output, running mean and running variance.
    fn aten_batch_norm(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        options: Normalisation,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// `max(input, 0)`, in place where nothing else needs the input.
    fn aten_relu(input: FloatTensor<Self>) -> FloatTensor<Self>;

    /// `max(lhs + rhs, 0)`, in place where nothing else needs one of them.
    fn aten_add_relu(lhs: FloatTensor<Self>, rhs: FloatTensor<Self>) -> FloatTensor<Self>;

    /// The same values, laid out channels last; no part of any graph.
    fn aten_channels_last(input: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// burn's operations cannot return errors; what ATen refuses is a mistake of ours, like a wrong shape.
pub(super) fn expect<T>(operation: &str, result: ffi::Result<T>) -> T {
    result.unwrap_or_else(|message| panic!("libtorch's {operation}: {message}"))
}

pub(super) fn channels_last(tensor: TchTensor) -> TchTensor {
    let laid_out = expect("contiguous", ffi::channels_last(&tensor.tensor));
    TchTensor::from_existing(laid_out, tensor.storage)
}

/// Input and weight of a convolution in the layout it is computed in: channels last, with one exception on CPUs.
///
/// oneDNN 3.7 (libtorch 2.9) computes wrong weight gradients of strided 1x1 convolutions that are channels
/// last, and writes past the end of a buffer, where the input channels do not fill its vectors (8 or 16
/// values): found with 1 to 4 channels on an AVX2 processor. Networks of usual width have no such layer.
fn laid_out(input: TchTensor, weight: TchTensor, shape: Convolution) -> (TchTensor, TchTensor) {
    let [_, channels, height, width] = weight.shape().dims();
    let shortcut = shape.stride > 1 && (height, width) == (1, 1);
    let on_cpu = input.tensor.device() == tch::Device::Cpu;
    if on_cpu && shortcut && !channels.is_multiple_of(16) {
        let first = |tensor: TchTensor| {
            TchTensor::new(expect("clone", ffi::channels_first(&tensor.tensor)))
        };
        return (first(input), first(weight));
    }
    (channels_last(input), channels_last(weight))
}

/// Both operands laid out already.
fn conv2d(input: &TchTensor, weight: &TchTensor, shape: Convolution) -> TchTensor {
    if let Some(unrolled) = Unrolled::of(input, weight, shape) {
        return unrolled.forward(input, weight);
    }
    let windows = Windows::of(input, weight, shape);
    if let Some(output) = windows.and_then(|windows| windows.forward(input, weight)) {
        return output;
    }
    let output = input.tensor.f_conv2d(
        &weight.tensor,
        None::<tch::Tensor>,
        [shape.stride as i64; 2],
        [shape.padding as i64; 2],
        [1; 2],
        shape.groups as i64,
    );
    TchTensor::new(expect("conv2d", output.map_err(|error| error.to_string())))
}

/// Gradients of a convolution's input and weight, where wanted.
fn conv2d_backward(
    gradient: &TchTensor,
    input: &TchTensor,
    weight: &TchTensor,
    shape: Convolution,
    wanted: [bool; 2],
) -> [Option<TchTensor>; 2] {
    if let Some(unrolled) = Unrolled::of(input, weight, shape) {
        return unrolled.backward(gradient, input, weight, wanted);
    }
    let Some(windows) = Windows::of(input, weight, shape) else {
        return by_convolutions(gradient, input, weight, shape, wanted);
    };
    let [wants_input, wants_weight] = wanted;
    let of_weight = wants_weight.then(|| windows.of_weight(gradient, input));
    let of_input = wants_input.then(|| match windows.of_input(gradient, weight) {
        None => by_convolutions(gradient, input, weight, shape, [true, false])[0].take(),
        found => found,
    });
    [of_input.flatten(), of_weight]
}

/// As [`conv2d_backward`], by ATen's convolutions.
///
/// oneDNN 3.7 (libtorch 2.9) computes wrong weight gradients in bf16, or none but noise, where the image is
/// one pixel wide and a wider kernel has a stride: found on a processor with AVX-512 BF16, at any number of
/// channels. Such layers, where they are not [`Unrolled`] or [`Windows`], are computed in f32.
fn by_convolutions(
    gradient: &TchTensor,
    input: &TchTensor,
    weight: &TchTensor,
    shape: Convolution,
    wanted: [bool; 2],
) -> [Option<TchTensor>; 2] {
    let (kind, width) = (input.tensor.kind(), input.shape().dims::<4>()[3]);
    let on_cpu = input.tensor.device() == tch::Device::Cpu;
    let wider = width == 1 && weight.shape().dims::<4>()[3] > 1;
    let spoilt = on_cpu && kind == Kind::BFloat16 && wider;
    let cast = |tensor: &tch::Tensor, kind| match spoilt {
        true => tensor.to_kind(kind),
        false => tensor.shallow_clone(),
    };
    let [gradient, input, weight] =
        [gradient, input, weight].map(|tensor| cast(&tensor.tensor, Kind::Float));
    let gradients = ffi::convolution_backward(&gradient, &input, &weight, shape, wanted);
    expect("convolution_backward", gradients)
        .map(|gradient| Some(TchTensor::new(cast(&gradient?, kind))))
}

/// The tensor itself where nobody else holds it, or else a copy.
pub(super) fn unshared(tensor: TchTensor) -> TchTensor {
    match tensor.can_mut() {
        true => tensor,
        false => TchTensor::new(expect("clone", ffi::copy(&tensor.tensor))),
    }
}

fn batch_norm(
    input: &TchTensor,
    [weight, bias]: [&TchTensor; 2],
    [mean, variance]: [TchTensor; 2],
    options: Normalisation,
) -> ([TchTensor; 3], SavedStatistics) {
    let [mean, variance] = match options.training {
        true => [mean, variance].map(unshared),
        false => [mean, variance],
    };
    let result = ffi::batch_norm(
        &input.tensor,
        [&weight.tensor, &bias.tensor],
        [&mean.tensor, &variance.tensor],
        options,
    );
    let ([output, new_mean, new_variance], saved) = expect("batch_norm", result);
    let results = [
        TchTensor::new(output),
        TchTensor::from_existing(new_mean, mean.storage),
        TchTensor::from_existing(new_variance, variance.storage),
    ];
    (results, saved)
}

fn relu(tensor: TchTensor) -> TchTensor {
    tensor.unary_ops(|mut tensor| tensor.relu_(), |tensor| tensor.relu())
}

/// The gradient where `output` is positive, in place where nothing else needs the gradient.
fn relu_backward(mut gradient: TchTensor, output: &TchTensor) -> TchTensor {
    let in_place = gradient.mut_ops(|gradient| {
        let target = gradient.shallow_clone();
        output
            .tensor
            .threshold_backward_grad_input(&target, gradient, 0_i64)
    });
    in_place.unwrap_or_else(|| {
        TchTensor::new(output.tensor.threshold_backward(&gradient.tensor, 0_i64))
    })
}

impl AtenOps for LibTorch {
    fn aten_conv2d(input: TchTensor, weight: TchTensor, shape: Convolution) -> TchTensor {
        let (input, weight) = laid_out(input, weight, shape);
        conv2d(&input, &weight, shape)
    }

    fn aten_batch_norm(
        input: TchTensor,
        weight: TchTensor,
        bias: TchTensor,
        mean: TchTensor,
        variance: TchTensor,
        options: Normalisation,
    ) -> (TchTensor, TchTensor, TchTensor) {
        let (results, _) = batch_norm(&input, [&weight, &bias], [mean, variance], options);
        results.into()
    }

    fn aten_relu(input: TchTensor) -> TchTensor {
        relu(input)
    }

    fn aten_add_relu(lhs: TchTensor, rhs: TchTensor) -> TchTensor {
        relu(Self::float_add(lhs, rhs))
    }

    fn aten_channels_last(input: TchTensor) -> TchTensor {
        channels_last(input)
    }
}

/// In f32 what is in half precision.
fn full(tensor: TchTensor) -> TchTensor {
    match tensor.tensor.kind() {
        Kind::Half | Kind::BFloat16 => TchTensor::new(tensor.tensor.to_kind(Kind::Float)),
        _ => tensor,
    }
}

#[derive(Debug, Clone)]
struct Convolved {
    input: TchTensor,
    weight: TchTensor,
    shape: Convolution,
}

impl Kept<LibTorch, 2> for Convolved {
    /// The weight's in f32: where it has several uses, their sum is not rounded again.
    fn gradients(self, gradient: TchTensor, wanted: [bool; 2]) -> [Option<TchTensor>; 2] {
        let [of_input, of_weight] =
            conv2d_backward(&gradient, &self.input, &self.weight, self.shape, wanted);
        [of_input, of_weight.map(full)]
    }
}

#[derive(Debug, Clone)]
struct Normalised {
    input: TchTensor,
    weight: TchTensor,
    saved: SavedStatistics,
    options: Normalisation,
    /// Where they are what normalised, the running statistics, which nobody is to change before the backward pass.
    _running: Option<[TchTensor; 2]>,
}

impl Kept<LibTorch, 3> for Normalised {
    fn gradients(self, gradient: TchTensor, wanted: [bool; 3]) -> [Option<TchTensor>; 3] {
        let gradients = ffi::batch_norm_backward(
            &gradient.tensor,
            &self.input.tensor,
            &self.weight.tensor,
            &self.saved,
            self.options,
            wanted,
        );
        expect("batch_norm_backward", gradients).map(|gradient| gradient.map(TchTensor::new))
    }
}

/// `relu` over the sum of `N` operands keeps its output, which the next layer keeps anyway, so the operands need not
/// stay in memory.
#[derive(Debug, Clone)]
struct Rectified(TchTensor);

impl<const N: usize> Kept<LibTorch, N> for Rectified {
    fn gradients(self, gradient: TchTensor, wanted: [bool; N]) -> [Option<TchTensor>; N] {
        let gradient = relu_backward(gradient, &self.0);
        wanted.map(|wanted| wanted.then(|| gradient.clone()))
    }
}

impl<C: CheckpointStrategy> AtenOps for Autodiff<LibTorch, C> {
    fn aten_conv2d(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        shape: Convolution,
    ) -> FloatTensor<Self> {
        let (input, input_node) = input.into_parts();
        let (weight, weight_node) = weight.into_parts();
        let (input, weight) = laid_out(input, weight, shape);
        let output = conv2d(&input, &weight, shape);
        let kept = Convolved {
            input,
            weight,
            shape,
        };
        track::<LibTorch, 2, _, C>([input_node, weight_node], kept, output)
    }

    fn aten_batch_norm(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        options: Normalisation,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let (input, input_node) = input.into_parts();
        let (weight, weight_node) = weight.into_parts();
        let (bias, bias_node) = bias.into_parts();
        let running = [mean.into_primitive(), variance.into_primitive()];
        let ([output, mean, variance], saved) =
            batch_norm(&input, [&weight, &bias], running, options);
        let kept = Normalised {
            input,
            weight,
            saved,
            options,
            _running: (!options.training).then(|| [mean.clone(), variance.clone()]),
        };
        let output = track::<LibTorch, 3, _, C>([input_node, weight_node, bias_node], kept, output);
        (
            output,
            <FloatTensor<Self>>::new(mean),
            <FloatTensor<Self>>::new(variance),
        )
    }

    fn aten_relu(input: FloatTensor<Self>) -> FloatTensor<Self> {
        let (input, node) = input.into_parts();
        let output = relu(input);
        track::<LibTorch, 1, _, C>([node], Rectified(output.clone()), output)
    }

    fn aten_add_relu(lhs: FloatTensor<Self>, rhs: FloatTensor<Self>) -> FloatTensor<Self> {
        let (lhs, lhs_node) = lhs.into_parts();
        let (rhs, rhs_node) = rhs.into_parts();
        let output = relu(LibTorch::float_add(lhs, rhs));
        track::<LibTorch, 2, _, C>([lhs_node, rhs_node], Rectified(output.clone()), output)
    }

    fn aten_channels_last(input: FloatTensor<Self>) -> FloatTensor<Self> {
        <FloatTensor<Self>>::new(channels_last(input.into_primitive()))
    }
}
