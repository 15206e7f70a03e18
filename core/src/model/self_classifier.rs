//! The whole network.

use super::{Backbone, Casts, Classifier, Context, Init, MlpHead};
use crate::config::ModelConfig;
use burn::module::Module;
use burn::tensor::{Device, Tensor};

/// The views of a batch, on the device. Views of one resolution are stacked view by view.
#[derive(Debug, Clone)]
pub struct ViewBatch {
    /// The two global views, `[2 * batch, 3, size, size]`.
    pub global: Tensor<4>,
    /// The local views, `[count * batch, 3, size, size]`.
    pub local: Option<Tensor<4>>,
}

impl ViewBatch {
    /// The views of each size, `[views * batch, 3, size, size]`: global and local ones together where they
    /// are of one size.
    pub fn by_size(self) -> Vec<Tensor<4>> {
        let size = |images: &Tensor<4>| images.dims()[2..].to_vec();
        match self.local {
            Some(local) if size(&local) == size(&self.global) => {
                vec![Tensor::cat(vec![self.global, local], 0)]
            }
            local => std::iter::once(self.global).chain(local).collect(),
        }
    }
}

/// Global views of a sample.
const GLOBALS: usize = 2;

/// Backbone, head and classifiers: one network for all views.
#[derive(Module, Debug)]
pub struct SelfClassifier {
    /// Images to features.
    pub backbone: Backbone,
    /// Features to unit embeddings.
    pub mlp_head: MlpHead,
    /// Embeddings to logits, one classifier per head.
    pub classifiers: Vec<Classifier>,
    #[module(skip)]
    views_apart: bool,
}

impl ModelConfig {
    /// A model with initial weights from `seed`. On an autodiff device it is ready for training.
    pub fn init(&self, device: &Device, seed: u64) -> SelfClassifier {
        let mut init = Init::new(device, seed);
        let backbone = Backbone::new(&mut init, self);
        let mlp_head = MlpHead::new(&mut init, self);
        let classifiers = self
            .heads
            .iter()
            .map(|&classes| Classifier::new(&mut init, self, classes))
            .collect();
        SelfClassifier {
            backbone,
            mlp_head,
            classifiers,
            views_apart: self.views_apart,
        }
    }
}

impl SelfClassifier {
    /// Unit embeddings of all views, `[views * batch, dim]`, global views first.
    ///
    /// The backbone runs once per resolution, so its batch normalisation sees each resolution on its
    /// own; the head runs once over all views. Both as the authors' code. Under `views_apart` backbone and
    /// head run on each view by itself in training, as in the code of the first arXiv version.
    pub fn embed(&self, views: ViewBatch, context: &Context<'_>) -> Tensor<2> {
        if self.views_apart && context.training {
            return self.embed_apart(views, context);
        }
        let casts = Casts::default();
        let mut pass = *context;
        let mut features = Vec::new();
        let sizes = views.by_size();
        if sizes.len() > 1 {
            pass = pass.with_casts(&casts);
        }
        for images in sizes {
            features.push(self.backbone.forward(images, &pass));
            pass.noise = pass.noise.next_pass();
        }
        self.mlp_head.forward(Tensor::cat(features, 0), context)
    }

    fn embed_apart(&self, views: ViewBatch, context: &Context<'_>) -> Tensor<2> {
        let batch = views.global.dims()[0] / GLOBALS;
        let casts = Casts::default();
        let mut pass = context.with_casts(&casts);
        let mut embeddings = Vec::new();
        for images in views.by_size() {
            for view in images.split(batch, 0) {
                let features = self.backbone.forward(view, &pass);
                embeddings.push(self.mlp_head.forward(features, &pass));
                pass.noise = pass.noise.next_pass();
            }
        }
        Tensor::cat(embeddings, 0)
    }

    /// Unit embeddings of images of one resolution, `[batch, 3, h, w]` to `[batch, dim]`.
    pub fn embed_images(&self, images: Tensor<4>, context: &Context<'_>) -> Tensor<2> {
        self.embed(
            ViewBatch {
                global: images,
                local: None,
            },
            context,
        )
    }

    /// Logits of every head, `[rows, classes]` each.
    pub fn logits(&self, embeddings: Tensor<2>) -> Vec<Tensor<2>> {
        self.classifiers
            .iter()
            .map(|classifier| classifier.forward(embeddings.clone()))
            .collect()
    }
}
