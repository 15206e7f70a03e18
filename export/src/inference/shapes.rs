//! Follows the shapes through the network, so that an engine only ever sees a graph that fits together
//! and whose values are of a size that a machine can hold.
//!
//! The vocabulary is what [`crate::writer`] emits. A file with other operations is not one of ours, or is
//! from a later version.

use super::network::{Attribute, Network, Node, Refusal, Weight};
use super::token_shapes as tokens;
use std::collections::BTreeMap;

/// Most numbers in one value per image: 1 GiB of `f32`.
const MAX_VALUES: usize = 1 << 28;

/// A value's axes; the batch axis is not listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shape {
    /// Whether a batch axis comes first.
    pub(super) batched: bool,
    /// The other axes.
    pub(super) axes: Vec<usize>,
}

/// A value that is known so far.
enum Known {
    /// `f32` values.
    Floats(Shape),
    /// Whole numbers, with whether they are a list.
    Integers(Vec<i64>, bool),
}

/// Checks the whole graph, from `image` `[batch, 3, side, side]` to the outputs and their declared widths.
pub(super) fn check(network: &Network<'_>, side: usize) -> Result<(), Refusal> {
    let image = Shape {
        batched: true,
        axes: vec![3, side, side],
    };
    let weights = network.weights.iter().map(|(&name, weight)| {
        let weight = match weight {
            Weight::Floats(axes) => Known::Floats(Shape {
                batched: false,
                axes: axes.clone(),
            }),
            Weight::Integers { values, list } => Known::Integers(values.clone(), *list),
        };
        (name, weight)
    });
    let mut known: BTreeMap<&str, Known> = weights.collect();
    for input in &network.inputs {
        let image = Known::Floats(image.clone());
        if known.insert(input.name, image).is_some() {
            return Err(Refusal(format!(
                "`{}` is both an input and a weight",
                input.name
            )));
        }
    }
    for node in &network.nodes {
        let (output, shape) = infer(node, &known).map_err(|reason| {
            Refusal(format!("operation `{}` ({}): {reason}", node.name, node.op))
        })?;
        if known.insert(output, Known::Floats(shape)).is_some() {
            return Err(Refusal(format!("the value `{output}` is computed twice")));
        }
    }
    for value in network.outputs.iter().chain(&network.declared) {
        let declared: Option<Vec<usize>> = value.axes.iter().skip(1).copied().collect();
        let computed = match known.get(value.name) {
            Some(Known::Floats(shape)) if shape.batched => Some(&shape.axes),
            _ => None,
        };
        if computed.is_none() || declared.as_ref() != computed || value.axes.first() != Some(&None)
        {
            return Err(Refusal(format!(
                "the value `{}` is declared as {:?} but computed as [batch, {computed:?}]",
                value.name, value.axes
            )));
        }
    }
    Ok(())
}

pub(super) type Inferred<T> = Result<T, String>;

