//! The network in plain loops and f64: slow, obvious, and independent of the writer (no folding).

use selfcls_core::config::{Layout, ModelConfig, Residual, ResidualBlock, Stem};
use selfcls_core::weights::StateDict;

/// A batch of feature maps, `[batch, channels, side, side]`.
struct Maps {
    batch: usize,
    channels: usize,
    side: usize,
    data: Vec<f64>,
}

/// What the network should give.
pub(crate) struct Expected {
    /// `[batch, dim]`.
    pub(crate) embedding: Vec<f64>,
    /// `[batch, classes]` per head.
    pub(crate) logits: Vec<Vec<f64>>,
    /// `[batch, classes]` per head.
    pub(crate) probabilities: Vec<Vec<f64>>,
}

/// Evaluation mode on `images` `[batch, 3, side, side]`, at row temperature 0.1.
pub(crate) fn forward(
    model: &ModelConfig,
    weights: &StateDict,
    images: &[f32],
    side: usize,
) -> Expected {
    let network = Network { model, weights };
    let batch = images.len() / (3 * side * side);
    let image = Maps {
        batch,
        channels: 3,
        side,
        data: images.iter().map(|&x| f64::from(x)).collect(),
    };
    let features = network.backbone(image);
    let embedding = unit_rows(&network.head(features), model.dim);
    let logits: Vec<Vec<f64>> = (0..model.heads.len())
        .map(|head| network.classifier(head, &embedding))
        .collect();
    let probabilities = logits
        .iter()
        .zip(&model.heads)
        .map(|(logits, &classes)| softmax_rows(logits, classes, 0.1))
        .collect();
    Expected {
        embedding,
        logits,
        probabilities,
    }
}

struct Network<'a> {
    model: &'a ModelConfig,
    weights: &'a StateDict,
}

impl Network<'_> {
    fn weight(&self, name: &str) -> &[f32] {
        &self.weights[name].data
    }

    fn backbone(&self, image: Maps) -> Vec<f64> {
        let Layout::Residual(net) = self.model.layout() else {
            panic!("only residual networks are written out here");
        };
        let (kernel, stride) = match net.stem {
            Stem::ImageNet => (7, 2),
            Stem::Cifar => (3, 1),
            Stem::CifarStride2 => (3, 2),
        };
        let mut x = self.conv("backbone.conv1", &image, [kernel, stride, 1]);
        self.batch_norm("backbone.bn1", &mut x);
        relu(&mut x);
        if net.stem == Stem::ImageNet {
            x = max_pool(&x);
        }
        for block in net.blocks() {
            x = self.block(&net, block, x);
        }
        let area = x.side * x.side;
        x.data
            .chunks_exact(area)
            .map(|map| map.iter().sum::<f64>() / area as f64)
            .collect()
    }

    fn block(&self, net: &Residual, block: ResidualBlock, x: Maps) -> Maps {
        let path = format!("backbone.layer{}.{}", block.stage + 1, block.index);
        let stride = block.stride;
        // Kernel, stride, groups.
        let convs = if net.bottleneck {
            vec![[1, 1, 1], [3, stride, net.groups], [1, 1, 1]]
        } else {
            vec![[3, stride, 1], [3, 1, 1]]
        };
        let downsample = format!("{path}.downsample.0");
        let projects = self.weights.contains_key(&format!("{downsample}.weight"));
        let shortcut = if projects {
            let mut s = self.conv(&downsample, &x, [1, stride, 1]);
            self.batch_norm(&format!("{path}.downsample.1"), &mut s);
            s.data
        } else {
            x.data.clone()
        };
        let mut y = x;
        for (number, &shape) in (1..).zip(&convs) {
            if number > 1 {
                relu(&mut y);
            }
            y = self.conv(&format!("{path}.conv{number}"), &y, shape);
            self.batch_norm(&format!("{path}.bn{number}"), &mut y);
        }
        for (y, s) in y.data.iter_mut().zip(&shortcut) {
            *y += s;
        }
        relu(&mut y);
        y
    }

    fn conv(&self, path: &str, x: &Maps, [kernel, stride, groups]: [usize; 3]) -> Maps {
        let weight = self.weight(&format!("{path}.weight"));
        let own = x.channels / groups;
        let channels = weight.len() / (own * kernel * kernel);
        let pad = (kernel - 1) / 2;
        let side = (x.side + 2 * pad - kernel) / stride + 1;
        let mut data = Vec::with_capacity(x.batch * channels * side * side);
        for b in 0..x.batch {
            for output in 0..channels {
                for row in 0..side {
                    for column in 0..side {
                        let mut sum = 0.0;
                        let first = output / (channels / groups) * own;
                        for input in 0..own {
                            for i in 0..kernel {
                                for j in 0..kernel {
                                    let (y, z) = (row * stride + i, column * stride + j);
                                    let inside = |p: usize| (pad..x.side + pad).contains(&p);
                                    if inside(y) && inside(z) {
                                        let map = (b * x.channels + first + input) * x.side;
                                        let at = (map + y - pad) * x.side + z - pad;
                                        let w = (output * own + input) * kernel + i;
                                        sum += x.data[at] * f64::from(weight[w * kernel + j]);
                                    }
                                }
                            }
                        }
                        data.push(sum);
                    }
                }
            }
        }
        Maps {
            batch: x.batch,
            channels,
            side,
            data,
        }
    }

    fn batch_norm(&self, path: &str, x: &mut Maps) {
        let area = x.side * x.side;
        for (i, map) in x.data.chunks_exact_mut(area).enumerate() {
            self.normalise(path, i % x.channels, map);
        }
    }

    fn normalise(&self, path: &str, channel: usize, values: &mut [f64]) {
        let of = |part: &str| f64::from(self.weight(&format!("{path}.{part}"))[channel]);
        let (mean, deviation) = (of("running_mean"), (of("running_var") + 1e-5).sqrt());
        for x in values {
            *x = (*x - mean) / deviation * of("weight") + of("bias");
        }
    }

    fn head(&self, mut x: Vec<f64>) -> Vec<f64> {
        let model = self.model;
        let dims = model.head_dims();
        let mut position = 0;
        for (layer, &(from, to)) in dims.iter().enumerate() {
            let path = match dims.len() {
                1 => "mlp_head.mlp".to_owned(),
                _ => format!("mlp_head.mlp.{position}"),
            };
            let (weight, bias) = (format!("{path}.weight"), format!("{path}.bias"));
            x = products(&x, self.weight(&weight), from);
            for row in x.chunks_exact_mut(to) {
                for (x, &b) in row.iter_mut().zip(self.weight(&bias)) {
                    *x += f64::from(b);
                }
            }
            position += 1;
            if layer + 1 == dims.len() {
                break;
            }
            if model.head_bn {
                let path = format!("mlp_head.mlp.{position}");
                for (i, x) in x.iter_mut().enumerate() {
                    self.normalise(&path, i % to, std::slice::from_mut(x));
                }
                position += 1;
            }
            let slope = if model.leaky { 0.01 } else { 0.0 };
            for x in &mut x {
                *x = if *x > 0.0 { *x } else { slope * *x };
            }
            position += 1;
        }
        x
    }

    fn classifier(&self, head: usize, embedding: &[f64]) -> Vec<f64> {
        let dim = self.model.dim;
        let gain = self.weight(&format!("cls_{head}.weight_g"));
        let direction: Vec<f64> = self
            .weight(&format!("cls_{head}.weight_v"))
            .iter()
            .map(|&v| f64::from(v))
            .collect();
        embedding
            .chunks_exact(dim)
            .flat_map(|x| {
                direction
                    .chunks_exact(dim)
                    .zip(gain)
                    .map(move |(v, &g)| f64::from(g) * dot(v, x) / dot(v, v).sqrt())
            })
            .collect()
    }
}

