//! The functions of `ops.cpp`, safe to call: borrowed tensors in, owned tensors or a message out.
#![allow(
    unsafe_code,
    reason = "one of the places where this workspace calls foreign functions"
)]

use std::ffi::c_char;
use std::ptr::{null, null_mut};

use selfcls_core::config::OptimConfig;
use selfcls_core::optim::rule::{ADAM_EPS, CLIP_EPS, LARC_EPS};
use tch::Tensor;
use torch_sys::C_tensor;

use crate::message;
pub(super) use crate::options::{Convolution, Normalisation};

/// What libtorch threw.
pub(super) type Result<T> = std::result::Result<T, String>;

unsafe extern "C" {
    fn selfcls_channels_last(tensor: *const C_tensor, out: *mut *mut C_tensor) -> *mut c_char;
    fn selfcls_channels_first(tensor: *const C_tensor, out: *mut *mut C_tensor) -> *mut c_char;
    fn selfcls_copy(tensor: *const C_tensor, out: *mut *mut C_tensor) -> *mut c_char;
    fn selfcls_convolution_backward(
        gradient: *const C_tensor,
        input: *const C_tensor,
        weight: *const C_tensor,
        stride: i64,
        padding: i64,
        groups: i64,
        want_input: bool,
        want_weight: bool,
        out: *mut *mut C_tensor,
    ) -> *mut c_char;
    fn selfcls_batch_norm(
        input: *const C_tensor,
        weight: *const C_tensor,
        bias: *const C_tensor,
        mean: *const C_tensor,
        variance: *const C_tensor,
        training: bool,
        momentum: f64,
        eps: f64,
        out: *mut *mut C_tensor,
        implementation: *mut i64,
    ) -> *mut c_char;
    fn selfcls_batch_norm_backward(
        implementation: i64,
        gradient: *const C_tensor,
        input: *const C_tensor,
        weight: *const C_tensor,
        mean: *const C_tensor,
        variance: *const C_tensor,
        saved_mean: *const C_tensor,
        saved_variance: *const C_tensor,
        reserve: *const C_tensor,
        training: bool,
        eps: f64,
        want_input: bool,
        want_weight: bool,
        want_bias: bool,
        out: *mut *mut C_tensor,
    ) -> *mut c_char;
    fn selfcls_layer_norm_backward(
        gradient: *const C_tensor,
        input: *const C_tensor,
        mean: *const C_tensor,
        scale: *const C_tensor,
        weight: *const C_tensor,
        bias: *const C_tensor,
        want_input: bool,
        want_weight: bool,
        want_bias: bool,
        out: *mut *mut C_tensor,
    ) -> *mut c_char;
    fn selfcls_norms(
        tensors: *const *mut C_tensor,
        count: i64,
        largest: bool,
        out: *mut *mut C_tensor,
    ) -> *mut c_char;
    fn selfcls_scale(
        tensors: *const *mut C_tensor,
        count: i64,
        factor: *const C_tensor,
    ) -> *mut c_char;
    fn selfcls_update(rule: *const Rule, updates: *const UpdateLists, batched: bool)
    -> *mut c_char;
}

/// `selfcls_rule` of `ops.cpp`.
#[repr(C)]
struct Rule {
    adamw: bool,
    larc: bool,
    larc_clip: bool,
    lr: f64,
    momentum: f64,
    beta1: f64,
    beta2: f64,
    trust: f64,
    clip: f64,
    clip_eps: f64,
    larc_eps: f64,
    adam_eps: f64,
}

/// `selfcls_updates` of `ops.cpp`.
#[repr(C)]
struct UpdateLists {
    count: i64,
    params: *const *mut C_tensor,
    grads: *const *mut C_tensor,
    first: *const *mut C_tensor,
    second: *const *mut C_tensor,
    decay: *const f64,
    step: *const i64,
}

/// What a function of `ops.cpp` answered.
fn answer(thrown: *mut c_char) -> Result<()> {
    // SAFETY: only called with what such a function has just returned.
    unsafe { message::answer(thrown) }
}

/// Calls a function of `ops.cpp` that fills `N` slots with new tensors.
fn call<const N: usize>(
    function: impl FnOnce(*mut *mut C_tensor) -> *mut c_char,
) -> Result<[Tensor; N]> {
    let mut slots = [null_mut(); N];
    answer(function(slots.as_mut_ptr()))?;
    assert!(
        slots.iter().all(|slot| !slot.is_null()),
        "ops.cpp fills every slot where it throws nothing"
    );
    // SAFETY: each slot holds a tensor that `ops.cpp` allocated for us and keeps no pointer to.
    Ok(slots.map(|slot| unsafe { Tensor::from_ptr(slot) }))
}

/// A gradient, or `None` where ATen was not asked for it.
fn defined(gradient: Tensor) -> Option<Tensor> {
    gradient.defined().then_some(gradient)
}

