//! Attention on GPUs in one operation, by whichever of libtorch's kernels suits the device and the type, with the gradient
//! that libtorch itself takes from it.
#![allow(
    unsafe_code,
    reason = "one of the places where this workspace calls foreign functions"
)]

use std::ffi::c_char;
use std::ptr::null_mut;
use std::sync::Arc;

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::libtorch::TchTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, LibTorch, backend_extension};
use tch::Tensor;
use torch_sys::C_tensor;

use super::extension::expect;
use super::ffi::Result;
use crate::kept::{Kept, track};
use crate::message;

/// `selfcls_attended` of `dot_product.cpp`.
#[repr(C)]
struct RawAttended {
    _opaque: [u8; 0],
}

unsafe extern "C" {
    fn selfcls_attend(
        qkv: *const C_tensor,
        heads: i64,
        out: *mut *mut C_tensor,
        kept: *mut *mut RawAttended,
    ) -> *mut c_char;
    fn selfcls_attended_gradient(
        kept: *const RawAttended,
        gradient: *const C_tensor,
        out: *mut *mut C_tensor,
    ) -> *mut c_char;
    fn selfcls_attended_free(kept: *mut RawAttended);
}

#[backend_extension(Autodiff, LibTorch)]
pub(super) trait DotProductOps: Backend {
    /// Queries, keys and values of all heads, `[batch, tokens, 3 * heads * width]`, to what each token sees,
    /// `[batch, tokens, heads * width]`.
    fn dot_product_attention(qkv: FloatTensor<Self>, heads: usize) -> FloatTensor<Self>;
}

/// A piece of libtorch's graph.
#[derive(Debug)]
struct Graph(*mut RawAttended);

// SAFETY: two tensors, which belong to no thread; they are only read, and a gradient is taken by whoever owns the whole.
unsafe impl Send for Graph {}
// SAFETY: as above.
unsafe impl Sync for Graph {}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: made by `selfcls_attend`, and freed once.
        unsafe { selfcls_attended_free(self.0) };
    }
}

/// Row by row, as the features of a token are read.
fn contiguous(qkv: TchTensor) -> TchTensor {
    let contiguous = qkv.tensor.f_contiguous().map_err(|error| error.to_string());
    TchTensor::from_existing(expect("contiguous", contiguous), qkv.storage)
}

/// The output; and what the gradient needs, if one is `wanted`. `qkv` lies row by row.
fn attend(qkv: &Tensor, heads: usize, wanted: bool) -> Result<(Tensor, Option<Graph>)> {
    let (mut out, mut kept) = (null_mut(), null_mut());
    let slot = if wanted { &raw mut kept } else { null_mut() };
    // SAFETY: the pointers are to a live tensor, which is only read, and to slots that are written where nothing is thrown.
    let thrown = unsafe { selfcls_attend(qkv.as_ptr(), heads as i64, &raw mut out, slot) };
    // SAFETY: what a function of `dot_product.cpp` has just returned.
    unsafe { message::answer(thrown) }?;
    // SAFETY: a tensor that was allocated for us.
    let out = unsafe { Tensor::from_ptr(out) };
    Ok((out, wanted.then_some(Graph(kept))))
}

/// What the backward pass needs.
#[derive(Debug, Clone)]
struct Attended {
    graph: Arc<Graph>,
    /// Whose values the graph shares, so that nobody writes to them.
    _shared: [TchTensor; 2],
}

impl Attended {
    fn gradient(&self, gradient: &Tensor) -> Result<Tensor> {
        let mut out = null_mut();
        // SAFETY: the pointers are to a live piece of graph and a live tensor; the slot is written where nothing is thrown.
        let thrown =
            unsafe { selfcls_attended_gradient(self.graph.0, gradient.as_ptr(), &raw mut out) };
        // SAFETY: what a function of `dot_product.cpp` has just returned.
        unsafe { message::answer(thrown) }?;
        // SAFETY: a tensor that was allocated for us.
        Ok(unsafe { Tensor::from_ptr(out) })
    }
}

impl DotProductOps for LibTorch {
    fn dot_product_attention(qkv: TchTensor, heads: usize) -> TchTensor {
        let attended = attend(&contiguous(qkv).tensor, heads, false);
        TchTensor::new(expect("scaled_dot_product_attention", attended).0)
    }
}

impl Kept<LibTorch, 1> for Attended {
    fn gradients(self, gradient: TchTensor, wanted: [bool; 1]) -> [Option<TchTensor>; 1] {
        wanted.map(|wanted| {
            let gradient = || expect("attention's gradient", self.gradient(&gradient.tensor));
            wanted.then(|| TchTensor::new(gradient()))
        })
    }
}

impl<C: CheckpointStrategy> DotProductOps for Autodiff<LibTorch, C> {
    fn dot_product_attention(qkv: FloatTensor<Self>, heads: usize) -> FloatTensor<Self> {
        let (qkv, node) = qkv.into_parts();
        let qkv = contiguous(qkv);
        let attended = attend(&qkv.tensor, heads, true);
        let (output, graph) = expect("scaled_dot_product_attention", attended);
        let output = TchTensor::new(output);
        let Some(graph) = graph else {
            unreachable!("a gradient was wanted")
        };
        let kept = Attended {
            graph: Arc::new(graph),
            _shared: [qkv, output.clone()],
        };
        track::<LibTorch, 1, _, C>([node], kept, output)
    }
}
