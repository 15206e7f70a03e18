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
            let planes = e.graph.cast("input.float", FLOAT, &planes);
            normalised(e, preprocess, &planes)
        }
        InputKind::Any => {
            let planes = planes(e, &image);
            let sizes = sizes(e, preprocess.resize, &image);
            let filter = preprocess.interpolation;
            let levels = Levels::new(e);
            let x = e.graph.cast("input.float", FLOAT, &planes);
            let x = resize(e, "input.half_resized", filter, &x, &sizes.first);
            let x = levels.of(e, "input.half_resized", &x);
            let x = resize(e, "input.resized", filter, &x, &sizes.second);
            let x = levels.of(e, "input.resized", &x);
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

/// Grey levels to `(level / 255 - mean) / std`, in the form in which [`Preprocess::apply`] computes it.
fn normalised(e: &mut Emitter<'_>, preprocess: &Preprocess, levels: &Value) -> Value {
    let channels = || preprocess.mean.iter().zip(&preprocess.std);
    let scale: Vec<f32> = channels().map(|(_, std)| (255.0 * std).recip()).collect();
    let offset: Vec<f32> = channels().map(|(mean, std)| -mean / std).collect();
    let shape = [1, 3, 1, 1];
    let scale = e.graph.initializer("input.scale", &shape, &scale);
    let offset = e.graph.initializer("input.offset", &shape, &offset);
    let x = e
        .graph
        .node("Mul", "input.scaled", &[levels, &scale], Vec::new());
    e.graph.node("Add", PREPARED, &[&x, &offset], Vec::new())
}

/// What an image is resized to, in two steps, of which each resizes one side.
///
/// Pillow resizes the width, rounds to bytes, and resizes the height; but it begins with the height where that loses
/// more than twice the pixels that the width loses, and so does [`Preprocess::apply`]. A cubic that overshoots shows
/// what was cut off between the two, and in which order. Engines resize in an order of their own and make bytes in
/// ways of their own (ONNX Runtime's is off by two for some, tract's rounds down), so each step is told which side
/// it is to resize, has floats, and is followed by [`Levels`].
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
    let half = half_resized(e, &given, &sides);
    // All four: of two, with `axes`, ONNX Runtime (1.31) loses the count while it infers shapes.
    let batch = axes_of(e, "input.batch", &shape, &[0]);
    let channels = e.graph.integers("input.channels", &[3]);
    let mut joined = |name: &str, sides: &[&Value]| {
        let inputs = [&[&batch, &channels][..], sides].concat();
        let first = vec![AttributeProto::int("axis", 0)];
        e.graph.node("Concat", name, &inputs, first)
    };
    Sizes {
        first: joined("input.half_resized.shape", &[&half[0], &half[1]]),
        second: joined("input.resized.shape", &[&sides]),
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
    // Round, which tract has not in 64 bits: above 2^52 there are whole numbers only.
    let whole = 2.0_f64.powi(52).to_le_bytes().to_vec();
    let whole = e.graph.store("input.whole", DOUBLE, vec![1], whole);
    let above = binary(e, "Add", "input.sides_above", &scaled, &whole);
    let rounded = binary(e, "Sub", "input.rounded_sides", &above, &whole);
    e.graph.cast("input.resized_sides", INT64, &rounded)
}

/// Height and width after the first step, each a list of one: with `lost` pixels of each side, the height comes
/// first where `lost_height > max(2 * lost_width, 0)`. Then it is the resized one and the width its own, and else the
/// other way round.
fn half_resized(e: &mut Emitter<'_>, given: &Value, resized: &Value) -> [Value; 2] {
    let [zero, one, two] = [("zero", 0), ("one", 1), ("two", 2)]
        .map(|(name, value)| e.graph.integers(&format!("input.{name}"), &[value]));
    let lost = binary(e, "Sub", "input.lost", given, resized);
    let height = axes_of(e, "input.lost_height", &lost, &[0]);
    let width = axes_of(e, "input.lost_width", &lost, &[1]);
    let twice = binary(e, "Mul", "input.twice_lost_width", &width, &two);
    let least = binary(e, "Max", "input.least_loss", &twice, &zero);
    let beyond = binary(e, "Sub", "input.loss_beyond", &height, &least);
    let beyond = binary(e, "Max", "input.loss_beyond.positive", &beyond, &zero);
    // 1 or 0.
    let applies = binary(e, "Min", "input.height_first", &beyond, &one);
    let lost = binary(
        e,
        "Mul",
        "input.half_resized.lost_height",
        &applies,
        &height,
    );
    let own = axes_of(e, "input.height", given, &[0]);
    let half_height = binary(e, "Sub", "input.half_resized.height", &own, &lost);
    let kept = binary(e, "Mul", "input.half_resized.kept_width", &applies, &width);
    let short = axes_of(e, "input.resized_width", resized, &[1]);
    let half_width = binary(e, "Add", "input.half_resized.width", &short, &kept);
    [half_height, half_width]
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

/// What makes grey levels of numbers.
struct Levels {
    half: Value,
    black: Value,
    white: Value,
}

impl Levels {
    fn new(e: &mut Emitter<'_>) -> Self {
        let mut constant = |name: &str, value: f32| e.graph.initializer(name, &[], &[value]);
        Self {
            half: constant("input.half", 0.5),
            black: constant("input.black", 0.0),
            white: constant("input.white", 255.0),
        }
    }

    /// `x` as whole numbers from 0 to 255, halves up, as Pillow makes bytes.
    fn of(&self, e: &mut Emitter<'_>, name: &str, x: &Value) -> Value {
        let step = |step: &str| format!("{name}.{step}");
        let x = binary(e, "Add", &step("raised"), x, &self.half);
        let x = e.graph.node("Floor", &step("whole"), &[&x], Vec::new());
        let inputs = [&x, &self.black, &self.white];
        e.graph.node("Clip", &step("levels"), &inputs, Vec::new())
    }
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
