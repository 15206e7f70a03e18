//! Batch normalisation with PyTorch's running statistics.

use super::{Context, Init};
use crate::kernels::RunningStatistics;
use burn::module::{Module, ModuleMapper, Param, RunningState};
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
        let kernels = context.kernels;
        if !context.training {
            let running = RunningStatistics {
                mean: self.running_mean.value().without_autodiff(),
                variance: self.running_var.value().without_autodiff(),
            };
            return kernels.batch_norm_eval(x, weight, bias, running, EPS);
        }
        // Taken out, so that kernels may write to what nobody else holds.
        let running = RunningStatistics {
            mean: take(&self.running_mean),
            variance: take(&self.running_var),
        };
        let result = kernels.batch_norm_train(x, weight, bias, running, MOMENTUM, EPS);
        put(&self.running_mean, result.running.mean);
        put(&self.running_var, result.running.variance);
        result.output
    }

    /// As [`forward`](Self::forward), over `[batch, channels]`.
    pub fn forward_1d(&self, x: Tensor<2>, context: &Context<'_>) -> Tensor<2> {
        let [batch, channels] = x.dims();
        self.forward(x.reshape([batch, channels, 1, 1]), context)
            .reshape([batch, channels])
    }
}

/// Takes out a statistic, without autodiff, and leaves a tensor without meaning in its place.
fn take(statistic: &RunningState<Tensor<1>>) -> Tensor<1> {
    let device = statistic.value().device().without_autodiff();
    swap(statistic, Tensor::empty([1], &device)).without_autodiff()
}

fn put(statistic: &RunningState<Tensor<1>>, value: Tensor<1>) {
    let _place = swap(statistic, value);
}

/// Puts `value` in and returns what was there.
///
/// burn's `update` is made for statistics that several threads gather at once: the mean of what they say, with one thread a
/// division by one, which every use would wait for on the device.
fn swap(statistic: &RunningState<Tensor<1>>, value: Tensor<1>) -> Tensor<1> {
    struct Swap(Tensor<1>);
    impl ModuleMapper for Swap {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let (id, old, mapper) = param.consume();
            // Invariant: a statistic has one dimension.
            let length = old.dims().iter().product::<usize>();
            let new = std::mem::replace(&mut self.0, old.reshape([length]));
            let shape = [new.dims()[0]; D];
            Param::from_mapped_value(id, new.reshape(shape), mapper)
        }
    }
    let mut swap = Swap(value);
    // A copy has the same value in its place, not one of its own.
    let _same = statistic.clone().map(&mut swap);
    swap.0
}
