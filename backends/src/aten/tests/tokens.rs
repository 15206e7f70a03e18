//! The operations of transformers against burn's.

use burn::tensor::{Device, FloatDType, Tensor};
use selfcls_core::kernels::{Kernels, PlainKernels};

use super::aten;
use crate::against_burn::{assert_close, tensor, values, weighted};
use crate::on_devices::on_devices;

on_devices!(
    gelus_equal_the_formula,
    layer_normalisations_equal_burns,
    constants_and_transposed_tokens_are_no_obstacle,
    half_precision_stays_half,
);

/// What each operation makes of `[3, 7, 20]`, and the gradients of its operands.
fn outcome(
    device: &Device,
    kernels: &dyn Kernels,
    run: impl Fn(&dyn Kernels, Tensor<3>, Tensor<1>, Tensor<1>) -> Tensor<3>,
) -> (Tensor<3>, Tensor<3>, [Option<Tensor<1>>; 2]) {
    let device = device.clone().autodiff();
    let x = tensor(1, [3, 7, 20], &device)
        .mul_scalar(3.0)
        .require_grad();
    let weight = (tensor(2, [20], &device) + 1.5).require_grad();
    let bias = tensor(3, [20], &device).require_grad();
    let output = run(kernels, x.clone(), weight.clone(), bias.clone());
    let grads = weighted(output.clone().unsqueeze()).backward();
    let of_input = x.grad(&grads).expect("a gradient");
    let of_rest = [weight, bias].map(|operand| operand.grad(&grads));
    (output.without_autodiff(), of_input, of_rest)
}

fn gelus_equal_the_formula(device: &Device) {
    let run = |kernels: &dyn Kernels, x, _, _| kernels.gelu(x);
    let (ours, our_gradient, _) = outcome(device, &aten(device), run);
    let (theirs, their_gradient, _) = outcome(device, &PlainKernels, run);
    assert_close("output", ours, theirs, 1e-6);
    assert_close("gradient", our_gradient, their_gradient, 1e-6);
    // x Phi(x) at 1 and at -2.
    let points = Tensor::<3>::from_floats([[[1.0, -2.0, 0.0]]], device);
    let known = Tensor::from_floats([[[0.841_344_75, -0.045_500_26, 0.0]]], device);
    assert_close("values", aten(device).gelu(points), known, 1e-6);
}

fn layer_normalisations_equal_burns(device: &Device) {
    let run = |kernels: &dyn Kernels, x, weight, bias| kernels.layer_norm(x, weight, bias, 1e-6);
    let (ours, our_gradient, our_rest) = outcome(device, &aten(device), run);
    let (theirs, their_gradient, their_rest) = outcome(device, &PlainKernels, run);
    assert_close("output", ours, theirs, 1e-5);
    assert_close("gradient", our_gradient, their_gradient, 1e-5);
    for (ours, theirs) in our_rest.into_iter().zip(their_rest) {
        let (ours, theirs) = (ours.expect("a gradient"), theirs.expect("a gradient"));
        assert_close("gradient of a parameter", ours, theirs, 1e-5);
    }
}

/// A gradient that nobody wants is not computed; layouts other than row by row are read as they are.
fn constants_and_transposed_tokens_are_no_obstacle(device: &Device) {
    let device = device.clone().autodiff();
    let x = tensor(1, [5, 4, 6], &device).require_grad();
    let [weight, bias] = [tensor(2, [5], &device), tensor(3, [5], &device)];
    let run = |kernels: &dyn Kernels| {
        let output = kernels.layer_norm(
            x.clone().permute([1, 2, 0]),
            weight.clone(),
            bias.clone(),
            1e-6,
        );
        let output = kernels.gelu(output);
        let grads = weighted(output.clone().unsqueeze()).backward();
        (
            output.without_autodiff(),
            x.grad(&grads).expect("a gradient"),
        )
    };
    let ((ours, our_gradient), (theirs, their_gradient)) =
        (run(&aten(&device)), run(&PlainKernels));
    assert_close("output", ours, theirs, 1e-5);
    assert_close("gradient", our_gradient, their_gradient, 1e-5);
}

fn half_precision_stays_half(device: &Device) {
    let x = tensor(1, [2, 3, 8], device);
    for (dtype, tolerance) in [(FloatDType::BF16, 8e-3), (FloatDType::F16, 1e-3)] {
        let low = aten(device).gelu(x.clone().cast(dtype));
        assert_eq!(low.dtype(), x.clone().cast(dtype).dtype());
        assert!(
            values(low.clone().cast(FloatDType::F32))
                .iter()
                .all(|value| value.is_finite())
        );
        assert_close(
            "gelu",
            low.cast(FloatDType::F32),
            aten(device).gelu(x.clone()),
            tolerance,
        );
    }
}
