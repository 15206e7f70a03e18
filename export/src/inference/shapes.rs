//! Follows the shapes through the network, so that an engine only ever sees a graph that fits together
//! and whose values are of a size that a machine can hold.
//!
//! The vocabulary is what [`crate::writer`] emits. A file with other operations is not one of ours, or is
//! from a later version.

use super::arithmetic;
use super::image_shapes as images;
use super::network::{FLOAT, Network, Node, Refusal, Weight};
use super::pixel_shapes;
use super::quantised_shapes::{self as quantised, Made, Operand};
use super::settings::{Inferred, Settings};
use super::together::Together;
use super::token_shapes as tokens;
use selfcls_core::metadata::InputKind;
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

impl Shape {
    pub(super) fn new(batched: bool, axes: &[usize]) -> Self {
        let axes = axes.to_vec();
        Self { batched, axes }
    }

    /// How many numbers it has, for each image.
    fn count(&self) -> usize {
        let axes = self.axes.iter();
        axes.fold(1, |all: usize, &n| all.saturating_mul(n))
    }
}

impl Known {
    /// Of all but 16-bit constants and lists of whole numbers.
    fn shape(&self) -> Option<&Shape> {
        match self {
            Self::Floats(shape) | Self::Bytes(shape) | Self::Quantised(_, shape) => Some(shape),
            Self::Halves(_) | Self::Integers(..) => None,
        }
    }

    fn is_batched(&self) -> bool {
        self.shape().is_some_and(|shape| shape.batched)
    }
}

/// A value that is known so far.
enum Known {
    /// `f32` values.
    Floats(Shape),
    /// `u8` values.
    Bytes(Shape),
    /// Constant `f16` values, which become `f32` before they are used.
    Halves(Vec<usize>),
    /// Whole numbers, with whether they are a list.
    Integers(Vec<i64>, bool),
    /// Whole numbers that stand for `f32` values, with their kind.
    Quantised(u64, Shape),
}

/// What a file is checked for.
pub(super) struct Expected {
    /// What it takes.
    pub(super) kind: InputKind,
    /// Side of its images in pixels.
    pub(super) side: usize,
    /// The length of the first axis of inputs and outputs, if that is fixed.
    pub(super) batch: Option<usize>,
    /// Most numbers that a run may have in memory at a time.
    pub(super) limit: usize,
    /// Most [`arithmetic::operations`] for each image.
    pub(super) operations: u64,
}

