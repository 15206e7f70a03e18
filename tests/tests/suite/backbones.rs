//! What every backbone is made of, without running it.

use crate::fixture::{hash_tensor, values};
use crate::runner::Case;
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;
use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;
use selfcls_core::config::{Arch, ModelConfig, Stem};
use selfcls_core::model::{NamePath, is_buffer, state_dict};

/// Counts by shape alone: nothing is drawn.
#[derive(Default)]
struct Count {
    path: NamePath,
    parameters: usize,
    drawn: usize,
}

impl ModuleVisitor for Count {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }
    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if !is_buffer(&self.path.name()) {
            self.parameters += param.lazy_shape().num_elements();
            self.drawn += usize::from(param.is_initialized());
        }
    }
}

/// The numbers that torchvision 0.24 documents with each network, less those of its 1000-class `fc`; for
/// transformers timm's, less the classifier. The CIFAR network replaces 7x7 by 3x3 in the stem.
pub(crate) fn parameter_counts(case: &Case) {
    let fc = |dim: usize| 1000 * dim + 1000;
    for (backbone, stem, expected) in [
        (Arch::ResNet18, Stem::ImageNet, 11_689_512 - fc(512)),
        (
            Arch::ResNet18,
            Stem::Cifar,
            11_689_512 - fc(512) - 64 * 3 * (49 - 9),
        ),
        (Arch::ResNet34, Stem::ImageNet, 21_797_672 - fc(512)),
        (Arch::ResNet50, Stem::ImageNet, 23_508_032),
        (Arch::ResNet101, Stem::ImageNet, 44_549_160 - fc(2048)),
        (Arch::ResNet152, Stem::ImageNet, 60_192_808 - fc(2048)),
        (Arch::WideResNet50, Stem::ImageNet, 68_883_240 - fc(2048)),
        (Arch::WideResNet101, Stem::ImageNet, 126_886_696 - fc(2048)),
        (Arch::ResNext50, Stem::ImageNet, 25_028_904 - fc(2048)),
        (Arch::ResNext101x32, Stem::ImageNet, 88_791_336 - fc(2048)),
        (Arch::ResNext101x64, Stem::ImageNet, 83_455_272 - fc(2048)),
        (Arch::VitTiny, Stem::ImageNet, 5_717_416 - fc(192)),
        (Arch::DeitTiny, Stem::ImageNet, 5_717_416 - fc(192)),
        (Arch::VitSmall, Stem::ImageNet, 22_050_664 - fc(384)),
        (Arch::DeitSmall, Stem::ImageNet, 22_050_664 - fc(384)),
        (Arch::VitBase, Stem::ImageNet, 86_567_656 - fc(768)),
    ] {
        let config = ModelConfig {
            backbone,
            stem,
            ..Default::default()
        };
        let mut count = Count::default();
        config
            .init(&case.runtime.device, 0)
            .backbone
            .visit(&mut count);
        assert_eq!(count.parameters, expected, "{backbone:?}, {stem:?}");
        assert_eq!(count.drawn, 0, "{backbone:?} drew weights to be counted");
    }
}

fn deviation(values: &[f32]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().map(|&x| f64::from(x)).sum::<f64>() / count;
    let square = values.iter().map(|&x| (f64::from(x) - mean).powi(2));
    (mean, (square.sum::<f64>() / count).sqrt())
}

