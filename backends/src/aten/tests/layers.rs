//! Batch normalisation, rectifiers, and chains of layers, in all precisions.

use burn::tensor::{DType, Device, Tensor};
use selfcls_core::config::Precision;
use selfcls_core::kernels::PlainKernels;

use super::{aten, is_channels_last};
use crate::against_burn::{self, assert_close, residual_gradients, values};
use crate::on_devices::{kernels, on_devices};

on_devices!(
    batch_normalisation_equals_burns,
    rectifiers_equal_burns_and_spare_what_is_still_needed,
    chains_equal_burns_and_stay_channels_last,
    lower_precisions_follow_f32,
);

fn batch_normalisation_equals_burns(device: &Device) {
    against_burn::batch_normalisation_equals_burns(&aten(device), device);
}

fn rectifiers_equal_burns_and_spare_what_is_still_needed(device: &Device) {
    against_burn::rectifiers_equal_burns_and_spare_what_is_still_needed(&aten(device), device);
}

fn chains_equal_burns_and_stay_channels_last(device: &Device) {
    let (ours, our_gradients) = residual_gradients(&aten(device), device);
    let (theirs, their_gradients) = residual_gradients(&PlainKernels, device);
    assert!(is_channels_last(&ours));
    assert!(!is_channels_last(&theirs));
    assert_close("output", ours, theirs, 1e-5);
    for (ours, theirs) in our_gradients.into_iter().zip(their_gradients) {
        assert!(is_channels_last(&ours), "as the weight it belongs to");
        assert_close("gradient", ours, theirs, 5e-5);
    }
}

/// Half precision rounds, but keeps f32 where weights and statistics are concerned.
fn lower_precisions_follow_f32(device: &Device) {
    let (expected, expected_gradients) = residual_gradients(&aten(device), device);
    for (precision, dtype, tolerance) in [
        (Precision::Bf16, DType::BF16, 3e-2),
        (Precision::Fp16, DType::F16, 5e-3),
    ] {
        let (output, gradients) = residual_gradients(&kernels(device, precision), device);
        assert_eq!(output.dtype(), dtype);
        assert!(is_channels_last(&output));
        assert_close("output", output, expected.clone(), tolerance);
        for (gradient, expected) in gradients.into_iter().zip(&expected_gradients) {
            assert_eq!(gradient.dtype(), DType::F32);
            let norm = |x: Tensor<4>| values((x.clone() * x).sum())[0].sqrt();
            let relative = norm(gradient - expected.clone()) / norm(expected.clone());
            assert!(relative <= 4.0 * tolerance, "{dtype:?}: {relative}");
        }
    }
}
