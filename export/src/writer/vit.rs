//! Vision transformers, in timm's and the authors' layout and names, at the image size of the file.

use super::fold::interpolated;
use super::graph::Value;
use super::layers::Emitter;
use super::proto::AttributeProto;
use crate::names;
use selfcls_core::config::Transformer;

/// Guard of the variance in layer normalisation (the authors' and timm's).
const LAYER_NORM_EPS: f32 = 1e-6;

/// What the layers share: the network's shape and the constants that say how tokens are arranged.
struct Tokens {
    net: Transformer,
    /// `[0, tokens, heads, width of a head]`: the batch stays.
    by_head: Value,
    /// `[0, tokens, dim]`.
    joined: Value,
}

/// `[batch, 3, side, side]` to `features` `[batch, dim]`.
pub(super) fn emit(e: &mut Emitter<'_>, net: Transformer, side: usize, image: &Value) -> Value {
    let patches = side / net.patch;
    let mut x = embed(e, net, patches, image);
    let tokens = (1 + patches * patches) as i64;
    let shape = |e: &mut Emitter<'_>, name: &str, last: &[usize]| {
        let last = last.iter().map(|&n| n as i64);
        let shape: Vec<i64> = [0, tokens].into_iter().chain(last).collect();
        e.graph.integers(name, &shape)
    };
    let tokens = Tokens {
        net,
        by_head: shape(e, "backbone.by_head", &[net.heads, net.head_dim()]),
        joined: shape(e, "backbone.joined", &[net.dim]),
    };
    for block in 0..net.depth {
        x = tokens.block(e, &format!("backbone.blocks.{block}"), &x);
    }
    // Each token is normalised on its own: only the class token need be.
    let first = e.graph.integer("backbone.class_index", 0);
    let axis = vec![AttributeProto::int("axis", 1)];
    let class = e
        .graph
        .node("Gather", "backbone.class", &[&x, &first], axis);
    layer_norm(e, "backbone.norm", names::FEATURES, net.dim, &class)
}

/// Patches as tokens, the class token before them, positions added: `[batch, 1 + patches^2, dim]`.
///
/// The class token is the same for every image, so it is added with its position to a row of zeros: no
/// operation needs to know the batch.
fn embed(e: &mut Emitter<'_>, net: Transformer, patches: usize, image: &Value) -> Value {
    let (dim, patch) = (net.dim, net.patch);
    let path = "backbone.patch_embed.proj";
    let x = e.patches(path, (dim, patch), image);
    let count = patches * patches;
    let flat = [0, dim as i64, count as i64];
    let flat = e.graph.integers("backbone.patch_embed.flat", &flat);
    let x = e
        .graph
        .node("Reshape", "backbone.patch_embed.rows", &[&x, &flat], vec![]);
    let x = transpose(e, "backbone.patch_embed", [0, 2, 1], &x);
    let border = e
        .graph
        .integers("backbone.class_border", &[0, 1, 0, 0, 0, 0]);
    let x = e
        .graph
        .node("Pad", "backbone.with_class", &[&x, &border], vec![]);

    let class = e.weights.take("backbone.cls_token", &[1, 1, dim]);
    let given = [1, 1 + net.grid * net.grid, dim];
    let given = e.weights.take("backbone.pos_embed", &given);
    let (class_position, patch_positions) = given.split_at(dim);
    let first = class.iter().zip(class_position).map(|(c, p)| c + p);
    let rest = interpolated(patch_positions, net.grid, patches, dim);
    let positions: Vec<f32> = first.chain(rest).collect();
    let shape = [1, 1 + count, dim];
    let positions = e
        .graph
        .initializer("backbone.pos_embed", &shape, &positions);
    e.add("backbone.tokens", &x, &positions)
}

impl Tokens {
    /// Attention, then the small network of each token, each beside a shortcut.
    fn block(&self, e: &mut Emitter<'_>, path: &str, x: &Value) -> Value {
        let dim = self.net.dim;
        let norm = format!("{path}.norm1");
        let y = layer_norm(e, &norm, &norm, dim, x);
        let y = self.attention(e, &format!("{path}.attn"), &y);
        let x = e.add(&format!("{path}.add1"), x, &y);
        let norm = format!("{path}.norm2");
        let y = layer_norm(e, &norm, &norm, dim, &x);
        let hidden = self.net.mlp_dim();
        let y = linear(e, &format!("{path}.mlp.fc1"), (dim, hidden), &y);
        let y = gelu(e, &format!("{path}.mlp.act"), &y);
        let y = linear(e, &format!("{path}.mlp.fc2"), (hidden, dim), &y);
        e.add(&format!("{path}.add2"), &x, &y)
    }

