//! From a model in burn to a file in an engine: shared by one test binary per engine, since a process
//! is bound to the first engine it uses.

use burn::module::Module;
use selfcls_backends::{Selection, open};
use selfcls_core::Config;
use selfcls_core::config::{Arch, Stem};
use selfcls_core::data::{Shapes, Source};
use selfcls_core::eval::{Features, ModelNetwork};
use selfcls_core::metadata::{Metadata, TrainingSummary};
use selfcls_core::model::{Context, Noise, state_dict};
use selfcls_core::runtime::Runtime;
use selfcls_export::{Classifier, HeadSelection, OnnxWriter, Options};

const TOLERANCE: f32 = 1e-5;

/// Models of every stem, head and classifier form, with running statistics that are not the initial ones.
fn models() -> Vec<Config> {
    let base = |stem, head_layers, head_bn, leaky| {
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
    };
    let mut resnet18 = base(Stem::Cifar, 2, true, true);
    resnet18.model.backbone = Arch::ResNet18;
    let mut resnet50 = base(Stem::ImageNet, 2, true, true);
    resnet50.model.backbone = Arch::ResNet50;
    resnet50.model.width = 4;
    let mut resnext = base(Stem::CifarStride2, 2, true, true);
    resnext.model.backbone = Arch::ResNext50;
    resnext.model.width = 16;
    let transformer = |width, position_size, head_layers| {
        let mut config = base(Stem::ImageNet, head_layers, true, true);
        config.model.backbone = Arch::VitSmall;
        config.model.width = width;
        config.model.depth = 2;
        config.model.patch_size = 8;
        config.model.position_size = position_size;
        config
    };
    vec![
        base(Stem::ImageNet, 3, true, true),
        base(Stem::CifarStride2, 2, false, false),
        base(Stem::Cifar, 1, true, true),
        base(Stem::CifarStride2, 0, true, true),
        resnet18,
        resnet50,
        resnext,
        // Two heads at the size of the positions; one head with positions made for another size, larger
        // and smaller, and no MLP.
        transformer(128, 32, 2),
        transformer(24, 56, 1),
        transformer(64, 16, 0),
    ]
}

/// Exports each model and compares logits and embeddings with burn's at batch 1, 2 and 7.
pub(crate) fn agrees_with_burn(options: &Options, engine: &str) {
    let selection: Selection = "flex".parse().expect("a backend");
    let runtime = Runtime::new(open(&selection).expect("opens").device);
    let images = Shapes::new(7, 3, 40);
    let images: Vec<_> = (0..7)
        .map(|index| images.image(index).expect("draws"))
        .collect();
    for config in models() {
        let training = config.model.init(&runtime.device.clone().autodiff(), 3);
        let preprocess = config.preprocess();
        let batch: Vec<f32> = images
            .iter()
            .flat_map(|image| preprocess.input(image))
            .collect();
        let side = preprocess.crop;
        let tensor = burn::tensor::Tensor::<4>::from_data(
            burn::tensor::TensorData::new(batch.clone(), [7, 3, side, side]),
            &runtime.device,
        );
        let context = Context::training(&*runtime.kernels, Noise::default());
        // Moves the running statistics, as training does.
        training.embed_images(tensor, &context);
        let weights = state_dict(&training);
        let metadata = Metadata::new(&config, TrainingSummary::default());
        let bytes = OnnxWriter::new(&config.model, &weights, metadata.clone())
            .heads(HeadSelection::All)
            .to_bytes()
            .expect("exports");
        let again = OnnxWriter::new(&config.model, &weights, metadata);
        assert_eq!(
            bytes,
            again.to_bytes().expect("exports"),
            "the same model gave other bytes"
        );
        let classifier = Classifier::from_bytes(bytes, options).expect("opens");
        assert!(
            classifier.engine().to_string().contains(engine),
            "{}",
            classifier.engine()
        );
        let mut network = ModelNetwork::new(training.valid(), runtime.clone(), Features::Embedding);
        for count in [1, 2, 7] {
            let input = &batch[..count * preprocess.input_len()];
            let difference = classifier.difference(&mut network, input).expect("runs");
            eprintln!("PARITY\texport\t{engine}\tbatch {count}\t{difference:.2e}\t{TOLERANCE:.0e}");
            assert!(
                difference <= TOLERANCE,
                "{engine}, batch {count}: {difference:e} with {config:?}"
            );
        }
    }
}