/// PyTorch's formulas: each tensor's standard deviation within four of its own, mean near 0, bounds kept;
/// scales and shifts; blocks that start as the identity under `zero_init`.
pub(crate) fn initial_weights(case: &Case) {
    let device = &case.runtime.device;
    let config = |backbone| ModelConfig {
        backbone,
        width: 16,
        head_layers: 1,
        heads: vec![50],
        ..Default::default()
    };
    let drawn = |state: &selfcls_core::weights::StateDict, name: &str, std: f64, bound: f64| {
        let values = &state[name].data;
        let (mean, found) = deviation(values);
        let count = values.len() as f64;
        assert!(mean.abs() < 4.0 * std / count.sqrt(), "{name}: mean {mean}");
        assert!(
            (found / std - 1.0).abs() < 4.0 / (2.0 * count).sqrt(),
            "{name}: {found}"
        );
        let largest = values.iter().fold(0.0_f32, |a, x| a.max(x.abs()));
        assert!(f64::from(largest) <= bound, "{name}: {largest}");
    };
    let constant = |state: &selfcls_core::weights::StateDict, name: &str, value: f32| {
        assert!(state[name].data.iter().all(|&x| x == value), "{name}");
    };
    let unbounded = f64::INFINITY;

    let state = state_dict(&config(Arch::ResNext50).init(device, 5));
    for (name, fan_out) in [
        ("backbone.conv1.weight", 16 * 49),
        ("backbone.layer1.0.conv1.weight", 32),
        ("backbone.layer1.0.conv2.weight", 32 * 9),
        ("backbone.layer1.0.downsample.0.weight", 64),
    ] {
        drawn(&state, name, (2.0 / fan_out as f64).sqrt(), unbounded);
    }
    constant(&state, "backbone.layer4.2.bn3.weight", 1.0);
    constant(&state, "backbone.layer4.2.bn3.bias", 0.0);
    drawn(&state, "mlp_head.mlp.weight", 0.02, unbounded);
    constant(&state, "mlp_head.mlp.bias", 0.0);
    let bound = 1.0 / 128_f64.sqrt();
    drawn(&state, "cls_0.weight_v", bound / 3_f64.sqrt(), bound);
    constant(&state, "cls_0.weight_g", 1.0);

    for (backbone, last, other) in [
        (Arch::ResNet10, "bn2", "bn1"),
        (Arch::ResNet50, "bn3", "bn2"),
    ] {
        let zero = ModelConfig {
            zero_init: true,
            ..config(backbone)
        };
        let zero = state_dict(&zero.init(device, 5));
        constant(&zero, &format!("backbone.layer2.0.{last}.weight"), 0.0);
        constant(&zero, &format!("backbone.layer2.0.{other}.weight"), 1.0);
        constant(&zero, "backbone.layer2.0.downsample.1.weight", 1.0);
    }

    let state = state_dict(&config(Arch::VitTiny).init(device, 5));
    let bound = 1.0 / (3.0 * 256.0_f64).sqrt();
    let uniform = bound / 3_f64.sqrt();
    drawn(&state, "backbone.patch_embed.proj.weight", uniform, bound);
    drawn(&state, "backbone.patch_embed.proj.bias", uniform, bound);
    for name in [
        "pos_embed",
        "cls_token",
        "blocks.0.attn.qkv.weight",
        "blocks.11.mlp.fc2.weight",
    ] {
        drawn(&state, &format!("backbone.{name}"), 0.02, unbounded);
    }
    constant(&state, "backbone.blocks.3.norm1.weight", 1.0);
    constant(&state, "backbone.blocks.3.attn.proj.bias", 0.0);
}

/// A convolution in groups is one convolution per group, forwards and backwards.
pub(crate) fn grouped_convolution(case: &Case) {
    let device = case.runtime.device.clone().autodiff();
    let (groups, input, output) = (3, 6, 9);
    let x = hash_tensor::<4>(1, [2, input, 7, 7], &device).require_grad();
    let weight = hash_tensor::<4>(2, [output, input / groups, 3, 3], &device).require_grad();
    let together =
        |x: Tensor<4>, weight: Tensor<4>| case.runtime.kernels.conv2d(x, weight, 2, 1, groups);
    let apart = |x: Tensor<4>, weight: Tensor<4>| {
        let options = || ConvOptions::new([2, 2], [1, 1], [1, 1], 1);
        let parts = x.chunk(groups, 1).into_iter().zip(weight.chunk(groups, 0));
        Tensor::cat(
            parts
                .map(|(x, weight)| conv2d(x, weight, None, options()))
                .collect(),
            1,
        )
    };
    let run = |conv: &dyn Fn(Tensor<4>, Tensor<4>) -> Tensor<4>| {
        let y = conv(x.clone(), weight.clone());
        let factors = hash_tensor::<4>(3, y.dims(), &device);
        let grads = (y.clone() * factors).sum().backward();
        [
            ("output", values(y)),
            ("gradient of x", values(x.grad(&grads).expect("a gradient"))),
            (
                "gradient of weight",
                values(weight.grad(&grads).expect("a gradient")),
            ),
        ]
    };
    for ((name, actual), (_, expected)) in run(&together).iter().zip(run(&apart)) {
        case.close(name, actual, &expected, 1e-5);
    }
}
