//! The update of one parameter tensor.
//!
//! ```text
//! clip          g <- g min(1, clip_grad / (|g| + 1e-6))
//! LARC          g <- (g + d p) trust |p| / (|g| + d |p| + 1e-8)      d: weight decay; if |p| |g| > 0
//! SGD           m <- momentum m + g;   p <- p - lr m                 m = g at first
//! AdamW         p <- (1 - lr d) p - lr m' / (sqrt(v') + 1e-8)        m', v' with bias correction
//! ```

use super::gradients::in_four_dims;
use crate::config::{OptimConfig, OptimKind};
use burn::tensor::Tensor;

/// Keeps LARC's division defined (NVIDIA apex).
pub const LARC_EPS: f64 = 1e-8;
/// Keeps AdamW's division defined (PyTorch).
pub const ADAM_EPS: f64 = 1e-8;
/// Keeps the division of norm clipping defined (authors' code and PyTorch).
pub const CLIP_EPS: f64 = 1e-6;

/// Momentum buffers of a parameter, shaped as it is in four dimensions: one for SGD, two for AdamW; none
/// before the first update.
pub type Moments = Vec<Tensor<4>>;

/// A parameter about to be updated: everything in the same four dimensions (its own, then ones), without
/// autodiff.
#[derive(Debug)]
pub struct ParamUpdate {
    /// Its values.
    pub param: Tensor<4>,
    /// Its gradient.
    pub grad: Tensor<4>,
    /// Its history.
    pub moments: Moments,
    /// The weight decay of its group.
    pub weight_decay: f64,
    /// The number of this update among the parameter's own, from 1.
    pub step: usize,
}

/// A parameter after its update.
#[derive(Debug)]
pub struct Updated {
    /// Its values.
    pub param: Tensor<4>,
    /// Its history.
    pub moments: Moments,
}

/// One update in burn's operations.
///
/// In a sum the gradient comes first: on libtorch the result is laid out in memory as the first operand,
/// and moments that come from a checkpoint so take up the gradient's layout at the first step.
///
/// The order of operations leaves each intermediate result with a single owner, so that a backend
/// writes it in place: one temporary tensor of the parameter's size for SGD, two for AdamW, one more
/// for weight decay and two for LARC's norms.
pub fn update(config: &OptimConfig, lr: f64, update: ParamUpdate) -> Updated {
    let ParamUpdate {
        param,
        grad,
        mut moments,
        weight_decay,
        step,
    } = update;
    let grad = clip(grad, config.clip_grad);
    let param = match config.kind {
        OptimKind::Sgd => {
            let grad = decay(grad, &param, weight_decay);
            sgd(config, lr, param, grad, &mut moments)
        }
        OptimKind::Larc => {
            let grad = larc(config, lr, weight_decay, &param, grad);
            sgd(config, lr, param, grad, &mut moments)
        }
        OptimKind::AdamW => adamw(config, lr, weight_decay, step, param, grad, &mut moments),
        OptimKind::LarcAdamW => {
            let grad = larc(config, lr, weight_decay, &param, grad);
            adamw(config, lr, 0.0, step, param, grad, &mut moments)
        }
    };
    Updated { param, moments }
}

/// Scales a gradient whose norm exceeds `limit` down to it; 0 leaves all as they are.
fn clip(grad: Tensor<4>, limit: f64) -> Tensor<4> {
    if limit == 0.0 {
        return grad;
    }
    let factor = in_four_dims(clip_factor(norm(&grad), limit));
    grad * factor
}

/// What brings a gradient of norm `norm`, `[1]`, down to `limit`: `min(1, limit / (norm + eps))`.
pub(super) fn clip_factor(norm: Tensor<1>, limit: f64) -> Tensor<1> {
    ((norm + CLIP_EPS).recip() * limit).clamp_max(1.0)
}

fn decay(grad: Tensor<4>, param: &Tensor<4>, weight_decay: f64) -> Tensor<4> {
    if weight_decay == 0.0 {
        grad
    } else {
        grad + param.clone() * weight_decay
    }
}

/// PyTorch's SGD: the momentum buffer starts as the first gradient, without dampening.
fn sgd(
    config: &OptimConfig,
    lr: f64,
    param: Tensor<4>,
    grad: Tensor<4>,
    moments: &mut Moments,
) -> Tensor<4> {
    let velocity = match moments.pop() {
        Some(velocity) => grad + velocity * config.momentum,
        None => grad,
    };
    moments.push(velocity.clone());
    param - velocity * lr
}

/// LARC (You et al. 2017, as in NVIDIA apex): the gradient with weight decay, scaled by
/// `trust ||p|| / (||g|| + weight_decay ||p|| + eps)`; with clipping, by that over `lr`, at most 1.
/// Where the parameter or the gradient is zero the gradient stays as it is, without weight decay.
/// Whatever comes after must not decay again.
fn larc(
    config: &OptimConfig,
    lr: f64,
    weight_decay: f64,
    param: &Tensor<4>,
    grad: Tensor<4>,
) -> Tensor<4> {
    let (param_norm, grad_norm) = (norm(param), norm(&grad));
    let divisor = grad_norm.clone() + param_norm.clone() * weight_decay + LARC_EPS;
    let mut rate = param_norm.clone() / divisor * config.trust;
    if config.larc_clip {
        rate = (rate / lr).clamp_max(1.0);
    }
    // Decided on the device: reading the norms would stall it once per parameter.
    let usable = (param_norm * grad_norm).greater_elem(0.0);
    let one = Tensor::<1>::ones([1], &rate.device());
    let rate = in_four_dims(one.mask_where(usable.clone(), rate));
    if weight_decay == 0.0 {
        return grad * rate;
    }
    let decay = in_four_dims(usable.float() * weight_decay);
    (grad + param.clone() * decay) * rate
}

/// AdamW (Loshchilov and Hutter 2019, as in PyTorch).
fn adamw(
    config: &OptimConfig,
    lr: f64,
    weight_decay: f64,
    step: usize,
    param: Tensor<4>,
    grad: Tensor<4>,
    moments: &mut Moments,
) -> Tensor<4> {
    let [beta1, beta2] = config.betas;
    let square = grad.clone() * grad.clone();
    let (first, second) = match (moments.pop(), moments.pop()) {
        (Some(second), Some(first)) => (
            grad * (1.0 - beta1) + first * beta1,
            square * (1.0 - beta2) + second * beta2,
        ),
        _ => (grad * (1.0 - beta1), square * (1.0 - beta2)),
    };
    moments.extend([first.clone(), second.clone()]);
    let exponent = step as i32;
    let correction1 = 1.0 - beta1.powi(exponent);
    let correction2 = (1.0 - beta2.powi(exponent)).sqrt();
    let denominator = second.sqrt() / correction2 + ADAM_EPS;
    param * (1.0 - lr * weight_decay) - first / denominator * (lr / correction1)
}

/// L2 norm, `[1]`.
fn norm(x: &Tensor<4>) -> Tensor<1> {
    (x.clone() * x.clone()).sum().sqrt()
}