    /// `softmax(Q K^T / sqrt(width)) V` per head; the scale is multiplied into the queries' weights.
    fn attention(&self, e: &mut Emitter<'_>, path: &str, x: &Value) -> Value {
        let Transformer { dim, .. } = self.net;
        let weight = e
            .weights
            .take(&format!("{path}.qkv.weight"), &[3 * dim, dim]);
        let bias = e.weights.take(&format!("{path}.qkv.bias"), &[3 * dim]);
        let scale = (self.net.head_dim() as f64).powf(-0.5);
        let parts = [
            ("query", scale, [0, 2, 1, 3]),
            ("key", 1.0, [0, 2, 3, 1]),
            ("value", 1.0, [0, 2, 1, 3]),
        ];
        let parts = parts.into_iter().enumerate();
        let [q, k, v] = parts
            .map(|(part, (name, scale, order))| {
                let name = format!("{path}.{name}");
                let scaled = |values: &[f32]| -> Vec<f32> {
                    let values = values.iter().map(|&x| (f64::from(x) * scale) as f32);
                    values.collect()
                };
                let weight = scaled(&weight[part * dim * dim..(part + 1) * dim * dim]);
                let bias = scaled(&bias[part * dim..(part + 1) * dim]);
                let y = e.products_and_bias(&name, (dim, dim), &weight, &bias, x);
                let heads = format!("{name}.heads");
                let y = e
                    .graph
                    .node("Reshape", &heads, &[&y, &self.by_head], vec![]);
                transpose(e, &format!("{name}.by_head"), order, &y)
            })
            .collect::<Vec<_>>()
            .try_into()
            // Invariant: as many as `parts`.
            .expect("three parts");
        let scores = e
            .graph
            .node("MatMul", &format!("{path}.scores"), &[&q, &k], vec![]);
        let axis = vec![AttributeProto::int("axis", -1)];
        let weights = e
            .graph
            .node("Softmax", &format!("{path}.weights"), &[&scores], axis);
        let mixed = e
            .graph
            .node("MatMul", &format!("{path}.mixed"), &[&weights, &v], vec![]);
        let mixed = transpose(e, &format!("{path}.by_token"), [0, 2, 1, 3], &mixed);
        let joined = format!("{path}.joined");
        let mixed = e
            .graph
            .node("Reshape", &joined, &[&mixed, &self.joined], vec![]);
        linear(e, &format!("{path}.proj"), (dim, dim), &mixed)
    }
}

/// The linear layer at `path` for each token: `[b, tokens, input]` to `[b, tokens, output]`.
fn linear(e: &mut Emitter<'_>, path: &str, widths: (usize, usize), x: &Value) -> Value {
    let (input, output) = widths;
    let weight = e.weights.take(&format!("{path}.weight"), &[output, input]);
    let bias = e.weights.take(&format!("{path}.bias"), &[output]);
    e.products_and_bias(path, widths, &weight, &bias, x)
}

/// `(x - mean) / sqrt(variance + 1e-6) * weight + bias` over the last axis, called `name`.
fn layer_norm(e: &mut Emitter<'_>, path: &str, name: &str, dim: usize, x: &Value) -> Value {
    let [weight, bias] = ["weight", "bias"].map(|part| {
        let name = format!("{path}.{part}");
        let values = e.weights.take(&name, &[dim]);
        e.graph.initializer(&name, &[dim], &values)
    });
    let attributes = vec![
        AttributeProto::int("axis", -1),
        AttributeProto::float("epsilon", LAYER_NORM_EPS),
    ];
    let inputs = [x, &weight, &bias];
    e.graph
        .node("LayerNormalization", name, &inputs, attributes)
}

/// `x (1 + erf(x / sqrt 2)) / 2`, in the form that runtimes recognise and fuse.
fn gelu(e: &mut Emitter<'_>, path: &str, x: &Value) -> Value {
    let y = e.with_number(
        "Div",
        &format!("{path}.scaled"),
        x,
        std::f32::consts::SQRT_2,
    );
    let y = e.graph.node("Erf", &format!("{path}.erf"), &[&y], vec![]);
    let y = e.with_number("Add", &format!("{path}.shifted"), &y, 1.0);
    let product = format!("{path}.product");
    let y = e.graph.node("Mul", &product, &[x, &y], vec![]);
    e.with_number("Mul", path, &y, 0.5)
}

fn transpose<const N: usize>(e: &mut Emitter<'_>, name: &str, order: [i64; N], x: &Value) -> Value {
    let order = vec![AttributeProto::ints("perm", order)];
    e.graph.node("Transpose", name, &[x], order)
}
