//! Small models whose weights come from arithmetic, so that no weight file is needed.
//!
//! The hash is the one of the golden numbers: `u(k, i)` in [-0.5, 0.5) from splitmix64, with `k` the
//! tensor's position in PyTorch's state dict (counters included) and `i` the flat index.

use selfcls_core::config::{
    Arch, Config, Layout, ModelConfig, Residual, ResidualBlock, Stem, Transformer,
};
use selfcls_core::metadata::{Metadata, TrainingSummary};
use selfcls_core::weights::{Array, StateDict};

/// A model with its weights and metadata.
pub(crate) struct Example {
    pub(crate) model: ModelConfig,
    pub(crate) weights: StateDict,
    pub(crate) metadata: Metadata,
}

impl Example {
    /// The model for square images of `side` pixels.
    pub(crate) fn new(model: ModelConfig, side: usize) -> Self {
        let mut config = Config {
            model: model.clone(),
            ..Config::default()
        };
        config.eval.resize = side;
        config.eval.crop = side;
        let training = TrainingSummary {
            epochs: 3,
            steps: 99,
            samples: 1234,
            source: None,
            loss: Some(1.5),
        };
        Self {
            weights: hashed_weights(&model),
            metadata: Metadata::new(&config, training),
            model,
        }
    }

    /// What is kept as a file, to be read by burn's importer: 16 pixels, two heads.
    pub(crate) fn kept(backbone: Arch) -> Self {
        let model = ModelConfig {
            backbone,
            width: if backbone.is_transformer() { 8 } else { 4 },
            depth: 1,
            patch_size: 8,
            position_size: 24,
            hidden_dim: 6,
            dim: 4,
            heads: vec![3, 5],
            ..ModelConfig::default()
        };
        let mut example = Self::new(model, 16);
        example.metadata.tool = "selfcls, for a test".to_owned();
        example
    }

    /// The golden model: 64 pixels.
    pub(crate) fn golden() -> Self {
        let model = ModelConfig {
            width: 4,
            hidden_dim: 16,
            dim: 8,
            heads: vec![10, 20],
            ..ModelConfig::default()
        };
        Self::new(model, 64)
    }
}

/// `u(k, i)`.
pub(crate) fn hash(k: u64, i: u64) -> f32 {
    let x = k.wrapping_mul(1 << 32).wrapping_add(i);
    let mut z = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^= z >> 31;
    (z >> 40) as f32 / (1u32 << 24) as f32 - 0.5
}

/// `batch` images `[batch, 3, side, side]` of values in [-2, 2); `view` selects others.
pub(crate) fn hashed_images(view: u64, batch: usize, side: usize) -> Vec<f32> {
    (0..batch * 3 * side * side)
        .map(|i| 4.0 * hash(1_000_000 + view, i as u64))
        .collect()
}

/// The weights, each by the rule for its name and shape.
pub(crate) fn hashed_weights(model: &ModelConfig) -> StateDict {
    let mut dict = StateDict::new();
    for (k, (name, shape)) in state_dict_order(model).into_iter().enumerate() {
        if name.ends_with("num_batches_tracked") {
            continue;
        }
        let length: usize = shape.iter().product();
        let fan_in = length / shape[0];
        let value = |u: f32| match name.rsplit('.').next() {
            Some("running_mean" | "bias") => 0.2 * u,
            Some("running_var") => 1.0 + 0.5 * u,
            Some("weight_g") => 1.0 + 0.4 * u,
            Some("weight_v") => 2.0 * u,
            Some("cls_token" | "pos_embed") => 0.4 * u,
            _ if shape.len() == 1 => 1.0 + 0.4 * u,
            _ => u * ((6.0 / fan_in as f64).sqrt() * 2.0) as f32,
        };
        let data = (0..length)
            .map(|i| value(hash(k as u64, i as u64)))
            .collect();
        dict.insert(name, Array::new(shape, data));
    }
    dict
}

