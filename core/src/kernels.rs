//! The hot operations, behind a trait, so that a backend may bring faster ones.
//!
//! What an implementation leaves out is made of burn's own operations, which serve every backend; [`PlainKernels`] leaves
//! out everything. `selfcls-backends` can supply others (ATen's on libtorch); their gradients must equal these.

use crate::collective::Collective;
use crate::config::{OptimConfig, Precision};
use crate::optim::Arrival;
use crate::optim::rule::{self, ParamUpdate, Updated};
use crate::{Error, Result};
use burn::tensor::activation::{relu, softmax};
use burn::tensor::module::{batch_norm, batch_norm_train, conv2d, layer_norm};
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, FloatDType, Int, Tensor, TensorData};
use std::f64::consts::FRAC_1_SQRT_2;
use std::fmt::Debug;
use std::sync::Arc;

/// The statistics that batch normalisation gathers over training, both without autodiff.
#[derive(Debug, Clone)]
pub struct RunningStatistics {
    /// Mean of each channel, `[channels]`.
    pub mean: Tensor<1>,
    /// Unbiased variance of each channel, `[channels]`.
    pub variance: Tensor<1>,
}

/// Batch normalisation over a batch, with what it does to the running statistics.
#[derive(Debug)]
pub struct BatchNormOutput {
    /// The normalised, scaled and shifted input, `[batch, channels, height, width]`.
    pub output: Tensor<4>,
    /// The running statistics with this batch's blended in.
    pub running: RunningStatistics,
}

/// Numbers on their way from the device: calling it waits for them.
pub type PendingRead = Box<dyn FnOnce() -> Result<Vec<f32>> + Send>;

/// Values ready to go to a device: calling it gives them there, `[values]`, as [`upload`](Kernels::upload) does.
pub type PendingUpload = Box<dyn FnOnce(&Device) -> Tensor<1> + Send>;

/// Implementations of the operations that training spends its time in, and of what goes to the device and comes back
/// in each step.
///
/// Weights and statistics are f32; images may come in the precision of [`precision`](Self::precision),
/// and keep it.
pub trait Kernels: Send + Sync + Debug {
    /// What the callers of these kernels compute convolutions and linear layers in
    /// ([`Context::autocast`](crate::model::Context::autocast)).
    fn precision(&self) -> Precision {
        Precision::F32
    }

    /// `values` on `device`, `[values]`, a constant without autodiff. A device that works by itself may still be
    /// fetching them when this returns.
    fn upload(&self, values: Vec<f32>, device: &Device) -> Tensor<1> {
        let count = values.len();
        let values = TensorData::new(values, [count]);
        Tensor::from_data(values, &device.clone().without_autodiff())
    }

    /// Makes `values` ready to be uploaded, on a thread that has time for it: the one that gives the device its work is
    /// not to copy them within the host's memory.
    ///
    /// # Errors
    /// If there is no memory of the kind from which the device fetches.
    fn stage(&self, values: Vec<f32>) -> Result<PendingUpload> {
        Ok(Box::new(move |device| PlainKernels.upload(values, device)))
    }

    /// As [`upload`](Self::upload), of integers.
    fn upload_ints(&self, values: Vec<i64>, device: &Device) -> Tensor<1, Int> {
        let count = values.len();
        let values = TensorData::new(values, [count]);
        Tensor::from_data(values, &device.clone().without_autodiff())
    }

    /// Begins to read `numbers`, without autodiff. A device that works by itself computes them while the caller goes
    /// on, and waiting for them later does not wait for what it was given in between.
    fn begin_read(&self, numbers: Tensor<1>) -> PendingRead {
        Box::new(move || {
            let values = numbers.into_data().convert::<f32>().try_into_vec::<f32>();
            values.map_err(|error| {
                Error::Invalid(format!("the device did not return numbers: {error:?}"))
            })
        })
    }

