//! Batch normalisation, rectifiers, and chains of layers, in all precisions.

use burn::backend::LibTorch;
use burn::module::Module;
use burn::tensor::{DType, Device, Tensor};
use selfcls_core::config::Precision;
use selfcls_core::kernels::{Kernels, PlainKernels, RunningStatistics};
use selfcls_core::model::{BatchNorm, Context, Init, Noise};

use super::{aten, is_channels_last};
use crate::against_burn::{self, assert_close, residual_gradients, running, tensor, values};
use crate::on_devices::{kernels, on_devices};

on_devices!(
    batch_normalisation_equals_burns,
    running_statistics_are_changed_where_nobody_else_holds_them,
    a_layers_statistics_keep_their_place,
    statistics_that_a_backward_pass_needs_are_left_alone,
    rectifiers_equal_burns_and_spare_what_is_still_needed,
    chains_equal_burns_and_stay_channels_last,
    lower_precisions_follow_f32,
);

fn batch_normalisation_equals_burns(device: &Device) {
    against_burn::batch_normalisation_equals_burns(&aten(device), device);
}

/// Where the values lie in memory.
fn place(statistic: Tensor<1>) -> usize {
    let statistic = statistic.try_into_primitive::<LibTorch>();
    statistic.expect("a libtorch tensor").tensor.data_ptr() as usize
}

fn running_statistics_are_changed_where_nobody_else_holds_them(device: &Device) {
    let kernels = aten(device);
    let train = |running: RunningStatistics| {
        let one: Tensor<1> = Tensor::ones([6], device);
        let x = tensor(3, [4, 6, 5, 7], device);
        kernels
            .batch_norm_train(x, one.clone(), one, running, 0.1, 1e-5)
            .running
    };
    let all = |running: &RunningStatistics| {
        [&running.mean, &running.variance].map(|statistic| values(statistic.clone()))
    };
    let places =
        |running: &RunningStatistics| [&running.mean, &running.variance].map(|x| place(x.clone()));
    let held = running(6, device);
    let (before, place) = (all(&held), places(&held));
    let apart = train(held.clone());
    assert_eq!(all(&held), before);
    assert_ne!(all(&apart), before);
    let in_place = train(held);
    assert_eq!(places(&in_place), place);
    assert_eq!(all(&in_place), all(&apart));
}

/// In training, with a graph, from the second pass on; but not where an evaluation copy holds them.
fn a_layers_statistics_keep_their_place(device: &Device) {
    let (kernels, autodiff) = (aten(device), device.clone().autodiff());
    let layer = BatchNorm::new(&mut Init::new(&autodiff, 0), 6);
    let context = Context::training(&kernels, Noise::default());
    let pass = || {
        let x: Tensor<4> = tensor(3, [4, 6, 5, 7], &autodiff);
        layer.forward(x.require_grad(), &context)
    };
    let places = || [&layer.running_mean, &layer.running_var].map(|x| place(x.value()));
    let output = pass();
    let first = places();
    let again = pass();
    assert_eq!(places(), first);
    let _grads = (output + again).sum().backward();
    let copy = layer.valid();
    let before = values(copy.running_mean.value());
    pass();
    assert_ne!(places(), first);
    assert_eq!(values(copy.running_mean.value()), before);
    assert_ne!(values(layer.running_mean.value()), before);
}

/// A pass in evaluation, then one in training, then the first one's gradient.
fn statistics_that_a_backward_pass_needs_are_left_alone(device: &Device) {
    let (kernels, autodiff) = (aten(device), device.clone().autodiff());
    let gradient = |train_in_between: bool| {
        let one = || Tensor::<1>::ones([6], &autodiff);
        let x = tensor(3, [4, 6, 5, 7], &autodiff).require_grad();
        let running = running(6, device);
        let output = kernels.batch_norm_eval(x.clone(), one(), one(), running.clone(), 1e-5);
        if train_in_between {
            kernels.batch_norm_train(x.clone() * 3.0, one(), one(), running, 0.5, 1e-5);
        }
        let grads = against_burn::weighted(output).backward();
        values(x.grad(&grads).expect("a gradient"))
    };
    assert_eq!(gradient(true), gradient(false));
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