/// Name and shape of the node's one output.
fn infer<'a>(node: &Node<'a>, known: &BTreeMap<&str, Known>) -> Inferred<(&'a str, Shape)> {
    let &[output] = node.outputs.as_slice() else {
        return Err(format!("has {} outputs instead of one", node.outputs.len()));
    };
    // Whole numbers only ever say how the last input's axes are arranged.
    let mut integers = None;
    let mut inputs = Vec::new();
    for name in &node.inputs {
        match known.get(name) {
            None => return Err(format!("reads `{name}` before it is computed")),
            Some(_) if integers.is_some() => {
                return Err(format!("reads `{name}` after whole numbers"));
            }
            Some(Known::Floats(shape)) => inputs.push(shape),
            Some(Known::Integers(values, list)) => integers = Some((values.as_slice(), *list)),
        }
    }
    let Some((x, constants)) = inputs.split_first().filter(|(x, _)| x.batched) else {
        return Err("does not depend on the image".to_owned());
    };
    let settings = Settings(node);
    let axes = match (node.op, constants) {
        (op, []) if integers.is_some() => {
            let (values, list) = integers.unwrap_or_default();
            tokens::arranged(op, &settings, x, values, list)?
        }
        (_, _) if integers.is_some() => {
            return Err("reads whole numbers where it needs f32".to_owned());
        }
        ("Conv", [weight, bias]) => conv(&settings, x, weight, bias)?,
        ("MaxPool", []) => max_pool(&settings, x)?,
        ("GlobalAveragePool", []) => {
            settings.only(&[])?;
            let [channels, ..] = image_axes(x)?;
            vec![channels, 1, 1]
        }
        ("Flatten", []) => {
            settings.only(&["axis"])?;
            settings.int("axis", 1, &[1])?;
            vec![x.axes.iter().product()]
        }
        ("Relu", []) => {
            settings.only(&[])?;
            x.axes.clone()
        }
        ("LeakyRelu", []) => {
            settings.only(&["alpha"])?;
            x.axes.clone()
        }
        ("Add" | "Mul", [other]) => {
            settings.only(&[])?;
            tokens::elementwise(node.op, x, other)?
        }
        ("Erf", []) => {
            settings.only(&[])?;
            x.axes.clone()
        }
        ("MatMul", [other]) => {
            settings.only(&[])?;
            tokens::products(x, other)?
        }
        ("LayerNormalization", [weight, bias]) => {
            settings.only(&["axis", "epsilon"])?;
            settings.int("axis", -1, &[-1])?;
            tokens::layer_norm(x, weight, bias)?
        }
        ("Transpose", []) => {
            settings.only(&["perm"])?;
            tokens::transposed(x, settings.ints("perm")?)?
        }
        ("Gemm", [weight, rest @ ..]) => gemm(&settings, x, weight, rest)?,
        ("ReduceL2", []) => {
            settings.only(&["axes", "keepdims"])?;
            settings.int("keepdims", 1, &[1])?;
            if row(x)? == 0 || settings.ints("axes")? != Some(&[1]) {
                return Err("must reduce axis 1".to_owned());
            }
            vec![1]
        }
        ("Clip", [least]) => {
            settings.only(&[])?;
            scalar(least)?;
            x.axes.clone()
        }
        ("Div", [divisor]) => {
            settings.only(&[])?;
            let per_row = divisor.batched && divisor.axes == [1] && x.axes.len() == 1;
            if !per_row {
                scalar(divisor)?;
            }
            x.axes.clone()
        }
        ("Softmax", []) => {
            settings.only(&["axis"])?;
            // Over the last axis, counted either way.
            settings.int("axis", -1, &[-1, x.axes.len() as i64])?;
            x.axes.clone()
        }
        (op, constants) => {
            return Err(format!(
                "`{op}` with {} inputs is not part of a classifier written by this version; update selfcls if the file is newer",
                constants.len() + 1
            ));
        }
    };
    let values = axes.iter().try_fold(1usize, |all, &n| all.checked_mul(n));
    if values.is_none_or(|n| n > MAX_VALUES) {
        return Err(format!(
            "makes a value of {axes:?}, more than {MAX_VALUES} numbers per image"
        ));
    }
    Ok((
        output,
        Shape {
            batched: true,
            axes,
        },
    ))
}

fn conv(
    settings: &Settings<'_, '_>,
    x: &Shape,
    weight: &Shape,
    bias: &Shape,
) -> Inferred<Vec<usize>> {
    settings.only(&["kernel_shape", "pads", "strides", "group"])?;
    let [channels, height, width] = image_axes(x)?;
    let groups = settings.groups()?;
    let &[output, input, kernel_h, kernel_w] = weight.axes.as_slice() else {
        return Err(format!("has a kernel of shape {:?}", weight.axes));
    };
    let fits = input.checked_mul(groups) == Some(channels) && output.is_multiple_of(groups);
    if weight.batched || bias.batched || !fits || bias.axes != [output] {
        return Err(format!(
            "has kernel {:?} and bias {:?} for {channels} channels in {groups} groups",
            weight.axes, bias.axes
        ));
    }
    let kernel = [kernel_h, kernel_w];
    let [height, width] = settings.window([height, width], kernel)?;
    Ok(vec![output, height, width])
}

fn max_pool(settings: &Settings<'_, '_>, x: &Shape) -> Inferred<Vec<usize>> {
    settings.only(&["kernel_shape", "pads", "strides"])?;
    let [channels, height, width] = image_axes(x)?;
    let Some(&[kernel_h, kernel_w]) = settings.ints("kernel_shape")? else {
        return Err("has no two-dimensional window".to_owned());
    };
    let kernel = [length(kernel_h)?, length(kernel_w)?];
    let [height, width] = settings.window([height, width], kernel)?;
    Ok(vec![channels, height, width])
}

