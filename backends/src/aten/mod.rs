//! core's kernels by libtorch's own operations, through burn's mechanism for backend extensions.
//!
//! burn-tch leaves the backward pass of convolutions and batch normalisations to burn, which composes it
//! of forward operations; ATen's own are several times faster and keep less in memory. Here, too, images
//! become channels-last, which is what its CPU and GPU kernels work on best.

#![allow(
    deprecated,
    reason = "burn 0.22 is the last line with burn-tch; the version is pinned for it"
)]

mod attention;
mod copies;
mod dot_product;
mod early;
mod extension;
mod ffi;
mod gradients;
mod optimizer;
mod sync;
#[cfg(test)]
mod tests;
mod tokens;
mod unrolled;
mod windows;

use std::sync::Arc;

use burn::backend::libtorch::TchTensor;
use burn::backend::{Dispatch, LibTorch};
use burn::tensor::{Device, Int, Tensor};
use selfcls_core::Error;
use selfcls_core::collective::Collective;
use selfcls_core::config::{OptimConfig, Precision};
use selfcls_core::kernels::{
    BatchNormOutput, Kernels, PendingRead, PendingUpload, PlainKernels, RunningStatistics,
};
use selfcls_core::optim::Arrival;
use selfcls_core::optim::rule::{ParamUpdate, Updated};

use attention::AttentionOps;
pub(crate) use copies::peak_memory;
use copies::{Number, Reading, Staged};
use dot_product::DotProductOps;
use early::EarlyOps;
use extension::{AtenOps, expect};
use ffi::{Convolution, Normalisation};
use sync::{Peers, SyncOps};
use tokens::TokenOps;

/// ATen's operations. For tensors on a libtorch device; any other panics.
#[derive(Debug, Clone)]
pub struct AtenKernels {
    precision: Precision,
    /// Whether the device is kept busy by doing without its answers.
    batched: bool,
    /// The GPU to and from which values are copied while both sides go on; none: burn copies.
    gpu: Option<tch::Device>,
    /// Whose batches count together in batch normalisation; none: this process's alone.
    peers: Option<Peers>,
}

impl AtenKernels {
    /// Kernels whose callers compute convolutions and linear layers in `precision`, for a device whose
    /// operations return before they are done, or not.
    pub fn new(precision: Precision, asynchronous: bool) -> Self {
        Self {
            precision,
            batched: asynchronous,
            gpu: None,
            peers: None,
        }
    }

    /// The same, for tensors on a CUDA device.
    pub(crate) fn on(self, device: tch::Device) -> Self {
        Self {
            gpu: Some(device).filter(|device| device.is_cuda()),
            ..self
        }
    }
}

fn uploaded<T: Number>(values: &[T], gpu: tch::Device) -> TchTensor {
    TchTensor::new(expect("upload", copies::upload(values, gpu)))
}

fn reading(numbers: &TchTensor) -> PendingRead {
    let told =
        |message: String| Error::Invalid(format!("the device did not return numbers: {message}"));
    let begun = Reading::begin(&numbers.tensor).map_err(told);
    Box::new(move || begun?.finish().map_err(told))
}

/// As the kernels' [`attention`](Kernels::attention), on any device.
fn dot_product_attention(qkv: Tensor<3>, heads: usize) -> Tensor<3> {
    Tensor::from_dispatch(<Dispatch as DotProductOps>::dot_product_attention(
        qkv.into_dispatch(),
        heads,
    ))
}

fn hand_over<const D: usize>(weight: Tensor<D>, input: &Tensor<D>, arrival: Arrival) -> Tensor<D> {
    Tensor::from_dispatch(<Dispatch as EarlyOps>::hand_over(
        weight.into_dispatch(),
        input.clone().into_dispatch(),
        arrival,
    ))
}

fn batch_norm(
    input: Tensor<4>,
    [weight, bias]: [Tensor<1>; 2],
    running: RunningStatistics,
    options: Normalisation,
    peers: Option<&Peers>,
) -> BatchNormOutput {
    let (input, weight, bias) = (
        input.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
    );
    let (mean, variance) = (
        running.mean.into_dispatch(),
        running.variance.into_dispatch(),
    );
    let (output, mean, variance) = match peers {
        None => {
            <Dispatch as AtenOps>::aten_batch_norm(input, weight, bias, mean, variance, options)
        }
        Some(peers) => <Dispatch as SyncOps>::sync_batch_norm(
            input,
            weight,
            bias,
            mean,
            variance,
            options,
            peers.clone(),
        ),
    };
    BatchNormOutput {
        output: Tensor::from_dispatch(output),
        running: RunningStatistics {
            mean: Tensor::<1>::from_dispatch(mean).without_autodiff(),
            variance: Tensor::<1>::from_dispatch(variance).without_autodiff(),
        },
    }
}

impl Kernels for AtenKernels {
    fn precision(&self) -> Precision {
        self.precision
    }

    fn upload(&self, values: Vec<f32>, device: &Device) -> Tensor<1> {
        match self.gpu {
            Some(gpu) => Tensor::from_primitive::<LibTorch>(uploaded(&values, gpu)),
            None => PlainKernels.upload(values, device),
        }
    }

