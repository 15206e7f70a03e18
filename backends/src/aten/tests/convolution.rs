//! Convolutions against burn's own, and those that libtorch gets wrong.

use burn::tensor::{Device, FloatDType, Tensor};
use selfcls_core::kernels::{Kernels, PlainKernels};

use super::aten;
use crate::against_burn::{self, assert_close, tensor, weighted};
use crate::on_devices::on_devices;

on_devices!(
    convolutions_equal_burns,
    narrow_shortcuts_have_right_gradients,
    images_of_one_pixel_have_right_gradients_in_half_precision,
    convolutions_of_few_pixels_equal_burns,
);

fn convolutions_equal_burns(device: &Device) {
    against_burn::convolutions_equal_burns(&aten(device), device);
    against_burn::convolutions_of_constants_have_half_a_gradient(&aten(device), device);
}

/// What libtorch 2.9 gets wrong channels last, and corrupts memory over: see `extension::laid_out`.
fn narrow_shortcuts_have_right_gradients(device: &Device) {
    let device = device.clone().autodiff();
    for channels in [1, 2, 3, 4, 5, 8, 12, 16] {
        for size in [4, 8, 16] {
            let x = aten(&device).weight_layout(tensor(
                1,
                [8, channels, size, size],
                &device.clone().without_autodiff(),
            ));
            let x = x.autodiff().require_grad();
            let w = tensor(2, [8, channels, 1, 1], &device).require_grad();
            let run = |kernels: &dyn Kernels| {
                weighted(kernels.conv2d(x.clone(), w.clone(), 2, 0, 1)).backward()
            };
            let (ours, theirs) = (run(&aten(&device)), run(&PlainKernels));
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

/// What libtorch 2.9 gets wrong in bf16: see `extension::by_convolutions`.
fn images_of_one_pixel_have_right_gradients_in_half_precision(device: &Device) {
    let device = device.clone().autodiff();
    for (dtype, tolerance) in [(FloatDType::BF16, 2e-2), (FloatDType::F16, 4e-3)] {
        for (input, output) in [(3, 8), (16, 32), (32, 64), (64, 64)] {
            for (kernel, [height, width]) in [(3, [1, 1]), (3, [4, 1]), (3, [1, 4]), (7, [1, 1])] {
                let low = |seed, shape| tensor(seed, shape, &device).cast(dtype).detach();
                let x = low(1, [16, input, height, width]).require_grad();
                let w = low(2, [output, input, kernel, kernel]).require_grad();
                let grads = weighted(aten(&device).conv2d(x.clone(), w.clone(), 2, kernel / 2, 1));
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

fn convolutions_of_few_pixels_equal_burns(device: &Device) {
    against_burn::convolutions_of_few_pixels_equal_burns(&aten(device), device);
}
