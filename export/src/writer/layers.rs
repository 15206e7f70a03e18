//! One small emit per layer: reads the layer's weights, appends its nodes, gives its output.

use super::fold::Affine;
use super::graph::{Graph, Value};
use super::proto::AttributeProto;
use super::weights::Weights;
use half::f16;
use selfcls_core::metadata::WeightKind;

/// Slope of LeakyReLU below zero (PyTorch's default, used by the authors).
const LEAKY_SLOPE: f32 = 0.01;
/// Guard of the embedding's length (the authors' `F.normalize(..., eps=1e-7)`).
const UNIT_EPS: f32 = 1e-7;

/// Where layers are emitted to and their weights come from.
pub(super) struct Emitter<'a> {
    /// The graph so far.
    pub(super) graph: Graph,
    /// The weights, and what is wrong with them.
    pub(super) weights: Weights<'a>,
    /// Operator set.
    pub(super) opset: i64,
    /// How matrices and kernels are stored.
    pub(super) kind: WeightKind,
    /// Those that 16 bits cannot hold.
    pub(super) beyond_f16: Vec<String>,
}

/// A square convolution without bias, followed by batch normalisation.
pub(super) struct ConvBn<'a> {
    /// Path of the convolution, e.g. `backbone.layer1.0.conv1`.
    pub(super) conv: &'a str,
    /// Path of the normalisation.
    pub(super) norm: &'a str,
    /// Input channels.
    pub(super) input: usize,
    /// Output channels.
    pub(super) output: usize,
    /// Side of the kernel in pixels; padding keeps the size at stride 1.
    pub(super) kernel: usize,
    /// Step in both directions.
    pub(super) stride: usize,
    /// Parts of the channels that do not see each other.
    pub(super) groups: usize,
}

