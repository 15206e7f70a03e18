//! Attention on CPUs in one operation each way, block after block of tokens: the scores, `[batch, heads, tokens,
//! tokens]`, lie in memory neither forward nor until the backward pass (Dao et al. 2022, FlashAttention).

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::libtorch::TchTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, LibTorch, backend_extension};
use tch::{TchError, Tensor};

use super::extension::expect;
use crate::kept::{Kept, track};

#[backend_extension(Autodiff, LibTorch)]
pub(super) trait AttentionOps: Backend {
    /// Queries, keys and values of all heads, `[batch, tokens, 3 * heads * width]`, to what each token sees,
    /// `[batch, tokens, heads * width]`.
    fn aten_attention(qkv: FloatTensor<Self>, heads: usize) -> FloatTensor<Self>;
}

type Result<T> = std::result::Result<T, TchError>;

/// Nothing is dropped, and no token is hidden from another.
const DROPOUT: f64 = 0.0;
const CAUSAL: bool = false;
const MASK: Option<Tensor> = None;

/// What the backward pass needs.
#[derive(Debug)]
struct Attended {
    /// Row by row.
    qkv: TchTensor,
    heads: usize,
    output: TchTensor,
    /// The logarithm of each softmax's divisor.
    log_sums: Tensor,
}

impl Clone for Attended {
    fn clone(&self) -> Self {
        Self {
            qkv: self.qkv.clone(),
            heads: self.heads,
            output: self.output.clone(),
            log_sums: self.log_sums.shallow_clone(),
        }
    }
}

impl Attended {
    fn new(qkv: TchTensor, heads: usize) -> Self {
        // ATen reads the features of a token one after the other, wherever the tokens lie.
        let contiguous = qkv.tensor.f_contiguous().map_err(|error| error.to_string());
        let qkv = TchTensor::from_existing(expect("contiguous", contiguous), qkv.storage);
        let forward = || -> Result<_> {
            let [q, k, v] = parts(&qkv.tensor, heads)?;
            let (output, log_sums) = Tensor::f_internal_scaled_dot_product_flash_attention_for_cpu(
                &q, &k, &v, DROPOUT, CAUSAL, MASK, None,
            )?;
            Ok((joined(&output)?, log_sums))
        };
        let (output, log_sums) = expect("attention", forward().map_err(|error| error.to_string()));
        Self {
            qkv,
            heads,
            output: TchTensor::new(output),
            log_sums,
        }
    }

    fn backward(&self, gradient: &Tensor) -> Result<Tensor> {
        let [q, k, v] = parts(&self.qkv.tensor, self.heads)?;
        let (q, k, v) = Tensor::f_internal_scaled_dot_product_flash_attention_for_cpu_backward(
            &apart(gradient, self.heads)?,
            &q,
            &k,
            &v,
            &apart(&self.output.tensor, self.heads)?,
            &self.log_sums,
            DROPOUT,
            CAUSAL,
            MASK,
            None,
        )?;
        Tensor::f_cat(&[joined(&q)?, joined(&k)?, joined(&v)?], 2)
    }
}

/// Queries, keys and values where they lie, each `[batch, heads, tokens, width]`.
fn parts(qkv: &Tensor, heads: usize) -> Result<[Tensor; 3]> {
    let part = |index| -> Result<_> {
        let features = qkv.size()[2] / 3;
        apart(&qkv.f_narrow(2, index * features, features)?, heads)
    };
    Ok([part(0)?, part(1)?, part(2)?])
}

/// `[batch, tokens, heads * width]` as `[batch, heads, tokens, width]`.
fn apart(tokens: &Tensor, heads: usize) -> Result<Tensor> {
    let heads = tokens.f_unflatten(2, [heads as i64, -1])?;
    heads.f_transpose(1, 2)
}

/// The reverse of [`apart`].
fn joined(heads: &Tensor) -> Result<Tensor> {
    heads.f_transpose(1, 2)?.f_flatten(2, 3)
}

impl AttentionOps for LibTorch {
    fn aten_attention(qkv: TchTensor, heads: usize) -> TchTensor {
        Attended::new(qkv, heads).output
    }
}

impl Kept<LibTorch, 1> for Attended {
    fn gradients(self, gradient: TchTensor, wanted: [bool; 1]) -> [Option<TchTensor>; 1] {
        wanted.map(|wanted| {
            let gradient = || {
                self.backward(&gradient.tensor)
                    .map_err(|error| error.to_string())
            };
            wanted.then(|| TchTensor::new(expect("attention_backward", gradient())))
        })
    }
}

impl<C: CheckpointStrategy> AttentionOps for Autodiff<LibTorch, C> {
    fn aten_attention(qkv: FloatTensor<Self>, heads: usize) -> FloatTensor<Self> {
        let (qkv, node) = qkv.into_parts();
        let attended = Attended::new(qkv, heads);
        let output = attended.output.clone();
        track::<LibTorch, 1, _, C>([node], attended, output)
    }
}