    fn stage(&self, values: Vec<f32>) -> selfcls_core::Result<PendingUpload> {
        let Some(gpu) = self.gpu else {
            return PlainKernels.stage(values);
        };
        let staged = Staged::new(&values, gpu).map_err(|message| {
            let bytes = size_of_val(&*values);
            Error::Memory(format!(
                "no {bytes} bytes of page-locked memory for images: {message}"
            ))
        })?;
        Ok(Box::new(move |_| {
            let sent = TchTensor::new(expect("upload", staged.send()));
            Tensor::from_primitive::<LibTorch>(sent)
        }))
    }

    fn upload_ints(&self, values: Vec<i64>, device: &Device) -> Tensor<1, Int> {
        match self.gpu {
            Some(gpu) => Tensor::from_primitive::<LibTorch>(uploaded(&values, gpu)),
            None => PlainKernels.upload_ints(values, device),
        }
    }

    fn begin_read(&self, numbers: Tensor<1>) -> PendingRead {
        let gpu = self.gpu.is_some();
        let primitive = |numbers: Tensor<1>| numbers.try_into_primitive::<LibTorch>().ok();
        match gpu.then(|| primitive(numbers.clone())).flatten() {
            Some(numbers) => reading(&numbers),
            None => PlainKernels.begin_read(numbers),
        }
    }

    fn synchronised(&self, peers: Arc<dyn Collective>) -> selfcls_core::Result<Arc<dyn Kernels>> {
        Ok(Arc::new(Self {
            peers: Some(Peers(peers)),
            ..self.clone()
        }))
    }

    fn weight_layout(&self, weight: Tensor<4>) -> Tensor<4> {
        Tensor::from_dispatch(<Dispatch as AtenOps>::aten_channels_last(
            weight.into_dispatch(),
        ))
    }

    fn hand_over_matrix(
        &self,
        weight: Tensor<2>,
        input: &Tensor<2>,
        arrival: Arrival,
    ) -> Tensor<2> {
        hand_over(weight, input, arrival)
    }

    fn hand_over_kernel(
        &self,
        weight: Tensor<4>,
        input: &Tensor<4>,
        arrival: Arrival,
    ) -> Tensor<4> {
        hand_over(weight, input, arrival)
    }

    fn conv2d(
        &self,
        input: Tensor<4>,
        weight: Tensor<4>,
        stride: usize,
        padding: usize,
        groups: usize,
    ) -> Tensor<4> {
        let shape = Convolution {
            stride,
            padding,
            groups,
        };
        Tensor::from_dispatch(<Dispatch as AtenOps>::aten_conv2d(
            input.into_dispatch(),
            weight.into_dispatch(),
            shape,
        ))
    }

    fn batch_norm_train(
        &self,
        input: Tensor<4>,
        weight: Tensor<1>,
        bias: Tensor<1>,
        running: RunningStatistics,
        momentum: f64,
        eps: f64,
    ) -> BatchNormOutput {
        let options = Normalisation {
            training: true,
            momentum,
            eps,
        };
        batch_norm(input, [weight, bias], running, options, self.peers.as_ref())
    }

    fn batch_norm_eval(
        &self,
        input: Tensor<4>,
        weight: Tensor<1>,
        bias: Tensor<1>,
        running: RunningStatistics,
        eps: f64,
    ) -> Tensor<4> {
        let options = Normalisation {
            training: false,
            momentum: 0.0,
            eps,
        };
        batch_norm(input, [weight, bias], running, options, None).output
    }

    fn relu(&self, input: Tensor<4>) -> Tensor<4> {
        Tensor::from_dispatch(<Dispatch as AtenOps>::aten_relu(input.into_dispatch()))
    }

    fn add_relu(&self, lhs: Tensor<4>, rhs: Tensor<4>) -> Tensor<4> {
        Tensor::from_dispatch(<Dispatch as AtenOps>::aten_add_relu(
            lhs.into_dispatch(),
            rhs.into_dispatch(),
        ))
    }

    fn gelu(&self, input: Tensor<3>) -> Tensor<3> {
        Tensor::from_dispatch(<Dispatch as TokenOps>::aten_gelu(input.into_dispatch()))
    }

    fn layer_norm(
        &self,
        input: Tensor<3>,
        weight: Tensor<1>,
        bias: Tensor<1>,
        eps: f64,
    ) -> Tensor<3> {
        Tensor::from_dispatch(<Dispatch as TokenOps>::aten_layer_norm(
            input.into_dispatch(),
            weight.into_dispatch(),
            bias.into_dispatch(),
            eps,
        ))
    }

    fn attention(&self, qkv: Tensor<3>, heads: usize) -> Tensor<3> {
        if qkv.device().without_autodiff() != Device::libtorch() {
            return dot_product_attention(qkv, heads);
        }
        Tensor::from_dispatch(<Dispatch as AttentionOps>::aten_attention(
            qkv.into_dispatch(),
            heads,
        ))
    }

    fn norm(&self, tensors: Vec<Tensor<4>>) -> Option<Tensor<1>> {
        gradients::norm(tensors)
    }

    fn probe(&self, tensors: Vec<Tensor<4>>) -> Option<Tensor<1>> {
        gradients::probe(tensors)
    }

    fn scale(&self, tensors: Vec<Tensor<4>>, factor: Tensor<1>) -> Vec<Tensor<4>> {
        gradients::scale(tensors, factor)
    }

    fn update(&self, config: &OptimConfig, lr: f64, params: Vec<ParamUpdate>) -> Vec<Updated> {
        optimizer::update(config, lr, params, self.batched)
    }
}