/// `tensor` laid out as `[batch, height, width, channels]`: a second handle to it where it is so already.
pub(super) fn channels_last(tensor: &Tensor) -> Result<Tensor> {
    // SAFETY: the pointer is to a live tensor, which is only read; `call` provides one slot.
    let [out] = call(|out| unsafe { selfcls_channels_last(tensor.as_ptr(), out) })?;
    Ok(out)
}

/// A copy of `tensor` laid out as `[batch, channels, height, width]`.
pub(super) fn channels_first(tensor: &Tensor) -> Result<Tensor> {
    // SAFETY: as in `channels_last`.
    let [out] = call(|out| unsafe { selfcls_channels_first(tensor.as_ptr(), out) })?;
    Ok(out)
}

/// A copy of `tensor` in the order in memory that it has, in one operation (tch's `copy` takes two).
pub(super) fn copy(tensor: &Tensor) -> Result<Tensor> {
    // SAFETY: as in `channels_last`.
    let [out] = call(|out| unsafe { selfcls_copy(tensor.as_ptr(), out) })?;
    Ok(out)
}

/// Gradients of a convolution's input and weight, where wanted.
pub(super) fn convolution_backward(
    gradient: &Tensor,
    input: &Tensor,
    weight: &Tensor,
    shape: Convolution,
    [want_input, want_weight]: [bool; 2],
) -> Result<[Option<Tensor>; 2]> {
    // SAFETY: all pointers are to live tensors, which are only read; `call` provides two slots.
    let gradients: [Tensor; 2] = call(|out| unsafe {
        selfcls_convolution_backward(
            gradient.as_ptr(),
            input.as_ptr(),
            weight.as_ptr(),
            shape.stride as i64,
            shape.padding as i64,
            shape.groups as i64,
            want_input,
            want_weight,
            out,
        )
    })?;
    Ok(gradients.map(defined))
}

/// What the forward pass of a batch normalisation leaves for the backward pass.
#[derive(Debug)]
pub(super) struct SavedStatistics {
    implementation: i64,
    mean: Tensor,
    variance: Tensor,
    saved_mean: Tensor,
    saved_variance: Tensor,
    reserve: Tensor,
}

impl Clone for SavedStatistics {
    fn clone(&self) -> Self {
        Self {
            implementation: self.implementation,
            mean: self.mean.shallow_clone(),
            variance: self.variance.shallow_clone(),
            saved_mean: self.saved_mean.shallow_clone(),
            saved_variance: self.saved_variance.shallow_clone(),
            reserve: self.reserve.shallow_clone(),
        }
    }
}

/// Output, running mean and running variance, and what to save. In training the running statistics are changed in place:
/// nobody else may hold them. (What is saved does, but the backward pass of training does not read them.)
pub(super) fn batch_norm(
    input: &Tensor,
    [weight, bias]: [&Tensor; 2],
    [mean, variance]: [&Tensor; 2],
    options: Normalisation,
) -> Result<([Tensor; 3], SavedStatistics)> {
    let mut implementation = 0;
    // SAFETY: all pointers are to live tensors, of which only the running statistics are written to, through handles, and
    // in training alone; `call` provides six slots, and the integer outlives the call.
    let [output, mean, variance, saved_mean, saved_variance, reserve] = call(|out| unsafe {
        selfcls_batch_norm(
            input.as_ptr(),
            weight.as_ptr(),
            bias.as_ptr(),
            mean.as_ptr(),
            variance.as_ptr(),
            options.training,
            options.momentum,
            options.eps,
            out,
            &raw mut implementation,
        )
    })?;
    let saved = SavedStatistics {
        implementation,
        mean: mean.shallow_clone(),
        variance: variance.shallow_clone(),
        saved_mean,
        saved_variance,
        reserve,
    };
    Ok(([output, mean, variance], saved))
}

/// Gradients of a batch normalisation's input, weight and bias, where wanted.
pub(super) fn batch_norm_backward(
    gradient: &Tensor,
    input: &Tensor,
    weight: &Tensor,
    saved: &SavedStatistics,
    options: Normalisation,
    [want_input, want_weight, want_bias]: [bool; 3],
) -> Result<[Option<Tensor>; 3]> {
    // SAFETY: all pointers are to live tensors, which are only read; `call` provides three slots.
    let gradients: [Tensor; 3] = call(|out| unsafe {
        selfcls_batch_norm_backward(
            saved.implementation,
            gradient.as_ptr(),
            input.as_ptr(),
            weight.as_ptr(),
            saved.mean.as_ptr(),
            saved.variance.as_ptr(),
            saved.saved_mean.as_ptr(),
            saved.saved_variance.as_ptr(),
            saved.reserve.as_ptr(),
            options.training,
            options.eps,
            want_input,
            want_weight,
            want_bias,
            out,
        )
    })?;
    Ok(gradients.map(defined))
}

