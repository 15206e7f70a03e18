//! From what `image` takes to the normalised planes that the backbone wants: whatever part of the
//! preprocessing the file does itself.

use super::graph::{Axis, Border, Value};
use super::layers::Emitter;
use super::proto::{AttributeProto, DOUBLE, FLOAT, INT64, UINT8};
use crate::names;
use selfcls_core::config::Interpolation;
use selfcls_core::metadata::InputKind;
use selfcls_core::preprocess::Preprocess;

/// The name of the value that the backbone reads, where the file makes it.
pub(super) const PREPARED: &str = "input";

/// The file's input. `free` is whether images may be of other sizes than `crop`.
pub(super) fn border(kind: InputKind, batch: Axis, crop: usize, free: bool) -> Border {
    let [height, width] = if free || kind == InputKind::Any {
        [Axis::Free("height"), Axis::Free("width")]
    } else {
        [Axis::Of(crop); 2]
    };
    let (kind, axes) = match kind {
        InputKind::Float => (FLOAT, vec![batch, Axis::Of(3), height, width]),
        InputKind::Uint8 | InputKind::Any => (UINT8, vec![batch, height, width, Axis::Of(3)]),
    };
    Border {
        name: names::IMAGE.to_owned(),
        kind,
        axes,
    }
}

/// `image` to what the backbone reads, `f32 [batch, 3, height, width]`.
pub(super) fn emit(e: &mut Emitter<'_>, kind: InputKind, preprocess: &Preprocess) -> Value {
    let image = Value::named(names::IMAGE);
    match kind {
        InputKind::Float => image,
        InputKind::Uint8 => {
            let planes = planes(e, &image);
            normalised(e, preprocess, &planes)
        }
        InputKind::Any => {
            let planes = planes(e, &image);
            let sizes = sizes(e, preprocess.resize, &image);
            let filter = preprocess.interpolation;
            let x = resize(e, "input.height_resized", filter, &planes, &sizes.first);
            let x = resize(e, "input.resized", filter, &x, &sizes.second);
            let cropped = crop(e, preprocess.crop, &x, &sizes.sides);
            normalised(e, preprocess, &cropped)
        }
    }
}

/// `[batch, height, width, 3]` to `[batch, 3, height, width]`, still bytes.
fn planes(e: &mut Emitter<'_>, image: &Value) -> Value {
    let order = vec![AttributeProto::ints("perm", [0, 3, 1, 2])];
    e.graph.node("Transpose", "input.planes", &[image], order)
}

/// Bytes to `(byte / 255 - mean) / std`, in the form in which [`Preprocess::apply`] computes it.
fn normalised(e: &mut Emitter<'_>, preprocess: &Preprocess, bytes: &Value) -> Value {
    let x = e.graph.cast("input.float", FLOAT, bytes);
    let channels = || preprocess.mean.iter().zip(&preprocess.std);
    let scale: Vec<f32> = channels().map(|(_, std)| (255.0 * std).recip()).collect();
    let offset: Vec<f32> = channels().map(|(mean, std)| -mean / std).collect();
    let shape = [1, 3, 1, 1];
    let scale = e.graph.initializer("input.scale", &shape, &scale);
    let offset = e.graph.initializer("input.offset", &shape, &offset);
    let x = e
        .graph
        .node("Mul", "input.scaled", &[&x, &scale], Vec::new());
    e.graph.node("Add", PREPARED, &[&x, &offset], Vec::new())
}

/// What an image is resized to, in two steps.
///
/// Engines resize the width first. Pillow begins with the height where that loses more than twice the pixels
/// that the width loses, and so does [`Preprocess::apply`]; since each pass is rounded and cut to bytes, a
/// cubic that overshoots shows the difference. So the first step resizes the height of such images, and
/// leaves all others as they are.
struct Sizes {
    /// After the first step, `[batch, 3, height, width]`.
    first: Value,
    /// After the second, `[batch, 3, height, width]`.
    second: Value,
    /// The last two of these.
    sides: Value,
}

/// The sizes on the way to an image with the short side `short`.
fn sizes(e: &mut Emitter<'_>, short: usize, image: &Value) -> Sizes {
    let shape = e.graph.node("Shape", "input.shape", &[image], Vec::new());
    let given = axes_of(e, "input.sides", &shape, &[1, 2]);
    let sides = resized_sides(e, short, &given);
    let height = first_height(e, &shape, &given, &sides);
    let width = axes_of(e, "input.width", &shape, &[2]);
    // All four: of two, with `axes`, ONNX Runtime (1.31) loses the count while it infers shapes.
    let batch = axes_of(e, "input.batch", &shape, &[0]);
    let channels = e.graph.integers("input.channels", &[3]);
    let mut joined = |name: &str, sides: &[&Value]| {
        let inputs = [&[&batch, &channels][..], sides].concat();
        let first = vec![AttributeProto::int("axis", 0)];
        e.graph.node("Concat", name, &inputs, first)
    };
    Sizes {
        first: joined("input.first_shape", &[&height, &width]),
        second: joined("input.second_shape", &[&sides]),
        sides,
    }
}

