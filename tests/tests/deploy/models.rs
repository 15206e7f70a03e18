//! Models of every kind, with running statistics that are not the initial ones.

use burn::module::Module;
use burn::tensor::{Tensor, TensorData};
use selfcls_backends::{Selection, open};
use selfcls_core::Config;
use selfcls_core::config::{Arch, Interpolation, Stem};
use selfcls_core::data::{Shapes, Source};
use selfcls_core::eval::{Features, ModelNetwork};
use selfcls_core::metadata::{Metadata, TrainingSummary};
use selfcls_core::model::{Context, Noise, state_dict};
use selfcls_core::pixels::Rgb8;
use selfcls_core::runtime::Runtime;
use selfcls_core::weights::StateDict;
use selfcls_export::{FileOptions, OnnxWriter};
use std::sync::Arc;

/// A model in burn, and its weights.
pub(crate) struct Model {
    pub(crate) config: Config,
    pub(crate) weights: StateDict,
    pub(crate) network: ModelNetwork,
}

impl Model {
    /// The model that `config` describes, after one batch of training.
    pub(crate) fn new(config: Config) -> Self {
        let selection: Selection = "flex".parse().expect("a backend");
        let runtime = Runtime::new(open(&selection).expect("opens").device);
        let training = config.model.init(&runtime.device.clone().autodiff(), 3);
        let preprocess = config.preprocess();
        let images = images();
        let batch: Vec<f32> = images
            .iter()
            .flat_map(|image| preprocess.input(image))
            .collect();
        let side = preprocess.crop;
        let data = TensorData::new(batch, [images.len(), 3, side, side]);
        let context = Context::training(&*runtime.kernels, Noise::default());
        // Moves the running statistics, as training does.
        training.embed_images(Tensor::<4>::from_data(data, &runtime.device), &context);
        Self {
            weights: state_dict(&training),
            network: ModelNetwork::new(training.valid(), runtime, Features::Embedding),
            config,
        }
    }

    /// Its writer.
    pub(crate) fn writer(&self, options: FileOptions) -> OnnxWriter<'_> {
        let metadata = Metadata::new(&self.config, TrainingSummary::default());
        OnnxWriter::new(&self.config.model, &self.weights, metadata).options(options)
    }
}

/// Images to train and try on.
pub(crate) fn images() -> Vec<Arc<Rgb8>> {
    let images = Shapes::new(7, 3, 40);
    (0..7)
        .map(|index| images.image(index).expect("draws"))
        .collect()
}

fn base(stem: Stem, head_layers: usize, head_bn: bool, leaky: bool) -> Config {
    let mut config = Config::default();
    config.views.global_size = 32;
    config.model.backbone = Arch::ResNet10;
    config.model.stem = stem;
    config.model.width = 8;
    config.model.head_layers = head_layers;
    config.model.hidden_dim = 32;
    config.model.dim = if head_layers == 0 { 64 } else { 16 };
    config.model.head_bn = head_bn;
    config.model.leaky = leaky;
    config.model.heads = vec![10, 20];
    config
}

fn transformer(backbone: Arch, width: usize, position_size: usize, head_layers: usize) -> Config {
    let mut config = base(Stem::ImageNet, head_layers, true, true);
    config.model.backbone = backbone;
    config.model.width = width;
    config.model.depth = 2;
    config.model.patch_size = 8;
    config.model.position_size = position_size;
    if head_layers == 0 {
        config.model.dim = width;
    }
    config
}

/// A small residual network.
pub(crate) fn resnet() -> Config {
    base(Stem::CifarStride2, 2, true, true)
}

/// A small vision transformer, whose positions are interpolated.
pub(crate) fn vit() -> Config {
    transformer(Arch::VitTiny, 24, 56, 1)
}

/// The small residual network with the other filter and images that are cropped.
pub(crate) fn cubic() -> Config {
    let mut config = resnet();
    config.eval.interpolation = Interpolation::Bicubic;
    (config.eval.resize, config.eval.crop) = (36, 32);
    config
}

/// Every stem, family of backbones, head and classifier form.
pub(crate) fn all() -> Vec<Config> {
    let residual = |backbone, stem, width| {
        let mut config = base(stem, 2, true, true);
        config.model.backbone = backbone;
        config.model.width = width;
        config
    };
    let mut fixed = base(Stem::Cifar, 3, false, true);
    fixed.model.fixed_classifiers = true;
    vec![
        base(Stem::ImageNet, 3, true, true),
        base(Stem::CifarStride2, 2, false, false),
        base(Stem::Cifar, 1, true, true),
        base(Stem::CifarStride2, 0, true, true),
        fixed,
        residual(Arch::ResNet18, Stem::Cifar, 8),
        residual(Arch::ResNet34, Stem::CifarStride2, 4),
        residual(Arch::ResNet50, Stem::ImageNet, 4),
        residual(Arch::ResNet101, Stem::CifarStride2, 2),
        residual(Arch::ResNet152, Stem::ImageNet, 2),
        residual(Arch::WideResNet50, Stem::ImageNet, 4),
        residual(Arch::ResNext50, Stem::CifarStride2, 16),
        residual(Arch::ResNext101x32, Stem::ImageNet, 8),
        residual(Arch::ResNext101x64, Stem::ImageNet, 16),
        // Two heads at the size of the positions; one head with positions made for another size, larger
        // and smaller, and no MLP.
        transformer(Arch::VitSmall, 128, 32, 2),
        transformer(Arch::DeitTiny, 24, 56, 1),
        transformer(Arch::VitBase, 64, 16, 0),
    ]
}