fn gemm(
    settings: &Settings<'_, '_>,
    x: &Shape,
    weight: &Shape,
    rest: &[&Shape],
) -> Inferred<Vec<usize>> {
    settings.only(&["transB"])?;
    settings.int("transB", 0, &[1])?;
    let input = row(x)?;
    let fits = match (weight.axes.as_slice(), rest) {
        (&[_, width], []) => width == input,
        (&[output, width], [bias]) => width == input && !bias.batched && bias.axes == [output],
        _ => false,
    };
    if weight.batched || !fits {
        return Err(format!(
            "has a matrix of shape {:?} for {input} numbers",
            weight.axes
        ));
    }
    Ok(vec![weight.axes[0]])
}

fn image_axes(x: &Shape) -> Inferred<[usize; 3]> {
    let axes = x.axes.as_slice();
    axes.try_into()
        .map_err(|_| format!("expects [batch, channels, height, width], not [batch, {axes:?}]"))
}

fn row(x: &Shape) -> Inferred<usize> {
    match x.axes.as_slice() {
        &[width] => Ok(width),
        axes => Err(format!("expects [batch, width], not [batch, {axes:?}]")),
    }
}

fn scalar(x: &Shape) -> Inferred<()> {
    if x.batched || !x.axes.is_empty() {
        return Err("expects a single number".to_owned());
    }
    Ok(())
}

pub(super) fn length(n: i64) -> Inferred<usize> {
    usize::try_from(n)
        .ok()
        .filter(|n| (1..=1 << 16).contains(n))
        .ok_or(format!("has the impossible length {n}"))
}

/// Typed access to a node's attributes.
pub(super) struct Settings<'n, 'a>(&'n Node<'a>);

impl Settings<'_, '_> {
    /// Refuses settings that are not among `names`.
    pub(super) fn only(&self, names: &[&str]) -> Inferred<()> {
        match self.0.attributes.keys().find(|name| !names.contains(name)) {
            Some(name) => Err(format!("has the setting `{name}`, which is not supported")),
            None => Ok(()),
        }
    }

    /// Refuses an integer setting that is not one of `allowed`.
    pub(super) fn int(&self, name: &str, default: i64, allowed: &[i64]) -> Inferred<()> {
        let value = match self.0.attributes.get(name) {
            None => default,
            Some(Attribute::Int(value)) => *value,
            Some(other) => return Err(format!("has `{name}` = {other:?}")),
        };
        if allowed.contains(&value) {
            Ok(())
        } else {
            Err(format!(
                "has `{name}` = {value}, expected one of {allowed:?}"
            ))
        }
    }

    /// The number of groups of a convolution.
    fn groups(&self) -> Inferred<usize> {
        match self.0.attributes.get("group") {
            None => Ok(1),
            Some(&Attribute::Int(groups)) => length(groups),
            Some(other) => Err(format!("has `group` = {other:?}")),
        }
    }

    fn ints(&self, name: &str) -> Inferred<Option<&[i64]>> {
        match self.0.attributes.get(name) {
            None => Ok(None),
            Some(Attribute::Ints(values)) => Ok(Some(values)),
            Some(other) => Err(format!("has `{name}` = {other:?}")),
        }
    }

    /// Height and width after a sliding window of `kernel` over `size`.
    fn window(&self, size: [usize; 2], kernel: [usize; 2]) -> Inferred<[usize; 2]> {
        let declared = self.ints("kernel_shape")?;
        if declared.is_some_and(|d| d != kernel.map(|k| k as i64)) {
            return Err(format!(
                "declares the window {declared:?} but has {kernel:?}"
            ));
        }
        let strides = self.ints("strides")?.unwrap_or(&[1, 1]);
        let pads = self.ints("pads")?.unwrap_or(&[0; 4]);
        let (&[stride_h, stride_w], &[top, left, bottom, right]) = (strides, pads) else {
            return Err(format!("has strides {strides:?} and pads {pads:?}"));
        };
        let mut result = [0; 2];
        let both = [(stride_h, top, bottom), (stride_w, left, right)];
        for (axis, (stride, before, after)) in both.into_iter().enumerate() {
            // Padding as wide as the window would make outputs that see no input.
            let limit = kernel[axis] as i64;
            if !(0..limit).contains(&before) || !(0..limit).contains(&after) {
                return Err(format!("has pads {pads:?} for the window {kernel:?}"));
            }
            let padded = size[axis] + (before + after) as usize;
            let steps = padded
                .checked_sub(kernel[axis])
                .ok_or(format!("slides {kernel:?} over {size:?}, which is smaller"))?;
            result[axis] = steps / length(stride)? + 1;
        }
        Ok(result)
    }
}
