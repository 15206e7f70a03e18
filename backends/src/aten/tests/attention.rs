//! Attention against three operations of burn's.

use burn::tensor::{Device, FloatDType, Tensor};
use selfcls_core::kernels::{Kernels, PlainKernels};

use super::aten;
use crate::against_burn::{assert_close, tensor, values, weighted};
use crate::aten::dot_product_attention;
use crate::on_devices::on_devices;

on_devices!(
    attention_equals_burns,
    layouts_other_than_row_by_row_are_no_obstacle,
    what_is_kept_is_not_overwritten,
    constants_have_no_gradient,
    lower_precisions_follow_f32,
    large_scores_stay_finite,
);

/// One token, a picture's, and numbers that fill no vector: `[batch, tokens, heads, width]`.
const SHAPES: [[usize; 4]; 5] = [
    [2, 1, 1, 1],
    [2, 1, 3, 64],
    [2, 197, 3, 64],
    [3, 7, 2, 5],
    [1, 33, 3, 17],
];

type Attention = fn(Tensor<3>, usize) -> Tensor<3>;

/// Those that stand for burn's on a device: the one that is taken there, and libtorch's own, which is taken elsewhere and
/// serves every device.
const OURS: [(&str, Attention); 2] = [
    ("ours", |qkv, heads| {
        let device = qkv.device().without_autodiff();
        aten(&device).attention(qkv, heads)
    }),
    ("libtorch's", dot_product_attention),
];

fn burns(qkv: Tensor<3>, heads: usize) -> Tensor<3> {
    PlainKernels.attention(qkv, heads)
}

/// What `attention` makes of `qkv`, and its gradient: of queries, keys and values. In f32.
fn outcome(attention: Attention, qkv: Tensor<3>, heads: usize) -> [Tensor<3>; 2] {
    let qkv = qkv.autodiff().require_grad();
    let output = attention(qkv.clone(), heads);
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

fn qkv([batch, tokens, heads, width]: [usize; 4], device: &Device) -> Tensor<3> {
    tensor(1, [batch, tokens, 3 * heads * width], device).mul_scalar(3.0)
}

fn attention_equals_burns(device: &Device) {
    for shape in SHAPES {
        let (qkv, heads) = (qkv(shape, device), shape[2]);
        let theirs = outcome(burns, qkv.clone(), heads);
        for (name, attention) in OURS {
            assert_close(
                &format!("{name}, {shape:?} without autodiff"),
                attention(qkv.clone(), heads),
                theirs[0].clone(),
                1e-5,
            );
            let ours = outcome(attention, qkv.clone(), heads);
            assert_alike(&format!("{name}, {shape:?}"), ours, theirs.clone(), 1e-5);
        }
    }
}

/// Features far apart in memory, every second feature, and one image seen as several.
fn layouts_other_than_row_by_row_are_no_obstacle(device: &Device) {
    let heads = 2;
    for (case, qkv) in [
        (
            "transposed",
            tensor(1, [30, 4, 7], device).permute([1, 2, 0]),
        ),
        (
            "strided",
            tensor(2, [4, 7, 30, 2], device)
                .slice([0..4, 0..7, 0..30, 1..2])
                .squeeze_dim(3),
        ),
        ("expanded", tensor(3, [1, 7, 30], device).expand([4, 7, 30])),
    ] {
        let theirs = outcome(burns, qkv.clone(), heads);
        for (name, attention) in OURS {
            let ours = outcome(attention, qkv.clone(), heads);
            assert_alike(&format!("{name}, {case}"), ours, theirs.clone(), 1e-5);
        }
    }
}

/// What comes in and what goes out are kept for the backward pass, and others go on computing with them.
fn what_is_kept_is_not_overwritten(device: &Device) {
    let device = device.clone().autodiff();
    let x = tensor(4, [2, 5, 18], &device).require_grad();
    let run = |attention: Attention| {
        let qkv = x.clone() * 2.0;
        let output = attention(qkv.clone(), 3);
        let output = output * 3.0 + 1.0;
        let output = Tensor::cat(vec![output, qkv * 5.0 + 1.0], 2);
        let grads = weighted(output.clone().unsqueeze()).backward();
        let gradient = x.grad(&grads).expect("a gradient");
        (output.without_autodiff(), gradient)
    };
    let (theirs, their_gradient) = run(burns);
    for (name, attention) in OURS {
        let (ours, our_gradient) = run(attention);
        assert_close(&format!("{name}: output"), ours, theirs.clone(), 1e-5);
        let case = format!("{name}: gradient");
        assert_close(&case, our_gradient, their_gradient.clone(), 1e-5);
    }
}

fn constants_have_no_gradient(device: &Device) {
    let device = device.clone().autodiff();
    let constant = tensor(5, [2, 5, 18], &device);
    let scale = tensor(6, [2, 5, 6], &device).require_grad();
    for (name, attention) in OURS {
        let attended = attention(constant.clone(), 3);
        let grads = weighted((attended.clone() * scale.clone()).unsqueeze()).backward();
        assert!(constant.grad(&grads).is_none(), "{name}");
        assert!(scale.grad(&grads).is_some(), "{name}");
    }
}

fn lower_precisions_follow_f32(device: &Device) {
    for shape in SHAPES {
        let (qkv, heads) = (qkv(shape, device), shape[2]);
        let expected = outcome(burns, qkv.clone(), heads);
        for (dtype, tolerance) in [(FloatDType::BF16, 3e-2), (FloatDType::F16, 5e-3)] {
            for (name, attention) in OURS {
                let low = outcome(attention, qkv.clone().cast(dtype), heads);
                let case = format!("{name}, {shape:?} in {dtype:?}");
                assert_alike(&case, low, expected.clone(), tolerance);
            }
        }
    }
}

/// Scores of thousands: far beyond what the exponential can take.
fn large_scores_stay_finite(device: &Device) {
    let qkv = qkv([2, 19, 2, 64], device).mul_scalar(20.0);
    let theirs = outcome(burns, qkv.clone(), 2);
    for (name, attention) in OURS {
        let ours = outcome(attention, qkv.clone(), 2);
        assert_alike(name, ours, theirs.clone(), 1e-3);
        for dtype in [FloatDType::BF16, FloatDType::F16] {
            for tensor in outcome(attention, qkv.clone().cast(dtype), 2) {
                let finite = values(tensor).iter().all(|value| value.is_finite());
                assert!(finite, "{name}, {dtype:?}");
            }
        }
    }
}
