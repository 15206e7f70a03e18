//! Convolutions against burn's own, and those that libtorch gets wrong.

use burn::tensor::{FloatDType, Tensor};
use selfcls_core::kernels::{Kernels, PlainKernels};

use super::{assert_close, aten, device, tensor, weighted};

/// Kernels, strides, paddings and groups, square images and not, without autodiff and with.
#[test]
fn convolutions_equal_burns() {
    let device = device();
    let autodiff = device.clone().autodiff();
    for kernel in [1, 2, 3, 7] {
        for stride in [1, 2, 4] {
            for padding in [0, kernel / 2, kernel - 1] {
                for (input, output, groups) in [(3, 8, 1), (8, 6, 1), (8, 12, 2), (6, 6, 6)] {
                    let case = format!(
                        "{input} to {output} channels in {groups} groups, kernel {kernel}, stride {stride}, padding {padding}"
                    );
                    let convolve = |kernels: &dyn Kernels, x: &Tensor<4>, w: &Tensor<4>| {
                        kernels.conv2d(x.clone(), w.clone(), stride, padding, groups)
                    };
                    let x = |device| tensor(1, [3, input, 9, 8], device);
                    let w = |device| tensor(2, [output, input / groups, kernel, kernel], device);
                    assert_close(
                        &format!("{case}: output without autodiff"),
                        convolve(&aten(), &x(&device), &w(&device)),
                        convolve(&PlainKernels, &x(&device), &w(&device)),
                        1e-5,
                    );

                    let (x, w) = (x(&autodiff).require_grad(), w(&autodiff).require_grad());
                    let ours = convolve(&aten(), &x, &w);
                    let theirs = convolve(&PlainKernels, &x, &w);
                    assert_close(
                        &format!("{case}: output"),
                        ours.clone(),
                        theirs.clone(),
                        1e-5,
                    );
                    let (ours, theirs) = (weighted(ours).backward(), weighted(theirs).backward());
                    for (name, tensor) in [("input", &x), ("weight", &w)] {
                        assert_close(
                            &format!("{case}: gradient of the {name}"),
                            tensor.grad(&ours).expect("a gradient"),
                            tensor.grad(&theirs).expect("a gradient"),
                            1e-5,
                        );
                    }
                }
            }
        }
    }
}

/// What libtorch 2.9 gets wrong channels last, and corrupts memory over: see `extension::laid_out`.
#[test]
fn narrow_shortcuts_have_right_gradients() {
    let device = device().autodiff();
    for channels in [1, 2, 3, 4, 5, 8, 12, 16] {
        for size in [4, 8, 16] {
            let x = aten().weight_layout(tensor(
                1,
                [8, channels, size, size],
                &device.clone().without_autodiff(),
            ));
            let x = x.autodiff().require_grad();
            let w = tensor(2, [8, channels, 1, 1], &device).require_grad();
            let run = |kernels: &dyn Kernels| {
                weighted(kernels.conv2d(x.clone(), w.clone(), 2, 0, 1)).backward()
            };
            let (ours, theirs) = (run(&aten()), run(&PlainKernels));
            for (name, tensor) in [("input", &x), ("weight", &w)] {
                assert_close(
                    &format!("{channels} channels, {size} pixels: gradient of the {name}"),
                    tensor.grad(&ours).expect("a gradient"),
                    tensor.grad(&theirs).expect("a gradient"),
                    1e-5,
                );
            }
        }
    }
}

/// What libtorch 2.9 gets wrong in bf16: see `extension::conv2d_backward`.
#[test]
fn images_of_one_pixel_have_right_gradients_in_half_precision() {
    let device = device().autodiff();
    for (dtype, tolerance) in [(FloatDType::BF16, 2e-2), (FloatDType::F16, 4e-3)] {
        for (input, output) in [(3, 8), (16, 32), (32, 64), (64, 64)] {
            for (kernel, [height, width]) in [(3, [1, 1]), (3, [4, 1]), (3, [1, 4]), (7, [1, 1])] {
                let low = |seed, shape| tensor(seed, shape, &device).cast(dtype).detach();
                let x = low(1, [16, input, height, width]).require_grad();
                let w = low(2, [output, input, kernel, kernel]).require_grad();
                let grads = weighted(aten().conv2d(x.clone(), w.clone(), 2, kernel / 2, 1));
                let grads = grads.backward();
                let full = |tensor: &Tensor<4>| {
                    tensor.clone().cast(FloatDType::F32).detach().require_grad()
                };
                let (full_x, full_w) = (full(&x), full(&w));
                let convolved =
                    PlainKernels.conv2d(full_x.clone(), full_w.clone(), 2, kernel / 2, 1);
                let expected = weighted(convolved).backward();
                for (name, low, full) in [("input", &x, &full_x), ("weight", &w, &full_w)] {
                    assert_close(
                        &format!(
                            "{input} to {output} channels, kernel {kernel}, {height} by {width} pixels, {dtype:?}: gradient of the {name}"
                        ),
                        low.grad(&grads).expect("a gradient").cast(FloatDType::F32),
                        full.grad(&expected).expect("a gradient"),
                        tolerance,
                    );
                }
            }
        }
    }
}

/// A gradient that nobody wants is not computed, and the other one is right all the same.
#[test]
fn convolutions_of_constants_have_half_a_gradient() {
    let device = device().autodiff();
    let convolve = |x: &Tensor<4>, w: &Tensor<4>| aten().conv2d(x.clone(), w.clone(), 1, 1, 1);
    let (x, w) = (
        tensor(1, [2, 4, 6, 6], &device),
        tensor(2, [8, 4, 3, 3], &device),
    );
    let both = [x.clone().require_grad(), w.clone().require_grad()];
    let expected = weighted(convolve(&both[0], &both[1])).backward();
    let image = x.clone().require_grad();
    let grads = weighted(convolve(&image, &w)).backward();
    assert!(w.grad(&grads).is_none());
    assert_close(
        "of the input",
        image.grad(&grads).expect("a gradient"),
        both[0].grad(&expected).expect("a gradient"),
        1e-6,
    );
    let weight = w.require_grad();
    let grads = weighted(convolve(&x, &weight)).backward();
    assert!(x.grad(&grads).is_none());
    assert_close(
        "of the weight",
        weight.grad(&grads).expect("a gradient"),
        both[1].grad(&expected).expect("a gradient"),
        1e-6,
    );
}