/// Height and width with the short side `short`, as [`Preprocess::apply`] has them: in 64 bits, rounded
/// to the nearest pixel, halves to even.
fn resized_sides(e: &mut Emitter<'_>, short: usize, sides: &Value) -> Value {
    let sides = e.graph.cast("input.sides.double", DOUBLE, sides);
    let keep = vec![AttributeProto::int("keepdims", 1)];
    let own_short = e
        .graph
        .node("ReduceMin", "input.short_side", &[&sides], keep);
    let bytes = (short as f64).to_le_bytes().to_vec();
    let short = e.graph.store("input.resize", DOUBLE, vec![1], bytes);
    let factor = binary(e, "Div", "input.factor", &short, &own_short);
    let scaled = binary(e, "Mul", "input.scaled_sides", &sides, &factor);
    let rounded = e
        .graph
        .node("Round", "input.rounded_sides", &[&scaled], Vec::new());
    e.graph.cast("input.resized_sides", INT64, &rounded)
}

/// The resized height where it comes first, else the image's own: with `lost` pixels of each side,
/// `height - lost_height * clamp(lost_height - max(2 * lost_width, 0), 0, 1)`.
fn first_height(e: &mut Emitter<'_>, shape: &Value, given: &Value, resized: &Value) -> Value {
    let [zero, one, two] = [("zero", 0), ("one", 1), ("two", 2)]
        .map(|(name, value)| e.graph.integers(&format!("input.{name}"), &[value]));
    let lost = binary(e, "Sub", "input.lost", given, resized);
    let height = axes_of(e, "input.lost_height", &lost, &[0]);
    let width = axes_of(e, "input.lost_width", &lost, &[1]);
    let twice = binary(e, "Mul", "input.twice_lost_width", &width, &two);
    let least = binary(e, "Max", "input.least_loss", &twice, &zero);
    let beyond = binary(e, "Sub", "input.loss_beyond", &height, &least);
    let beyond = binary(e, "Max", "input.loss_beyond.positive", &beyond, &zero);
    let applies = binary(e, "Min", "input.height_first", &beyond, &one);
    let lost = binary(e, "Mul", "input.lost_first", &applies, &height);
    let own = axes_of(e, "input.height", shape, &[1]);
    binary(e, "Sub", "input.first_height", &own, &lost)
}

fn binary(e: &mut Emitter<'_>, op: &str, name: &str, a: &Value, b: &Value) -> Value {
    e.graph.node(op, name, &[a, b], Vec::new())
}

/// Some lengths of a shape.
fn axes_of(e: &mut Emitter<'_>, name: &str, shape: &Value, axes: &[i64]) -> Value {
    let axes = e.graph.integers(&format!("{name}.axes"), axes);
    let first = vec![AttributeProto::int("axis", 0)];
    e.graph.node("Gather", name, &[shape, &axes], first)
}

/// Pillow's resize, antialiased: pixels beyond the border have no part in it, and the cubic is Keys' with -0.5.
fn resize(
    e: &mut Emitter<'_>,
    name: &str,
    filter: Interpolation,
    planes: &Value,
    sizes: &Value,
) -> Value {
    let mut attributes = vec![
        AttributeProto::int("antialias", 1),
        AttributeProto::text("coordinate_transformation_mode", "half_pixel"),
        AttributeProto::int("exclude_outside", 1),
    ];
    match filter {
        Interpolation::Bilinear => attributes.push(AttributeProto::text("mode", "linear")),
        Interpolation::Bicubic => {
            attributes.insert(2, AttributeProto::float("cubic_coeff_a", -0.5));
            attributes.push(AttributeProto::text("mode", "cubic"));
        }
    }
    let none = Value::absent();
    let inputs = [planes, &none, &none, sizes];
    e.graph.node("Resize", name, &inputs, attributes)
}

/// The square of `side` pixels in the middle, its margin above and to the left rounded down.
fn crop(e: &mut Emitter<'_>, side: usize, planes: &Value, sides: &Value) -> Value {
    let length = e.graph.integers("input.crop", &[side as i64]);
    let margin = binary(e, "Sub", "input.margin", sides, &length);
    let two = Value::named("input.two");
    let start = binary(e, "Div", "input.start", &margin, &two);
    let end = binary(e, "Add", "input.end", &start, &length);
    let axes = e.graph.integers("input.axes", &[2, 3]);
    let inputs = [planes, &start, &end, &axes];
    let cropped = e.graph.node("Slice", "input.cropped", &inputs, Vec::new());
    // What a person sees in the sizes, engines are told: they plan with known shapes.
    let side = side as i64;
    let shape = e.graph.integers("input.square.shape", &[0, 3, side, side]);
    e.graph
        .node("Reshape", "input.square", &[&cropped, &shape], Vec::new())
}
