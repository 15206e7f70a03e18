//! The operations in burn's graph: on flex's tensors forward, by closed formulas backward.
//!
//! Images are laid out channels last throughout: each operation converts what comes in otherwise and keeps the
//! layout in what it gives.

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Flex, backend_extension};

use super::layer::Layer;
use super::maps::{channels_last, from_values, in_order, shape, vector};
use super::normalisation::Statistics;
use super::rectifier;
use crate::kept::{Kept, track};
use crate::options::{Convolution, Normalisation};

#[backend_extension(Autodiff, Flex)]
pub(super) trait FlexOps: Backend {
    /// Convolution of `[batch, in, h, w]` with `[out, in / groups, kh, kw]`.
    fn flex_conv2d(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        shape: Convolution,
    ) -> FloatTensor<Self>;

    /// Batch normalisation of `[batch, channels, h, w]`: output, running mean and running variance.
    fn flex_batch_norm(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        options: Normalisation,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// `max(input, 0)`, in place where nothing else needs the input.
    fn flex_relu(input: FloatTensor<Self>) -> FloatTensor<Self>;

    /// `max(lhs + rhs, 0)`, in place where nothing else needs `lhs`.
    fn flex_add_relu(lhs: FloatTensor<Self>, rhs: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// All values of a tensor that fills its buffer.
fn values(tensor: &FlexTensor) -> &[f32] {
    tensor.storage()
}

/// Input and weight as they are computed with: channels last, and in order.
fn laid_out(input: FlexTensor, weight: &FlexTensor) -> (FlexTensor, FlexTensor) {
    (channels_last(input), weight.to_contiguous())
}

/// Both operands laid out already.
fn conv2d(input: &FlexTensor, weight: &FlexTensor, options: Convolution) -> FlexTensor {
    let layer = Layer::new(shape(input), shape(weight), options);
    let output = layer.forward(values(input), values(weight));
    from_values(output, layer.output())
}

/// The channels' own values, their statistics and those that go on.
struct Normalised {
    output: FlexTensor,
    running: [FlexTensor; 2],
    statistics: Statistics,
}

/// The input laid out already.
fn batch_norm(
    input: &FlexTensor,
    [weight, bias]: [&FlexTensor; 2],
    [mean, variance]: [FlexTensor; 2],
    options: Normalisation,
) -> Normalised {
    let input_shape @ [batch, channels, height, width] = shape(input);
    let (weight, bias) = (weight.to_contiguous(), bias.to_contiguous());
    let [mean, variance] = [mean, variance].map(|tensor| tensor.to_contiguous());
    let (statistics, running) = if options.training {
        let statistics = Statistics::of(values(input), channels);
        let count = (batch * height * width) as f64;
        // Bessel's correction, as PyTorch; a single value has no unbiased variance.
        let unbiased = count / (count - 1.0).max(1.0);
        let blend = |old: &FlexTensor, new: &[f32], factor: f64| {
            let blend = |(old, new): (&f32, &f32)| {
                let (old, new) = (f64::from(*old), f64::from(*new));
                (old * (1.0 - options.momentum) + new * factor * options.momentum) as f32
            };
            vector(values(old).iter().zip(new).map(blend).collect())
        };
        let running = [
            blend(&mean, &statistics.mean, 1.0),
            blend(&variance, &statistics.variance, unbiased),
        ];
        (statistics, running)
    } else {
        let statistics = Statistics {
            mean: values(&mean).to_vec(),
            variance: values(&variance).to_vec(),
        };
        (statistics, [mean, variance])
    };
    let map = statistics.normalising(values(&weight), values(&bias), options.eps);
    Normalised {
        output: from_values(map.apply(values(input)), input_shape),
        running,
        statistics,
    }
}

/// The tensor with `in_place` done to its values, in a copy if others hold them too.
fn changed(mut tensor: FlexTensor, in_place: impl FnOnce(&mut [f32])) -> FlexTensor {
    in_place(tensor.storage_mut());
    tensor
}

fn relu(input: FlexTensor) -> FlexTensor {
    changed(channels_last(input), rectifier::rectify)
}

fn add_relu(lhs: FlexTensor, rhs: FlexTensor) -> FlexTensor {
    let (lhs, rhs) = (channels_last(lhs), channels_last(rhs));
    changed(lhs, |sum| rectifier::add_rectify(sum, values(&rhs)))
}

impl FlexOps for Flex {
    fn flex_conv2d(input: FlexTensor, weight: FlexTensor, shape: Convolution) -> FlexTensor {
        let (input, weight) = laid_out(input, &weight);
        conv2d(&input, &weight, shape)
    }

    fn flex_batch_norm(
        input: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        mean: FlexTensor,
        variance: FlexTensor,
        options: Normalisation,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        let input = channels_last(input);
        let done = batch_norm(&input, [&weight, &bias], [mean, variance], options);
        let [mean, variance] = done.running;
        (done.output, mean, variance)
    }

    fn flex_relu(input: FlexTensor) -> FlexTensor {
        relu(input)
    }

    fn flex_add_relu(lhs: FlexTensor, rhs: FlexTensor) -> FlexTensor {
        add_relu(lhs, rhs)
    }
}

#[derive(Debug, Clone)]
struct Convolved {
    input: FlexTensor,
    weight: FlexTensor,
    options: Convolution,
}

impl Kept<Flex, 2> for Convolved {
    fn gradients(self, gradient: FlexTensor, wanted: [bool; 2]) -> [Option<FlexTensor>; 2] {
        let (gradient, images) = (channels_last(gradient), shape(&self.input));
        let layer = Layer::new(images, shape(&self.weight), self.options);
        let [of_input, of_weight] = wanted;
        [
            of_input.then(|| {
                let gradient = layer.images_gradient(values(&gradient), values(&self.weight));
                from_values(gradient, images)
            }),
            of_weight.then(|| {
                let gradient = layer.weight_gradient(values(&gradient), values(&self.input));
                in_order(gradient, shape(&self.weight))
            }),
        ]
    }
}

#[derive(Debug, Clone)]
struct ChannelsNormalised {
    input: FlexTensor,
    weight: FlexTensor,
    statistics: Statistics,
    options: Normalisation,
}

impl Kept<Flex, 3> for ChannelsNormalised {
    fn gradients(self, gradient: FlexTensor, _wanted: [bool; 3]) -> [Option<FlexTensor>; 3] {
        let gradients = self.statistics.gradients(
            values(&channels_last(gradient)),
            values(&self.input),
            values(&self.weight.to_contiguous()),
            self.options.eps,
            self.options.training,
        );
        [
            Some(from_values(gradients.input, shape(&self.input))),
            Some(vector(gradients.weight)),
            Some(vector(gradients.bias)),
        ]
    }
}

/// `relu` over the sum of `N` operands keeps its output, which the next layer keeps anyway, so the operands need not
/// stay in memory.
#[derive(Debug, Clone)]
struct Rectified(FlexTensor);

impl<const N: usize> Kept<Flex, N> for Rectified {
    fn gradients(self, gradient: FlexTensor, wanted: [bool; N]) -> [Option<FlexTensor>; N] {
        let gradient = changed(channels_last(gradient), |gradient| {
            rectifier::pass(gradient, values(&self.0));
        });
        wanted.map(|wanted| wanted.then(|| gradient.clone()))
    }
}

impl<C: CheckpointStrategy> FlexOps for Autodiff<Flex, C> {
    fn flex_conv2d(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        shape: Convolution,
    ) -> FloatTensor<Self> {
        let (input, input_node) = input.into_parts();
        let (weight, weight_node) = weight.into_parts();
        let (input, weight) = laid_out(input, &weight);
        let output = conv2d(&input, &weight, shape);
        let kept = Convolved {
            input,
            weight,
            options: shape,
        };
        track::<Flex, 2, _, C>([input_node, weight_node], kept, output)
    }

    fn flex_batch_norm(
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
        let input = channels_last(input);
        let running = [mean.into_primitive(), variance.into_primitive()];
        let done = batch_norm(&input, [&weight, &bias], running, options);
        let [mean, variance] = done.running;
        let kept = ChannelsNormalised {
            input,
            weight,
            statistics: done.statistics,
            options,
        };
        let nodes = [input_node, weight_node, bias_node];
        let output = track::<Flex, 3, _, C>(nodes, kept, done.output);
        (
            output,
            <FloatTensor<Self>>::new(mean),
            <FloatTensor<Self>>::new(variance),
        )
    }

    fn flex_relu(input: FloatTensor<Self>) -> FloatTensor<Self> {
        let (input, node) = input.into_parts();
        let output = relu(input);
        track::<Flex, 1, _, C>([node], Rectified(output.clone()), output)
    }

    fn flex_add_relu(lhs: FloatTensor<Self>, rhs: FloatTensor<Self>) -> FloatTensor<Self> {
        let (lhs, lhs_node) = lhs.into_parts();
        let (rhs, rhs_node) = rhs.into_parts();
        let output = add_relu(lhs, rhs);
        track::<Flex, 2, _, C>([lhs_node, rhs_node], Rectified(output.clone()), output)
    }
}