/// Checks the whole graph, from the image to the outputs and their declared widths. Gives the most numbers that a run
/// has in memory at a time, for each image.
pub(super) fn check(network: &Network<'_>, expected: &Expected) -> Result<usize, Refusal> {
    let &Expected {
        kind,
        side,
        batch,
        limit,
        operations: most_operations,
    } = expected;
    let weights = network.weights.iter().filter_map(|(&name, weight)| {
        let weight = match weight {
            Weight::Floats(axes) => Known::Floats(constant(axes)),
            Weight::Halves(axes) => Known::Halves(axes.clone()),
            Weight::Integers { values, list } => Known::Integers(values.clone(), *list),
            Weight::Quantised { kind, shape } => Known::Quantised(*kind, constant(shape)),
            // Files with such are checked by their engine alone.
            Weight::Unknown => return None,
        };
        Some((name, weight))
    });
    let mut known: BTreeMap<&str, Known> = weights.collect();
    let mut nodes = network.nodes.as_slice();
    for input in &network.inputs {
        let (name, image) = match kind {
            InputKind::Float => (input.name, Known::Floats(batched(&[3, side, side]))),
            InputKind::Uint8 => (input.name, Known::Bytes(batched(&[side, side, 3]))),
            InputKind::Any => {
                let (resize, rest) = pixel_shapes::split(nodes)?;
                pixel_shapes::check(resize, network)?;
                nodes = rest;
                (pixel_shapes::END, Known::Floats(batched(&[3, side, side])))
            }
        };
        if known.insert(name, image).is_some() {
            return Err(Refusal::new(format!(
                "`{name}` is both an input and a weight"
            )));
        }
    }
    let reads = nodes.iter().map(|node| node.inputs.as_slice());
    let outputs = network.outputs.iter().map(|output| output.name);
    let mut together = Together::new(reads, outputs);
    together.begin(3 * side * side);
    let most_constants = most_constants(network);
    let mut constants = 0usize;
    let mut operations = 0u64;
    for (position, node) in nodes.iter().enumerate() {
        let refuse = |reason: String| {
            Refusal::new(format!("operation `{}` ({}): {reason}", node.name, node.op))
        };
        let (output, value) = computed(node, &known).map_err(refuse)?;
        if let Some(shape) = value.shape() {
            let read = node.inputs.iter().filter_map(|name| known.get(name));
            let read: Vec<&Shape> = read.filter_map(Known::shape).collect();
            operations = operations.saturating_add(arithmetic::operations(node, &read, shape));
        }
        let images = batch.map_or(1, |batch| (batch as u64).div_ceil(arithmetic::IMAGES));
        if operations.saturating_mul(images) > most_operations {
            return Err(refuse(format!(
                "with it {operations} multiplications are needed for each image, and {} is the most{}; raise `max_operations` if that is meant",
                most_operations / images,
                batch.map_or(String::new(), |batch| format!(
                    " in a fixed batch of {batch}"
                ))
            ))
            .unless("max_operations"));
        }
        match value.shape() {
            Some(shape) if shape.batched => {
                let read = node.inputs.iter().copied();
                let read: Vec<&str> = read
                    .filter(|name| known.get(name).is_some_and(Known::is_batched))
                    .collect();
                together.step(position, &read, shape.count(), working(node, shape, &known));
            }
            // Engines compute all of them when they load the file, and keep them.
            shape => constants = constants.saturating_add(shape.map_or(0, Shape::count)),
        }
        if together.most().saturating_mul(batch.unwrap_or(1)) > limit {
            return Err(refuse(format!(
                "with the values that an engine may have in memory at the same time there are more than {limit} numbers in a run; {}",
                match batch {
                    Some(batch) => format!(
                        "export it with a batch of less than {batch}, or raise `max_run_bytes`"
                    ),
                    None => "raise `max_run_bytes` if that is meant".to_owned(),
                }
            ))
            .unless("max_run_bytes"));
        }
        if constants > most_constants {
            return Err(refuse(
                "its weights are converted again and again".to_owned(),
            ));
        }
        if known.insert(output, value).is_some() {
            return Err(Refusal::new(format!(
                "the value `{output}` is computed twice"
            )));
        }
    }
    let inside = |name: &str| kind == InputKind::Any && pixel_shapes::is_part(name);
    // A tool that fuses operations may leave what it knew of values that there are no more.
    let there = |name: &str| known.contains_key(name) && !inside(name);
    let declared = network.declared.iter().filter(|value| there(value.name));
    for value in network.outputs.iter().chain(declared) {
        let (kind, computed) = match known.get(value.name) {
            Some(Known::Floats(shape)) if shape.batched => (FLOAT, Some(shape.axes.as_slice())),
            Some(Known::Quantised(kind, shape)) if shape.batched => {
                (*kind, Some(shape.axes.as_slice()))
            }
            _ => (FLOAT, None),
        };
        let fits = computed.is_some_and(|computed| agrees(&value.axes, batch, computed));
        if !fits || value.kind != kind {
            return Err(Refusal::new(format!(
                "the value `{}` is declared as {:?} but computed as [batch, {computed:?}]",
                value.name, value.axes
            )));
        }
    }
    Ok(together.most())
}

/// Most numbers that may be computed of the weights alone: each is converted once, to `f32`.
fn most_constants(network: &Network<'_>) -> usize {
    let numbers = network.weights.values().map(|weight| match weight {
        Weight::Floats(axes) | Weight::Halves(axes) | Weight::Quantised { shape: axes, .. } => {
            axes.iter().product()
        }
        Weight::Integers { values, .. } => values.len(),
        Weight::Unknown => 1,
    });
    numbers.fold(0, usize::saturating_add)
}

/// Numbers that an engine may lay out for itself while it computes a convolution: for each result pixel all that its
/// window sees.
fn working(node: &Node<'_>, result: &Shape, known: &BTreeMap<&str, Known>) -> usize {
    let kernel = node.inputs.get(1).and_then(|name| known.get(name));
    match (
        node.op,
        kernel.and_then(Known::shape),
        result.axes.as_slice(),
    ) {
        ("Conv", Some(kernel), &[_, height, width]) => {
            // Of the input's channels the kernel has those of one group.
            let groups = Settings(node).groups().unwrap_or(1);
            let seen = kernel.axes.iter().skip(1).chain([&groups, &height, &width]);
            seen.fold(1, |all: usize, &n| all.saturating_mul(n))
        }
        _ => 0,
    }
}

