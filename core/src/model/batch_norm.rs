//! Batch normalisation with PyTorch's running statistics.

use super::{Context, Init};
use crate::kernels::RunningStatistics;
use burn::module::{Module, Param, RunningState};
use burn::tensor::Tensor;

/// Weight of a new batch in the running statistics (PyTorch's default).
const MOMENTUM: f64 = 0.1;
/// Added to the variance (PyTorch's default).
const EPS: f64 = 1e-5;

/// Batch normalisation over `[batch, channels]` or `[batch, channels, h, w]`.
///
/// Unlike burn's own, the running variance takes the unbiased variance of the batch, as PyTorch's does.
#[derive(Module, Debug)]
pub struct BatchNorm {
    /// Scale, `[channels]`.
    pub weight: Param<Tensor<1>>,
    /// Shift, `[channels]`.
    pub bias: Param<Tensor<1>>,
    /// Running mean, `[channels]`.
    pub running_mean: RunningState<Tensor<1>>,
    /// Running unbiased variance, `[channels]`.
    pub running_var: RunningState<Tensor<1>>,
}

impl BatchNorm {
    /// Scale 1, shift 0, mean 0, variance 1.
    pub fn new(init: &mut Init<'_>, channels: usize) -> Self {
        Self::scaled(init, channels, 1.0)
    }

    /// As [`new`](Self::new), with another initial scale.
    pub fn scaled(init: &mut Init<'_>, channels: usize, scale: f32) -> Self {
        let (weight, bias) = (
            init.constant([channels], scale),
            init.constant([channels], 0.0),
        );
        Self {
            weight,
            bias,
            running_mean: RunningState::new(Tensor::zeros([channels], init.device())),
            running_var: RunningState::new(Tensor::ones([channels], init.device())),
        }
    }

    /// Normalises by the batch's statistics in training, by the running ones otherwise.
    pub fn forward(&self, x: Tensor<4>, context: &Context<'_>) -> Tensor<4> {
        let (weight, bias) = (self.weight.val(), self.bias.val());
        let running = RunningStatistics {
            mean: self.running_mean.value_sync().without_autodiff(),
            variance: self.running_var.value_sync().without_autodiff(),
        };
        let kernels = context.kernels;
        if !context.training {
            return kernels.batch_norm_eval(x, weight, bias, running, EPS);
        }
        let result = kernels.batch_norm_train(x, weight, bias, running, MOMENTUM, EPS);
        self.running_mean.update(result.running.mean);
        self.running_var.update(result.running.variance);
        result.output
    }

    /// As [`forward`](Self::forward), over `[batch, channels]`.
    pub fn forward_1d(&self, x: Tensor<2>, context: &Context<'_>) -> Tensor<2> {
        let [batch, channels] = x.dims();
        self.forward(x.reshape([batch, channels, 1, 1]), context)
            .reshape([batch, channels])
    }
}
