//! The weight-normalised linear classifier (Salimans and Kingma 2016, equation 2).

use super::{Init, l2_norm_rows};
use crate::config::{ClassifierInit, ModelConfig};
use burn::module::{Module, Param};
use burn::tensor::Tensor;

/// Keeps the direction of an all-zero row defined; far below any trained norm.
const TINY: f64 = 1e-15;

/// `logits = x W^T` with rows `w_c = g_c v_c / ||v_c||`, without bias.
#[derive(Module, Debug)]
pub struct Classifier {
    /// Gain g, `[classes, 1]`.
    pub weight_g: Param<Tensor<2>>,
    /// Direction v, `[classes, dim]`.
    pub weight_v: Param<Tensor<2>>,
}

impl Classifier {
    /// A classifier of `classes` classes: gain 1, directions after `config.classifier_init`. Fixed
    /// classifiers keep both for good, `classifier_gain = false` the gain.
    pub fn new(init: &mut Init<'_>, config: &ModelConfig, classes: usize) -> Self {
        let dim = config.dim;
        let weight_g = init.constant([classes, 1], 1.0);
        let weight_v = match config.classifier_init {
            ClassifierInit::Uniform => init.uniform([classes, dim], 1.0 / (dim as f64).sqrt()),
            ClassifierInit::Orthogonal => init.orthogonal([classes, dim]),
        };
        let learns = !config.fixed_classifiers;
        Self {
            weight_g: weight_g.set_require_grad(learns && config.classifier_gain),
            weight_v: weight_v.set_require_grad(learns),
        }
    }

    /// `[batch, dim]` to `[batch, classes]`.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let v = self.weight_v.val();
        let norm = l2_norm_rows(v.clone(), TINY);
        let weight = v * (self.weight_g.val() / norm);
        x.matmul(weight.transpose())
    }
}