    /// These kernels with batch statistics taken over the batches of all of `peers` together: values, running
    /// statistics and gradients as if one process had seen them all (PyTorch's `SyncBatchNorm`).
    /// Operations cannot return errors; those of `peers` are left there, for
    /// [`check`](Collective::check).
    ///
    /// # Errors
    /// [`Error::Invalid`] where they cannot.
    fn synchronised(&self, _peers: Arc<dyn Collective>) -> Result<Arc<dyn Kernels>> {
        Err(Error::Invalid(format!(
            "{self:?} cannot share batch statistics among ranks; use --backend tch on CPU or CUDA, or train.syncbn_group_size = 1"
        )))
    }

    /// The same weight `[out, in, kh, kw]`, without autodiff, in the memory layout that `conv2d` works on
    /// best. Elementwise updates keep it, so it is chosen once per model.
    fn weight_layout(&self, weight: Tensor<4>) -> Tensor<4> {
        weight
    }

    /// `weight`, `[out, in]`, for the layer that takes `input`, such that a backward pass gives its gradient to
    /// `arrival` as soon as it has gone past the layer, and to nobody else. The weight as it is, as here, where
    /// that cannot be done: its gradient then comes with all others when the pass is over.
    fn hand_over_matrix(
        &self,
        weight: Tensor<2>,
        _input: &Tensor<2>,
        _arrival: Arrival,
    ) -> Tensor<2> {
        weight
    }

    /// As [`hand_over_matrix`](Self::hand_over_matrix), of a convolution's weight, `[out, in / groups, kh, kw]`.
    fn hand_over_kernel(
        &self,
        weight: Tensor<4>,
        _input: &Tensor<4>,
        _arrival: Arrival,
    ) -> Tensor<4> {
        weight
    }

    /// Convolution without bias: `[batch, in, h, w]` with `[out, in / groups, kh, kw]`. Input and output
    /// channels fall into `groups` equal parts that do not see each other.
    fn conv2d(
        &self,
        input: Tensor<4>,
        weight: Tensor<4>,
        stride: usize,
        padding: usize,
        groups: usize,
    ) -> Tensor<4> {
        let options = ConvOptions::new([stride; 2], [padding; 2], [1; 2], groups);
        conv2d(input, weight, None, options)
    }

    /// Batch normalisation with the batch's own statistics, `[batch, channels, h, w]`, of which
    /// `momentum` is the weight in the new running ones.
    fn batch_norm_train(
        &self,
        input: Tensor<4>,
        weight: Tensor<1>,
        bias: Tensor<1>,
        running: RunningStatistics,
        momentum: f64,
        eps: f64,
    ) -> BatchNormOutput {
        let [batch, _, height, width] = input.dims();
        let count = (batch * height * width) as f64;
        let result = batch_norm_train(input, weight, bias, eps);
        // Bessel's correction, as PyTorch; a single value has no unbiased variance.
        let variance = result.variance * (count / (count - 1.0).max(1.0));
        let blend = |old: Tensor<1>, new: Tensor<1>| {
            // Buffers stay outside the autodiff graph altogether.
            old * (1.0 - momentum) + new.without_autodiff() * momentum
        };
        BatchNormOutput {
            output: result.output,
            running: RunningStatistics {
                mean: blend(running.mean, result.mean),
                variance: blend(running.variance, variance),
            },
        }
    }

    /// Batch normalisation with given statistics, `[batch, channels, h, w]`.
    fn batch_norm_eval(
        &self,
        input: Tensor<4>,
        weight: Tensor<1>,
        bias: Tensor<1>,
        running: RunningStatistics,
        eps: f64,
    ) -> Tensor<4> {
        let RunningStatistics { mean, variance } = running;
        batch_norm(input, weight, bias, mean, variance, eps)
    }

    /// `max(input, 0)`.
    fn relu(&self, input: Tensor<4>) -> Tensor<4> {
        relu(input)
    }

    /// `max(lhs + rhs, 0)`, the end of a residual block.
    fn add_relu(&self, lhs: Tensor<4>, rhs: Tensor<4>) -> Tensor<4> {
        relu(lhs + rhs)
    }