/// Gradients of a layer normalisation's input, weight and bias, where wanted, from the means and the inverse deviations of
/// the rows.
pub(super) fn layer_norm_backward(
    gradient: &Tensor,
    input: &Tensor,
    [mean, scale]: [&Tensor; 2],
    [weight, bias]: [&Tensor; 2],
    [want_input, want_weight, want_bias]: [bool; 3],
) -> Result<[Option<Tensor>; 3]> {
    // SAFETY: all pointers are to live tensors, which are only read; `call` provides three slots.
    let gradients: [Tensor; 3] = call(|out| unsafe {
        selfcls_layer_norm_backward(
            gradient.as_ptr(),
            input.as_ptr(),
            mean.as_ptr(),
            scale.as_ptr(),
            weight.as_ptr(),
            bias.as_ptr(),
            want_input,
            want_weight,
            want_bias,
            out,
        )
    })?;
    Ok(gradients.map(defined))
}

fn pointers(tensors: &[&Tensor]) -> Vec<*mut C_tensor> {
    tensors
        .iter()
        .map(|tensor| tensor.as_ptr().cast_mut())
        .collect()
}

/// A number per tensor, `[tensors]`: its L2 norm or, of the `largest`, the greatest magnitude of a value; NaN where a
/// value is.
pub(super) fn norms(tensors: &[&Tensor], largest: bool) -> Result<Tensor> {
    let (list, count) = (pointers(tensors), tensors.len() as i64);
    // SAFETY: the list holds `count` pointers to live tensors, which are only read; `call` provides one slot.
    let [out] = call(|out| unsafe { selfcls_norms(list.as_ptr(), count, largest, out) })?;
    Ok(out)
}

/// Multiplies `tensors`, to whose memory nothing else refers, by the one value of `factor`.
pub(super) fn scale(tensors: &[&Tensor], factor: &Tensor) -> Result<()> {
    let (list, count) = (pointers(tensors), tensors.len() as i64);
    // SAFETY: the list holds `count` pointers to live tensors, whose memory is written to through handles.
    answer(unsafe { selfcls_scale(list.as_ptr(), count, factor.as_ptr()) })
}

/// Parameters and what belongs to each, in the same order. All tensors of one parameter are laid out alike,
/// and nothing else refers to their memory.
pub(super) struct Updates<'a> {
    pub(super) params: Vec<&'a Tensor>,
    pub(super) grads: Vec<&'a Tensor>,
    pub(super) first: Vec<&'a Tensor>,
    /// Empty without AdamW.
    pub(super) second: Vec<&'a Tensor>,
    pub(super) decays: Vec<f64>,
    pub(super) steps: Vec<i64>,
}

/// One update of every parameter by its gradient, in place: parameters and moments are changed, gradients
/// are used up.
pub(super) fn update(
    config: &OptimConfig,
    lr: f64,
    updates: &Updates<'_>,
    batched: bool,
) -> Result<()> {
    let adamw = config.kind.is_adamw();
    let rule = Rule {
        adamw,
        larc: config.kind.is_larc(),
        larc_clip: config.larc_clip,
        lr,
        momentum: config.momentum,
        beta1: config.betas[0],
        beta2: config.betas[1],
        trust: config.trust,
        clip: config.clip_grad,
        clip_eps: CLIP_EPS,
        larc_eps: LARC_EPS,
        adam_eps: ADAM_EPS,
    };
    let params = pointers(&updates.params);
    let [grads, first, second] =
        [&updates.grads, &updates.first, &updates.second].map(|tensors| pointers(tensors));
    let count = params.len();
    assert!(
        [
            grads.len(),
            first.len(),
            updates.decays.len(),
            updates.steps.len()
        ] == [count; 4]
            && second.len() == if adamw { count } else { 0 },
        "every parameter has all that its update needs"
    );
    let lists = UpdateLists {
        count: count as i64,
        params: params.as_ptr(),
        grads: grads.as_ptr(),
        first: first.as_ptr(),
        second: if adamw { second.as_ptr() } else { null() },
        decay: updates.decays.as_ptr(),
        step: updates.steps.as_ptr(),
    };
    // SAFETY: every list holds `count` entries, checked above, and outlives the call, as do the tensors
    // behind the pointers. ATen writes to their memory through handles, which `Updates` says nobody shares.
    answer(unsafe { selfcls_update(&raw const rule, &raw const lists, batched) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    #[test]
    fn what_libtorch_throws_comes_back_as_a_message() {
        let options = (Kind::Float, Device::Cpu);
        let image = Tensor::zeros([1, 3, 4, 4], options);
        let weight = Tensor::zeros([2, 5, 3, 3], options);
        let shape = Convolution {
            stride: 1,
            padding: 1,
            groups: 1,
        };
        let error = convolution_backward(&image, &image, &weight, shape, [true, true])
            .expect_err("channels that do not fit");
        assert!(!error.is_empty());
        let flat = Tensor::zeros([4], options);
        let error = channels_last(&flat).expect_err("not an image");
        assert!(error.contains("rank 4"), "{error}");
    }
}
