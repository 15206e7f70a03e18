//! Shapes of the two operations that a quantised file has beside the others: floats to whole numbers and back.
//!
//! onnxruntime's tools write such files (the form called QDQ): each value that the network computes in 8 bits is
//! rounded by `QuantizeLinear` and read again by `DequantizeLinear`, and weights are whole numbers that
//! `DequantizeLinear` reads. What lies between is the network as our writer wrote it.

use super::network::INT32;
use super::settings::{Inferred, Settings};
use super::shapes::Shape;

/// An input of one of them.
pub(super) enum Operand<'k> {
    Floats(&'k Shape),
    /// With the kind of number.
    Whole(u64, &'k Shape),
}

/// What one of them makes of its first input, which keeps its shape.
#[derive(Debug, PartialEq)]
pub(super) enum Made {
    Floats(Shape),
    /// With the kind of number.
    Whole(u64, Shape),
}

/// The value that `op` makes of `inputs`: the numbers, their scale, and the number that stands for 0.
pub(super) fn linear(
    op: &str,
    settings: &Settings<'_, '_>,
    inputs: &[Operand<'_>],
) -> Inferred<Made> {
    use Operand::{Floats, Whole};
    settings.only(&["axis"])?;
    let fits = |x: &Shape, others: &[&Shape]| {
        others
            .iter()
            .try_for_each(|other| scales(settings, x, other))
    };
    match (op, inputs) {
        ("QuantizeLinear", [Floats(x), Floats(scale), Whole(kind, zero)]) if *kind != INT32 => {
            fits(x, &[scale, zero])?;
            Ok(Made::Whole(*kind, (*x).clone()))
        }
        ("DequantizeLinear", [Whole(_, x), Floats(scale)]) => {
            fits(x, &[scale])?;
            Ok(Made::Floats((*x).clone()))
        }
        ("DequantizeLinear", [Whole(kind, x), Floats(scale), Whole(also, zero)])
            if kind == also =>
        {
            fits(x, &[scale, zero])?;
            Ok(Made::Floats((*x).clone()))
        }
        _ => Err("does not go between 32-bit floats and whole numbers of one kind".to_owned()),
    }
}

/// Whether `other` has one number for all of `x`, or one for each place along the axis that the settings name.
fn scales(settings: &Settings<'_, '_>, x: &Shape, other: &Shape) -> Inferred<()> {
    let refused = || {
        Err(format!(
            "has scales of shape {:?} for {:?}",
            other.axes, x.axes
        ))
    };
    if other.batched {
        return refused();
    }
    let count = match other.axes.as_slice() {
        // A list of one is for all, as in ONNX Runtime.
        [] | [1] => return Ok(()),
        &[count] => count,
        _ => return refused(),
    };
    let rank = x.axes.len() + usize::from(x.batched);
    let axis = settings.integer("axis", 1)?;
    let axis = if axis < 0 { axis + rank as i64 } else { axis };
    // No scale goes along the batch, whose length is not known.
    let axis = usize::try_from(axis)
        .ok()
        .and_then(|axis| axis.checked_sub(usize::from(x.batched)));
    match axis.and_then(|axis| x.axes.get(axis)) {
        Some(&length) if length == count => Ok(()),
        _ => refused(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::network::{Attribute, INT8, Node, UINT8};
    use super::*;

    fn made(op: &'static str, axis: Option<i64>, inputs: &[Operand<'_>]) -> Inferred<Made> {
        let mut node = Node::default();
        if let Some(axis) = axis {
            node.attributes.insert("axis", Attribute::Int(axis));
        }
        linear(op, &Settings(&node), inputs)
    }

    #[test]
    fn numbers_keep_their_shape_and_scales_must_fit() {
        use Operand::{Floats, Whole};
        let (x, one) = (Shape::new(true, &[6, 5, 5]), Shape::new(false, &[]));
        let (kernel, six) = (Shape::new(false, &[6, 3, 1, 1]), Shape::new(false, &[6]));
        let rounded = made(
            "QuantizeLinear",
            None,
            &[Floats(&x), Floats(&one), Whole(UINT8, &one)],
        );
        assert_eq!(rounded, Ok(Made::Whole(UINT8, x.clone())));
        let channels = [Whole(INT8, &x), Floats(&six), Whole(INT8, &six)];
        let read = made("DequantizeLinear", None, &channels);
        assert_eq!(read, Ok(Made::Floats(x.clone())));
        let weights = [Whole(INT8, &kernel), Floats(&six), Whole(INT8, &six)];
        for axis in [0, -4] {
            let read = made("DequantizeLinear", Some(axis), &weights);
            assert_eq!(read, Ok(Made::Floats(kernel.clone())));
        }
        let bias = [Whole(INT32, &six), Floats(&six)];
        assert!(made("DequantizeLinear", Some(0), &bias).is_ok());

        // Along another axis, or none.
        for axis in [None, Some(3), Some(9), Some(-9), Some(i64::MIN)] {
            assert!(
                made("DequantizeLinear", axis, &weights).is_err(),
                "{axis:?}"
            );
        }
        assert!(made("DequantizeLinear", Some(0), &channels).is_err());
        // Scales that depend on the image, or have too many axes.
        for scale in [&Shape::new(true, &[6]), &kernel] {
            let inputs = [Whole(INT8, &kernel), Floats(scale)];
            assert!(made("DequantizeLinear", Some(0), &inputs).is_err());
        }
        // Two kinds of numbers; rounding to 32 bits; the other way round.
        let mixed = [Whole(INT8, &kernel), Floats(&six), Whole(UINT8, &six)];
        assert!(made("DequantizeLinear", Some(0), &mixed).is_err());
        let wide = [Floats(&x), Floats(&one), Whole(INT32, &one)];
        assert!(made("QuantizeLinear", None, &wide).is_err());
        assert!(made("DequantizeLinear", None, &[Floats(&x), Floats(&one)]).is_err());
        assert!(made("QuantizeLinear", None, &[]).is_err());
    }
}