impl Emitter<'_> {
    /// Stores a matrix or kernel under `name`: what makes up a file's size.
    fn matrix(&mut self, name: &str, shape: &[usize], data: &[f32]) -> Value {
        match self.kind {
            WeightKind::F32 => self.graph.initializer(name, shape, data),
            WeightKind::F16 => {
                if data.iter().any(|&x| !f16::from_f32(x).is_finite()) {
                    self.beyond_f16.push(name.to_owned());
                }
                self.graph.halves(name, shape, data)
            }
        }
    }

    /// Convolution and batch normalisation as one `Conv`: `[b, input, h, w]` to `[b, output, h', w']`.
    pub(super) fn conv_bn(&mut self, layer: &ConvBn<'_>, x: &Value) -> Value {
        let ConvBn { conv, kernel, .. } = *layer;
        let shape = [layer.output, layer.input / layer.groups, kernel, kernel];
        let weight = self.weights.take(&format!("{conv}.weight"), &shape);
        let norm = Affine::batch_norm(&mut self.weights, layer.norm, layer.output);
        let (weight, bias) = norm.fold(&weight, None);
        let weight = self.matrix(&format!("{conv}.weight"), &shape, &weight);
        let bias = self
            .graph
            .initializer(&format!("{conv}.bias"), &[layer.output], &bias);
        let mut attributes = window(kernel, layer.stride, (kernel - 1) / 2);
        if layer.groups > 1 {
            attributes.push(AttributeProto::int("group", layer.groups as i64));
        }
        self.graph
            .node("Conv", conv, &[x, &weight, &bias], attributes)
    }

    /// The linear map at `path` of patches of `patch` pixels: `[b, 3, h, w]` to `[b, dim, h / patch, w / patch]`.
    pub(super) fn patches(&mut self, path: &str, (dim, patch): (usize, usize), x: &Value) -> Value {
        let name = format!("{path}.weight");
        let shape = [dim, 3, patch, patch];
        let weight = self.weights.take(&name, &shape);
        let weight = self.matrix(&name, &shape, &weight);
        let name = format!("{path}.bias");
        let bias = self.weights.take(&name, &[dim]);
        let bias = self.graph.initializer(&name, &[dim], &bias);
        let attributes = window(patch, patch, 0);
        self.graph
            .node("Conv", path, &[x, &weight, &bias], attributes)
    }

    /// The larger of the value and zero.
    pub(super) fn relu(&mut self, name: &str, x: &Value) -> Value {
        self.graph.node("Relu", name, &[x], Vec::new())
    }

    /// [`Self::relu`] with a small slope below zero.
    pub(super) fn leaky_relu(&mut self, name: &str, x: &Value) -> Value {
        let slope = AttributeProto::float("alpha", LEAKY_SLOPE);
        self.graph.node("LeakyRelu", name, &[x], vec![slope])
    }

    /// Sum of two values of one shape.
    pub(super) fn add(&mut self, name: &str, x: &Value, y: &Value) -> Value {
        self.graph.node("Add", name, &[x, y], Vec::new())
    }

    /// Largest value in each 3x3 window, stride 2, padding 1.
    pub(super) fn max_pool(&mut self, name: &str, x: &Value) -> Value {
        self.graph.node("MaxPool", name, &[x], window(3, 2, 1))
    }

    /// Mean over each channel's pixels, called `name`: `[b, c, h, w]` to `[b, c]`.
    pub(super) fn global_average(&mut self, path: &str, name: &str, x: &Value) -> Value {
        let pooled = self.graph.node("GlobalAveragePool", path, &[x], Vec::new());
        let axis = AttributeProto::int("axis", 1);
        self.graph.node("Flatten", name, &[&pooled], vec![axis])
    }

    /// Linear layer at `path`, with the batch normalisation at `norm` folded in: `[b, input]` to `[b, output]`.
    pub(super) fn linear(
        &mut self,
        path: &str,
        norm: Option<&str>,
        (input, output): (usize, usize),
        x: &Value,
    ) -> Value {
        let shape = [output, input];
        let mut weight = self.weights.take(&format!("{path}.weight"), &shape);
        let mut bias = self.weights.take(&format!("{path}.bias"), &[output]);
        if let Some(norm) = norm {
            let norm = Affine::batch_norm(&mut self.weights, norm, output);
            let (folded, shifted) = norm.fold(&weight, Some(&bias));
            (weight, bias) = (folded.into(), shifted.into());
        }
        let weight = self.matrix(&format!("{path}.weight"), &shape, &weight);
        let bias = self
            .graph
            .initializer(&format!("{path}.bias"), &[output], &bias);
        self.graph
            .node("Gemm", path, &[x, &weight, &bias], vec![transposed()])
    }

    /// Products with the rows of `weight` `[output, input]`: `[b, input]` to `[b, output]`.
    pub(super) fn products(
        &mut self,
        name: &str,
        weight_name: &str,
        (input, output): (usize, usize),
        weight: &[f32],
        x: &Value,
    ) -> Value {
        let weight = self.matrix(weight_name, &[output, input], weight);
        self.graph
            .node("Gemm", name, &[x, &weight], vec![transposed()])
    }

    /// Products with the rows of `weight` `[output, input]`, plus `bias`, for each token:
    /// `[b, tokens, input]` to `[b, tokens, output]`.
    pub(super) fn products_and_bias(
        &mut self,
        path: &str,
        (input, output): (usize, usize),
        weight: &[f32],
        bias: &[f32],
        x: &Value,
    ) -> Value {
        // MatMul has no flag for a transposed factor.
        let columns: Vec<f32> = (0..input)
            .flat_map(|i| (0..output).map(move |o| weight[o * input + i]))
            .collect();
        let weight = format!("{path}.weight");
        let weight = self.matrix(&weight, &[input, output], &columns);
        let products = format!("{path}.products");
        let x = self
            .graph
            .node("MatMul", &products, &[x, &weight], Vec::new());
        let bias = self
            .graph
            .initializer(&format!("{path}.bias"), &[output], bias);
        self.graph.node("Add", path, &[&x, &bias], Vec::new())
    }

    /// `op` of `x` and one number.
    pub(super) fn with_number(&mut self, op: &str, name: &str, x: &Value, number: f32) -> Value {
        let constant = format!("{name}.constant");
        let number = self.graph.initializer(&constant, &[], &[number]);
        self.graph.node(op, name, &[x, &number], Vec::new())
    }

    /// `x / max(|x|, 1e-7)` per row, called `name`.
    pub(super) fn unit_length(&mut self, name: &str, x: &Value) -> Value {
        let mut attributes = vec![AttributeProto::int("keepdims", 1)];
        let length = format!("{name}.length");
        let norm = if self.opset < 18 {
            attributes.insert(0, AttributeProto::ints("axes", [1]));
            self.graph.node("ReduceL2", &length, &[x], attributes)
        } else {
            let axes = self.graph.integers(&format!("{name}.axes"), &[1]);
            self.graph
                .node("ReduceL2", &length, &[x, &axes], attributes)
        };
        let least = self
            .graph
            .initializer(&format!("{name}.least_length"), &[], &[UNIT_EPS]);
        let guarded = self.graph.node(
            "Clip",
            &format!("{name}.guarded_length"),
            &[&norm, &least],
            Vec::new(),
        );
        self.graph.node("Div", name, &[x, &guarded], Vec::new())
    }

    /// Softmax over the classes at `temperature`, called `name`.
    pub(super) fn softmax(&mut self, name: &str, temperature: f32, x: &Value) -> Value {
        let temperature =
            self.graph
                .initializer(&format!("{name}.temperature"), &[], &[temperature]);
        let scaled = self.graph.node(
            "Div",
            &format!("{name}.scaled_logits"),
            &[x, &temperature],
            Vec::new(),
        );
        let axis = AttributeProto::int("axis", 1);
        self.graph.node("Softmax", name, &[&scaled], vec![axis])
    }
}

/// The weights are stored as PyTorch has them, `[output, input]`.
fn transposed() -> AttributeProto {
    AttributeProto::int("transB", 1)
}

/// Attributes of a square sliding window.
fn window(kernel: usize, stride: usize, pad: usize) -> Vec<AttributeProto> {
    let both = |n: usize| [n as i64; 2];
    vec![
        AttributeProto::ints("kernel_shape", both(kernel)),
        AttributeProto::ints("pads", [pad as i64; 4]),
        AttributeProto::ints("strides", both(stride)),
    ]
}
