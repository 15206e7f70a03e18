//! Attention against three operations of burn's.

use burn::tensor::{FloatDType, Tensor};
use selfcls_core::kernels::{Kernels, PlainKernels};

use super::{aten, device};
use crate::against_burn::{assert_close, tensor, values, weighted};

/// One token, a picture's, and numbers that fill no vector: `[batch, tokens, heads, width]`.
const SHAPES: [[usize; 4]; 5] = [
    [2, 1, 1, 1],
    [2, 1, 3, 64],
    [2, 197, 3, 64],
    [3, 7, 2, 5],
    [1, 33, 3, 17],
];

/// What `kernels` make of `qkv`, and its gradient: of queries, keys and values. In f32.
fn outcome(kernels: &dyn Kernels, qkv: Tensor<3>, heads: usize) -> [Tensor<3>; 2] {
    let qkv = qkv.autodiff().require_grad();
    let output = kernels.attention(qkv.clone(), heads);
    let grads = weighted(output.clone().unsqueeze()).backward();
    let gradient = qkv.grad(&grads).expect("a gradient");
    assert_eq!(output.dtype(), qkv.dtype());
    assert_eq!(gradient.dtype(), qkv.dtype());
    [output.without_autodiff(), gradient].map(|tensor| tensor.cast(FloatDType::F32))
}

#[track_caller]
fn assert_alike(case: &str, ours: [Tensor<3>; 2], theirs: [Tensor<3>; 2], tolerance: f32) {
    let ([output, gradient], [expected, expected_gradient]) = (ours, theirs);
    assert_close(&format!("{case}: output"), output, expected, tolerance);
    // All three at once: those of queries and keys are rounding alone where there is nothing to choose between.
    let case = format!("{case}: gradient");
    assert_close(&case, gradient, expected_gradient, tolerance);
}

fn qkv([batch, tokens, heads, width]: [usize; 4]) -> Tensor<3> {
    tensor(1, [batch, tokens, 3 * heads * width], &device()).mul_scalar(3.0)
}

#[test]
fn attention_equals_burns() {
    for shape in SHAPES {
        let (qkv, heads) = (qkv(shape), shape[2]);
        let ours = outcome(&aten(), qkv.clone(), heads);
        let theirs = outcome(&PlainKernels, qkv.clone(), heads);
        assert_close(
            &format!("{shape:?} without autodiff"),
            aten().attention(qkv, heads),
            theirs[0].clone(),
            1e-5,
        );
        assert_alike(&format!("{shape:?}"), ours, theirs, 1e-5);
    }
}

/// Features far apart in memory, every second feature, and one image seen as several.
#[test]
fn layouts_other_than_row_by_row_are_no_obstacle() {
    let device = device();
    let heads = 2;
    for (case, qkv) in [
        (
            "transposed",
            tensor(1, [30, 4, 7], &device).permute([1, 2, 0]),
        ),
        (
            "strided",
            tensor(2, [4, 7, 30, 2], &device)
                .slice([0..4, 0..7, 0..30, 1..2])
                .squeeze_dim(3),
        ),
        (
            "expanded",
            tensor(3, [1, 7, 30], &device).expand([4, 7, 30]),
        ),
    ] {
        let ours = outcome(&aten(), qkv.clone(), heads);
        assert_alike(case, ours, outcome(&PlainKernels, qkv, heads), 1e-5);
    }
}

/// What comes in and what goes out are kept for the backward pass, and others go on computing with them.
#[test]
fn what_is_kept_is_not_overwritten() {
    let device = device().autodiff();
    let x = tensor(4, [2, 5, 18], &device).require_grad();
    let run = |kernels: &dyn Kernels| {
        let qkv = x.clone() * 2.0;
        let output = kernels.attention(qkv.clone(), 3);
        let output = output * 3.0 + 1.0;
        let output = Tensor::cat(vec![output, qkv * 5.0 + 1.0], 2);
        let grads = weighted(output.clone().unsqueeze()).backward();
        let gradient = x.grad(&grads).expect("a gradient");
        (output.without_autodiff(), gradient)
    };
    let ((ours, our_gradient), (theirs, their_gradient)) = (run(&aten()), run(&PlainKernels));
    assert_close("output", ours, theirs, 1e-5);
    assert_close("gradient", our_gradient, their_gradient, 1e-5);
}

#[test]
fn constants_have_no_gradient() {
    let device = device().autodiff();
    let constant = tensor(5, [2, 5, 18], &device);
    let scale = tensor(6, [2, 5, 6], &device).require_grad();
    let attended = aten().attention(constant.clone(), 3);
    let grads = weighted((attended.clone() * scale.clone()).unsqueeze()).backward();
    assert!(constant.grad(&grads).is_none());
    assert!(scale.grad(&grads).is_some());
}

#[test]
fn lower_precisions_follow_f32() {
    for shape in SHAPES {
        let (qkv, heads) = (qkv(shape), shape[2]);
        let expected = outcome(&PlainKernels, qkv.clone(), heads);
        for (dtype, tolerance) in [(FloatDType::BF16, 3e-2), (FloatDType::F16, 5e-3)] {
            let low = outcome(&aten(), qkv.clone().cast(dtype), heads);
            let case = format!("{shape:?} in {dtype:?}");
            assert_alike(&case, low, expected.clone(), tolerance);
        }
    }
}

/// Scores of thousands: far beyond what the exponential can take.
#[test]
fn large_scores_stay_finite() {
    let qkv = qkv([2, 19, 2, 64]).mul_scalar(20.0);
    let ours = outcome(&aten(), qkv.clone(), 2);
    assert_alike("f32", ours, outcome(&PlainKernels, qkv.clone(), 2), 1e-3);
    for dtype in [FloatDType::BF16, FloatDType::F16] {
        for tensor in outcome(&aten(), qkv.clone().cast(dtype), 2) {
            let finite = values(tensor).iter().all(|value| value.is_finite());
            assert!(finite, "{dtype:?}");
        }
    }
}
