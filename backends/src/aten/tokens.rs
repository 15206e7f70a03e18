//! What transformers need beside matrix products: the GELU and layer normalisation, forward and backward in one pass each.

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::libtorch::TchTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, LibTorch, backend_extension};

use super::extension::expect;
use super::ffi;
use crate::kept::{Kept, track};

#[backend_extension(Autodiff, LibTorch)]
pub(super) trait TokenOps: Backend {
    /// `x Phi(x)`, by the error function.
    fn aten_gelu(input: FloatTensor<Self>) -> FloatTensor<Self>;

    /// Normalisation over the last axis.
    fn aten_layer_norm(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        eps: f64,
    ) -> FloatTensor<Self>;
}

/// ATen's name for "by the error function".
const EXACT: &str = "none";

fn told(error: tch::TchError) -> String {
    error.to_string()
}

fn gelu(input: &TchTensor) -> TchTensor {
    let output = input.tensor.f_gelu(EXACT).map_err(told);
    TchTensor::new(expect("gelu", output))
}

/// The output, and the mean and the inverse deviation of each row.
fn layer_norm(
    input: &TchTensor,
    weight: &TchTensor,
    bias: &TchTensor,
    eps: f64,
) -> (TchTensor, [tch::Tensor; 2]) {
    let normalised = input.tensor.f_native_layer_norm(
        weight.tensor.size(),
        Some(&weight.tensor),
        Some(&bias.tensor),
        eps,
    );
    let (output, mean, scale) = expect("native_layer_norm", normalised.map_err(told));
    (TchTensor::new(output), [mean, scale])
}

impl TokenOps for LibTorch {
    fn aten_gelu(input: TchTensor) -> TchTensor {
        gelu(&input)
    }

    fn aten_layer_norm(
        input: TchTensor,
        weight: TchTensor,
        bias: TchTensor,
        eps: f64,
    ) -> TchTensor {
        layer_norm(&input, &weight, &bias, eps).0
    }
}

#[derive(Debug, Clone)]
struct Gated(TchTensor);

impl Kept<LibTorch, 1> for Gated {
    fn gradients(self, gradient: TchTensor, wanted: [bool; 1]) -> [Option<TchTensor>; 1] {
        wanted.map(|wanted| {
            let input = || self.0.tensor.f_gelu_backward(&gradient.tensor, EXACT);
            wanted.then(|| TchTensor::new(expect("gelu_backward", input().map_err(told))))
        })
    }
}

#[derive(Debug)]
struct Normalised {
    input: TchTensor,
    weight: TchTensor,
    bias: TchTensor,
    rows: [tch::Tensor; 2],
}

impl Clone for Normalised {
    fn clone(&self) -> Self {
        Self {
            input: self.input.clone(),
            weight: self.weight.clone(),
            bias: self.bias.clone(),
            rows: self.rows.each_ref().map(tch::Tensor::shallow_clone),
        }
    }
}

impl Kept<LibTorch, 3> for Normalised {
    fn gradients(self, gradient: TchTensor, wanted: [bool; 3]) -> [Option<TchTensor>; 3] {
        let gradients = ffi::layer_norm_backward(
            &gradient.tensor,
            &self.input.tensor,
            self.rows.each_ref(),
            [&self.weight.tensor, &self.bias.tensor],
            wanted,
        );
        expect("native_layer_norm_backward", gradients).map(|gradient| gradient.map(TchTensor::new))
    }
}

impl<C: CheckpointStrategy> TokenOps for Autodiff<LibTorch, C> {
    fn aten_gelu(input: FloatTensor<Self>) -> FloatTensor<Self> {
        let (input, node) = input.into_parts();
        let output = gelu(&input);
        track::<LibTorch, 1, _, C>([node], Gated(input), output)
    }

    fn aten_layer_norm(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        eps: f64,
    ) -> FloatTensor<Self> {
        let (input, input_node) = input.into_parts();
        let (weight, weight_node) = weight.into_parts();
        let (bias, bias_node) = bias.into_parts();
        let (output, rows) = layer_norm(&input, &weight, &bias, eps);
        let kept = Normalised {
            input,
            weight,
            bias,
            rows,
        };
        track::<LibTorch, 3, _, C>([input_node, weight_node, bias_node], kept, output)
    }
}