/// Names and shapes in the order in which PyTorch registers them.
fn state_dict_order(model: &ModelConfig) -> List {
    let mut list = Vec::new();
    match model.layout() {
        Layout::Residual(net) => residual(&mut list, &net),
        Layout::Transformer(net) => transformer(&mut list, &net),
    }
    let mut position = 0;
    let dims = model.head_dims();
    for (layer, &(from, to)) in dims.iter().enumerate() {
        let path = match dims.len() {
            1 => "mlp_head.mlp".to_owned(),
            _ => format!("mlp_head.mlp.{position}"),
        };
        linear(&mut list, &path, from, to);
        position += 1;
        if layer + 1 < dims.len() {
            if model.head_bn {
                norm(&mut list, &format!("mlp_head.mlp.{position}"), to);
                position += 1;
            }
            position += 1;
        }
    }
    for (head, &classes) in model.heads.iter().enumerate() {
        list.push((format!("cls_{head}.weight_g"), vec![classes, 1]));
        list.push((format!("cls_{head}.weight_v"), vec![classes, model.dim]));
    }
    list
}

/// Names and shapes, in order.
type List = Vec<(String, Vec<usize>)>;

fn residual(list: &mut List, net: &Residual) {
    let kernel = if net.stem == Stem::ImageNet { 7 } else { 3 };
    let shape = vec![net.width, 3, kernel, kernel];
    list.push(("backbone.conv1.weight".to_owned(), shape));
    norm(list, "backbone.bn1", net.width);
    for block in net.blocks() {
        let path = format!("backbone.layer{}.{}", block.stage + 1, block.index);
        let ResidualBlock {
            input,
            inner,
            output,
            ..
        } = block;
        let convs = if net.bottleneck {
            vec![
                [inner, input, 1],
                [inner, inner / net.groups, 3],
                [output, inner, 1],
            ]
        } else {
            vec![[inner, input, 3], [output, inner, 3]]
        };
        for (number, [to, from, kernel]) in (1..).zip(convs) {
            let shape = vec![to, from, kernel, kernel];
            list.push((format!("{path}.conv{number}.weight"), shape));
            norm(list, &format!("{path}.bn{number}"), to);
        }
        if block.projects() {
            let shape = vec![output, input, 1, 1];
            list.push((format!("{path}.downsample.0.weight"), shape));
            norm(list, &format!("{path}.downsample.1"), output);
        }
    }
}

fn transformer(list: &mut List, net: &Transformer) {
    let (dim, patch) = (net.dim, net.patch);
    list.push(("backbone.cls_token".to_owned(), vec![1, 1, dim]));
    let positions = vec![1, 1 + net.grid * net.grid, dim];
    list.push(("backbone.pos_embed".to_owned(), positions));
    let path = "backbone.patch_embed.proj";
    list.push((format!("{path}.weight"), vec![dim, 3, patch, patch]));
    list.push((format!("{path}.bias"), vec![dim]));
    for block in 0..net.depth {
        let path = format!("backbone.blocks.{block}");
        scale(list, &format!("{path}.norm1"), dim);
        linear(list, &format!("{path}.attn.qkv"), dim, 3 * dim);
        linear(list, &format!("{path}.attn.proj"), dim, dim);
        scale(list, &format!("{path}.norm2"), dim);
        linear(list, &format!("{path}.mlp.fc1"), dim, 4 * dim);
        linear(list, &format!("{path}.mlp.fc2"), 4 * dim, dim);
    }
    scale(list, "backbone.norm", dim);
}

fn linear(list: &mut List, path: &str, from: usize, to: usize) {
    list.push((format!("{path}.weight"), vec![to, from]));
    list.push((format!("{path}.bias"), vec![to]));
}

fn scale(list: &mut List, path: &str, channels: usize) {
    list.push((format!("{path}.weight"), vec![channels]));
    list.push((format!("{path}.bias"), vec![channels]));
}

fn norm(list: &mut List, path: &str, channels: usize) {
    scale(list, path, channels);
    for part in ["running_mean", "running_var"] {
        list.push((format!("{path}.{part}"), vec![channels]));
    }
    list.push((format!("{path}.num_batches_tracked"), vec![]));
}