    /// `x Phi(x) = x (1 + erf(x / sqrt 2)) / 2` (Hendrycks and Gimpel 2016), PyTorch's default form of the GELU,
    /// `[batch, tokens, dim]`.
    fn gelu(&self, input: Tensor<3>) -> Tensor<3> {
        // Not burn's `gelu`: where a backend has no backward of its own for it, burn takes the derivative of
        // the tanh approximation instead, which is off by up to 1e-3.
        let cdf = input.clone().mul_scalar(FRAC_1_SQRT_2).erf();
        input * cdf.add_scalar(1.0).mul_scalar(0.5)
    }

    /// `(x - mean) / sqrt(var + eps) * weight + bias` over the last axis of `[batch, tokens, dim]`, with the biased
    /// variance.
    fn layer_norm(
        &self,
        input: Tensor<3>,
        weight: Tensor<1>,
        bias: Tensor<1>,
        eps: f64,
    ) -> Tensor<3> {
        layer_norm(input, weight, Some(bias), eps)
    }

    /// `softmax(Q K^T / sqrt(width)) V` in each of `heads` heads (Vaswani et al. 2017, section 3.2): queries, then
    /// keys, then values, of all heads one after the other, `[batch, tokens, 3 * heads * width]`, to
    /// `[batch, tokens, heads * width]`. Products in the precision of `qkv`, the softmax in f32.
    ///
    /// All three come in one tensor, as their layer gives them, so that nobody has to take them apart in memory, nor
    /// to put their gradients together.
    fn attention(&self, qkv: Tensor<3>, heads: usize) -> Tensor<3> {
        let [batch, tokens, features] = qkv.dims();
        let width = features / (3 * heads);
        let qkv = qkv
            .reshape([batch, tokens, 3, heads, width])
            .permute([2, 0, 3, 1, 4]);
        let [q, k, v] = [0, 1, 2].map(|part| {
            let part = qkv.clone().slice(part..part + 1);
            part.reshape([batch, heads, tokens, width])
        });
        // The smaller factor is scaled; with heads of 64 features the scale is a power of two, so nothing is rounded.
        let scores = q
            .mul_scalar((width as f64).powf(-0.5))
            .matmul(k.transpose());
        let weights = softmax(scores.cast(FloatDType::F32), 3).cast(v.dtype());
        let mixed = weights.matmul(v);
        mixed
            .swap_dims(1, 2)
            .reshape([batch, tokens, heads * width])
    }

    /// The L2 norm of all values of `tensors` together, `[1]`; none without tensors.
    fn norm(&self, tensors: Vec<Tensor<4>>) -> Option<Tensor<1>> {
        tensors
            .into_iter()
            .map(|tensor| (tensor.clone() * tensor).sum())
            .reduce(|sum, square| sum + square)
            .map(Tensor::sqrt)
    }

    /// Zero if every value of `tensors` is finite and NaN if not, `[1]`: one value to wait for instead of one per
    /// tensor. None without tensors.
    fn probe(&self, tensors: Vec<Tensor<4>>) -> Option<Tensor<1>> {
        tensors
            .into_iter()
            .map(|tensor| (tensor * 0.0).sum())
            .reduce(|sum, zero| sum + zero)
    }

    /// Each of `tensors` times `factor`, `[1]`, in the order given.
    fn scale(&self, tensors: Vec<Tensor<4>>, factor: Tensor<1>) -> Vec<Tensor<4>> {
        let factor = factor.reshape([1; 4]);
        tensors
            .into_iter()
            .map(|tensor| tensor * factor.clone())
            .collect()
    }

    /// One update with learning rate `lr` of each parameter by its gradient, after the formulas of
    /// [`rule`]: in the order given, one answer per parameter.
    fn update(&self, config: &OptimConfig, lr: f64, params: Vec<ParamUpdate>) -> Vec<Updated> {
        params
            .into_iter()
            .map(|param| rule::update(config, lr, param))
            .collect()
    }
}

/// The operations as burn has them.
#[derive(Debug, Clone, Copy, Default)]
pub struct PlainKernels;

impl Kernels for PlainKernels {}
