//! flex's kernels against burn's own operations, and the parts they are made of against their definitions.

#![allow(clippy::expect_used, reason = "a failed expectation is a failed test")]

use burn::tensor::{Device, Tensor};
use proptest::prelude::*;
use selfcls_core::kernels::{Kernels, PlainKernels};

use super::FlexKernels;
use super::convolution::Plan;
use super::window::Axis;
use crate::against_burn::{self, assert_close, residual_gradients, tensor, values, weighted};
use crate::options::Convolution;

fn device() -> Device {
    Device::flex()
}

#[test]
fn convolutions_equal_burns() {
    against_burn::convolutions_equal_burns(&FlexKernels, &device());
    against_burn::convolutions_of_constants_have_half_a_gradient(&FlexKernels, &device());
    against_burn::convolutions_of_few_pixels_equal_burns(&FlexKernels, &device());
}

#[test]
fn batch_normalisation_equals_burns() {
    against_burn::batch_normalisation_equals_burns(&FlexKernels, &device());
}

#[test]
fn rectifiers_equal_burns_and_spare_what_is_still_needed() {
    against_burn::rectifiers_equal_burns_and_spare_what_is_still_needed(&FlexKernels, &device());
}

#[test]
fn chains_equal_burns() {
    let (ours, our_gradients) = residual_gradients(&FlexKernels, &device());
    let (theirs, their_gradients) = residual_gradients(&PlainKernels, &device());
    assert_close("output", ours, theirs, 1e-5);
    for (ours, theirs) in our_gradients.into_iter().zip(their_gradients) {
        assert_close("gradient", ours, theirs, 5e-5);
    }
}

/// More weights than a task has gradients of its own for, more places than one task takes, and images of which
/// several make a task.
#[test]
fn large_convolutions_equal_burns() {
    let device = device().autodiff();
    for (input, [channels, outputs], stride) in [
        ([3, 9, 7], [160, 200], 1),
        ([70, 2, 2], [192, 160], 2),
        ([2, 60, 50], [40, 24], 1),
        ([2, 61, 50], [40, 24], 2),
    ] {
        let [batch, height, width] = input;
        let x = tensor(1, [batch, channels, height, width], &device).require_grad();
        let w = tensor(2, [outputs, channels, 3, 3], &device).require_grad();
        let run = |kernels: &dyn Kernels| {
            weighted(kernels.conv2d(x.clone(), w.clone(), stride, 1, 1)).backward()
        };
        let (ours, theirs) = (run(&FlexKernels), run(&PlainKernels));
        for (name, tensor) in [("input", &x), ("weight", &w)] {
            assert_close(
                &format!("{input:?}, stride {stride}: gradient of the {name}"),
                tensor.grad(&ours).expect("a gradient"),
                tensor.grad(&theirs).expect("a gradient"),
                1e-5,
            );
        }
    }
}

/// The mean is a hundred deviations away: a difference of sums of squares would be noise.
#[test]
fn a_distant_mean_leaves_the_deviation_exact() {
    let device = device();
    let near = tensor(1, [32, 3, 16, 16], &device);
    let normalised = |x: Tensor<4>| {
        let ones: Tensor<1> = Tensor::ones([3], &device);
        let running = against_burn::running(3, &device);
        FlexKernels
            .batch_norm_train(x, ones.clone(), ones, running, 0.1, 1e-5)
            .output
    };
    // Multiples of 2^-12 stay what they are beside 64.
    let near = (near * 4096.0).round() / 4096.0;
    assert_close(
        "shifted",
        normalised(near.clone() + 64.0),
        normalised(near),
        1e-5,
    );
}

/// Other types than f32 are burn's matter.
#[test]
fn other_types_are_left_to_burn() {
    let double = |x: Tensor<4>| x.cast(burn::tensor::FloatDType::F64);
    let (x, w) = (
        double(tensor(1, [2, 3, 5, 5], &device())),
        double(tensor(2, [4, 3, 3, 3], &device())),
    );
    let run = |kernels: &dyn Kernels| {
        let y = kernels.conv2d(x.clone(), w.clone(), 1, 1, 1);
        values(kernels.add_relu(kernels.relu(y.clone()), y))
    };
    assert_eq!(run(&FlexKernels), run(&PlainKernels));
}

/// No images, no work, and nothing divided by their number.
#[test]
fn an_empty_batch_passes() {
    let plan = Plan::new(
        [0, 3, 5, 5],
        [4, 3, 3, 3],
        Convolution {
            stride: 2,
            padding: 1,
            groups: 1,
        },
    );
    assert_eq!(plan.output(), [0, 4, 3, 3]);
    let weight = vec![1.0; 4 * 27];
    assert!(plan.forward(&[], &weight).is_empty());
    assert!(plan.images_gradient(&[], &weight).is_empty());
    assert_eq!(plan.weight_gradient(&[], &[]), vec![0.0; 4 * 27]);
}

proptest! {
    /// A kernel cut to what it meets sees at every place what the whole one sees, and has no tap too many.
    #[test]
    fn cut_kernels_see_the_same(
        input in 1_usize..12,
        taps in 1_usize..8,
        stride in 1_usize..5,
        padding in 0_usize..7,
    ) {
        let Some(axis) = Axis::new(input, taps, stride, padding) else {
            return Ok(());
        };
        let seen = |axis: Axis, tap: usize| {
            let place = |output| axis.first + (output * axis.stride + tap) as isize;
            (0..axis.output).map(place).filter(|place| (0..input as isize).contains(place)).count()
        };
        let (cut, kept) = axis.cut();
        prop_assert_eq!(cut.output, axis.output);
        prop_assert_eq!(cut.taps, kept.len());
        for tap in 0..taps {
            let expected = seen(axis, tap);
            let actual = if kept.contains(&tap) { seen(cut, tap - kept.start) } else { 0 };
            prop_assert_eq!(actual, expected);
        }
        if (0..taps).any(|tap| seen(axis, tap) > 0) {
            prop_assert!(seen(axis, kept.start) > 0 && seen(axis, kept.end - 1) > 0);
        }
    }
}
