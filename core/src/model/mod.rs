//! Backbone, head and classifiers.
//!
//! Every part is a burn `Module` that a section of the configuration initialises. Weights are drawn on
//! the host from the run's seed, so a model starts equal on every backend; in and out they travel as a
//! [`StateDict`](crate::weights::StateDict) under torchvision's and the authors' names.

mod backbone;
mod batch_norm;
mod casts;
mod classifier;
mod context;
mod conv;
mod head;
mod init;
mod layout;
mod linear;
mod normalize;
mod resnet;
mod self_classifier;
mod stages;
mod state;
mod vit;

pub use backbone::Backbone;
pub use batch_norm::BatchNorm;
pub use casts::Casts;
pub use classifier::Classifier;
pub use context::{Context, Noise};
pub use conv::Conv2d;
pub use head::{Activation, HeadLayer, MlpHead, MlpLayers};
pub use init::Init;
pub use layout::with_weight_layout;
pub use linear::Linear;
pub use normalize::{l2_norm_rows, normalize_rows};
pub use resnet::{BasicBlock, Block, Bottleneck, ResNet};
pub use self_classifier::{SelfClassifier, ViewBatch};
pub use stages::Flow;
pub(crate) use state::to_array;
pub use state::{NamePath, is_buffer, state_dict, with_state_dict};
pub use vit::{
    Attention, LayerNorm, Mlp, PatchEmbed, PatchProjection, TransformerBlock, VisionTransformer,
    interpolate_positions,
};