fn dot(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(x, y)| x * y).sum()
}

/// Rows of `x` times the transposed `weight`, `[output, width]`.
fn products(x: &[f64], weight: &[f32], width: usize) -> Vec<f64> {
    let weight: Vec<f64> = weight.iter().map(|&w| f64::from(w)).collect();
    x.chunks_exact(width)
        .flat_map(|row| weight.chunks_exact(width).map(move |w| dot(row, w)))
        .collect()
}

fn relu(x: &mut Maps) {
    for x in &mut x.data {
        *x = x.max(0.0);
    }
}

/// 3x3, stride 2, padding 1.
fn max_pool(x: &Maps) -> Maps {
    let side = (x.side - 1) / 2 + 1;
    let mut data = Vec::with_capacity(x.batch * x.channels * side * side);
    for map in x.data.chunks_exact(x.side * x.side) {
        for row in 0..side {
            for column in 0..side {
                let window =
                    |centre: usize| (2 * centre).saturating_sub(1)..(2 * centre + 2).min(x.side);
                let values =
                    window(row).flat_map(|y| window(column).map(move |z| map[y * x.side + z]));
                data.push(values.fold(f64::NEG_INFINITY, f64::max));
            }
        }
    }
    Maps { side, data, ..*x }
}

fn unit_rows(x: &[f64], width: usize) -> Vec<f64> {
    x.chunks_exact(width)
        .flat_map(|row| {
            let length = dot(row, row).sqrt().max(1e-7);
            row.iter().map(move |x| x / length)
        })
        .collect()
}

fn softmax_rows(x: &[f64], width: usize, temperature: f64) -> Vec<f64> {
    x.chunks_exact(width)
        .flat_map(|row| {
            let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let powers: Vec<f64> = row
                .iter()
                .map(|x| ((x - largest) / temperature).exp())
                .collect();
            let sum: f64 = powers.iter().sum();
            powers.into_iter().map(move |p| p / sum)
        })
        .collect()
}
