//! A burn model as a [`Network`].

use super::extract::{Forward, Network, Trace};
use crate::Result;
use crate::model::{Context, SelfClassifier, state_dict, to_array, with_weight_layout};
use crate::runtime::Runtime;
use crate::weights::digest;
use burn::tensor::{Tensor, TensorData};

/// Which features a network gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Features {
    /// The backbone's output, `backbone_dim` values (what k-NN and linear evaluation usually take).
    Backbone,
    /// The head's unit embedding, `dim` values (what an exported file gives).
    Embedding,
}

/// A model for inference on a device.
#[derive(Debug)]
pub struct ModelNetwork {
    model: SelfClassifier,
    runtime: Runtime,
    features: Features,
}

impl ModelNetwork {
    /// `model` must be for inference (without autodiff) and on the runtime's device.
    pub fn new(model: SelfClassifier, runtime: Runtime, features: Features) -> Self {
        Self {
            model: with_weight_layout(model, &*runtime.kernels),
            runtime,
            features,
        }
    }

    /// Everything that the model computes of `count` images, `[count, 3, side, side]`, normalised.
    pub fn trace(&self, images: Vec<f32>, count: usize) -> Trace {
        let side = ((images.len() / (3 * count)) as f64).sqrt() as usize;
        let data = TensorData::new(images, [count, 3, side, side]);
        let images = Tensor::<4>::from_data(data, &self.runtime.device);
        let context = Context::evaluation(&*self.runtime.kernels);
        let features = self.model.backbone.forward(images, &context);
        let embedding = self.model.mlp_head.forward(features.clone(), &context);
        let logits = self.model.logits(embedding.clone());
        Trace {
            features: to_array(features).data,
            embedding: to_array(embedding).data,
            logits: logits
                .into_iter()
                .map(|logits| to_array(logits).data)
                .collect(),
        }
    }
}

impl Network for ModelNetwork {
    fn forward(&mut self, images: Vec<f32>, count: usize) -> Result<Forward> {
        let trace = self.trace(images, count);
        Ok(Forward {
            logits: trace.logits,
            features: match self.features {
                Features::Backbone => trace.features,
                Features::Embedding => trace.embedding,
            },
        })
    }

    fn weights_digest(&self) -> Option<String> {
        Some(digest(&state_dict(&self.model)))
    }
}