/// Whether declared axes are a batch of `computed` ones. A free axis may have any length.
fn agrees(declared: &[Option<usize>], batch: Option<usize>, computed: &[usize]) -> bool {
    let Some((first, axes)) = declared.split_first() else {
        return false;
    };
    let mut pairs = axes.iter().zip(computed);
    *first == batch
        && axes.len() == computed.len()
        && pairs.all(|(declared, computed)| declared.is_none_or(|n| n == *computed))
}

fn batched(axes: &[usize]) -> Shape {
    Shape::new(true, axes)
}

fn constant(axes: &[usize]) -> Shape {
    Shape::new(false, axes)
}

/// Name and content of the node's one output.
fn computed<'a>(node: &Node<'a>, known: &BTreeMap<&str, Known>) -> Inferred<(&'a str, Known)> {
    if matches!(node.op, "QuantizeLinear" | "DequantizeLinear") {
        return linear(node, known);
    }
    if let Some(found) = bytes(node, known)? {
        return Ok(found);
    }
    let (output, shape) = infer(node, known)?;
    Ok((output, Known::Floats(shape)))
}

/// Name and shape of the one output where its values are floats.
fn infer<'a>(node: &Node<'a>, known: &BTreeMap<&str, Known>) -> Inferred<(&'a str, Shape)> {
    let output = output(node)?;
    if node.op == "Cast" {
        return Ok((output, cast(node, known)?));
    }
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
            Some(Known::Bytes(_) | Known::Halves(_) | Known::Quantised(..)) => {
                return Err(format!("reads `{name}`, which is not of 32-bit floats"));
            }
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
        ("Conv", [weight, bias]) => images::conv(&settings, x, weight, bias)?,
        ("MaxPool", []) => images::max_pool(&settings, x)?,
        ("GlobalAveragePool", []) => images::average(&settings, x)?,
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

fn output<'a>(node: &Node<'a>) -> Inferred<&'a str> {
    match node.outputs.as_slice() {
        &[output] => Ok(output),
        outputs => Err(format!("has {} outputs instead of one", outputs.len())),
    }
}

/// Floats that become whole numbers, or whole numbers that become floats.
fn linear<'a>(node: &Node<'a>, known: &BTreeMap<&str, Known>) -> Inferred<(&'a str, Known)> {
    let inputs = node.inputs.iter().map(|name| match known.get(name) {
        Some(Known::Floats(shape)) => Ok(Operand::Floats(shape)),
        Some(Known::Quantised(kind, shape)) => Ok(Operand::Whole(*kind, shape)),
        Some(_) => Err(format!("reads `{name}`, which is of another kind")),
        None => Err(format!("reads `{name}` before it is computed")),
    });
    let inputs: Vec<Operand<'_>> = inputs.collect::<Inferred<_>>()?;
    let made = match quantised::linear(node.op, &Settings(node), &inputs)? {
        Made::Floats(shape) => Known::Floats(shape),
        Made::Whole(kind, shape) => Known::Quantised(kind, shape),
    };
    Ok((output(node)?, made))
}

/// Name and shape of the node's output where it arranges the image's bytes anew, which is all that is done to
/// bytes.
fn bytes<'a>(node: &Node<'a>, known: &BTreeMap<&str, Known>) -> Inferred<Option<(&'a str, Known)>> {
    let (&[input], &[output]) = (node.inputs.as_slice(), node.outputs.as_slice()) else {
        return Ok(None);
    };
    let (Some(Known::Bytes(image)), "Transpose") = (known.get(input), node.op) else {
        return Ok(None);
    };
    let settings = Settings(node);
    settings.only(&["perm"])?;
    let axes = tokens::transposed(image, settings.ints("perm")?)?;
    Ok(Some((output, Known::Bytes(batched(&axes)))))
}

/// Bytes of the image, or constants in 16 bits, as `f32`.
fn cast(node: &Node<'_>, known: &BTreeMap<&str, Known>) -> Inferred<Shape> {
    let settings = Settings(node);
    settings.only(&["to"])?;
    settings.int("to", 0, &[FLOAT as i64])?;
    let &[input] = node.inputs.as_slice() else {
        return Err(format!("has {} inputs instead of one", node.inputs.len()));
    };
    match known.get(input) {
        Some(Known::Bytes(shape)) => Ok(shape.clone()),
        Some(Known::Halves(axes)) => Ok(constant(axes)),
        _ => Err(format!(
            "reads `{input}`, which is neither the image nor a weight of 16 bits"
        )),
    }
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
