//! Shapes of the operations of vision transformers, on tokens `[batch, tokens, width]`.

use super::settings::{Inferred, Settings, length};
use super::shapes::Shape;

/// An operation whose second input is whole numbers that say how the axes are arranged.
pub(super) fn arranged(
    op: &str,
    settings: &Settings<'_, '_>,
    x: &Shape,
    values: &[i64],
    list: bool,
) -> Inferred<Vec<usize>> {
    match op {
        "Reshape" if list => {
            settings.only(&[])?;
            reshaped(x, values)
        }
        "Pad" if list => {
            settings.only(&[])?;
            padded(x, values)
        }
        "Gather" if !list => {
            settings.only(&["axis"])?;
            settings.int("axis", 0, &[1])?;
            picked(x, values)
        }
        // From operator set 18 on the axes are no setting.
        "ReduceL2" if list && values == [1] && x.axes.len() == 1 => {
            settings.only(&["keepdims"])?;
            settings.int("keepdims", 1, &[1])?;
            Ok(vec![1])
        }
        _ => Err(format!(
            "`{op}` with the whole numbers {values:?} is not part of a classifier written by this version; update selfcls if the file is newer"
        )),
    }
}

/// The batch axis stays (a 0); the others hold as many values as before.
fn reshaped(x: &Shape, values: &[i64]) -> Inferred<Vec<usize>> {
    let Some((0, axes)) = values.split_first().map(|(batch, axes)| (*batch, axes)) else {
        return Err(format!("changes the batch axis: {values:?}"));
    };
    let axes: Vec<usize> = axes.iter().map(|&n| length(n)).collect::<Inferred<_>>()?;
    let count = axes.iter().try_fold(1usize, |all, &n| all.checked_mul(n));
    if count != Some(x.axes.iter().product()) {
        return Err(format!("arranges {:?} as {axes:?}", x.axes));
    }
    Ok(axes)
}

/// Zeros before and after each axis but the batch.
fn padded(x: &Shape, values: &[i64]) -> Inferred<Vec<usize>> {
    let rank = x.axes.len() + 1;
    if values.len() != 2 * rank || values[0] != 0 || values[rank] != 0 {
        return Err(format!("has pads {values:?} for [batch, {:?}]", x.axes));
    }
    let pads = values[1..rank].iter().zip(&values[rank + 1..]);
    let padded = x.axes.iter().zip(pads).map(|(&n, (&before, &after))| {
        if before < 0 || after < 0 {
            return Err(format!("has pads {values:?}, which cut off"));
        }
        let sum = before
            .checked_add(after)
            .and_then(|sum| sum.checked_add(n as i64));
        length(sum.unwrap_or(i64::MAX))
    });
    padded.collect()
}

/// One of the first axis after the batch.
fn picked(x: &Shape, values: &[i64]) -> Inferred<Vec<usize>> {
    match (x.axes.as_slice(), values) {
        ([count, rest @ ..], &[index]) if (0..*count as i64).contains(&index) => Ok(rest.to_vec()),
        _ => Err(format!("picks {values:?} of [batch, {:?}]", x.axes)),
    }
}

/// A sum or product with a value of the same shape, or with a constant for each of the last axes.
pub(super) fn elementwise(op: &str, x: &Shape, other: &Shape) -> Inferred<Vec<usize>> {
    let fits = if other.batched {
        x.axes == other.axes
    } else {
        // A constant may spell out the batch axis, as 1, and have one value for a whole axis.
        let own = match other.axes.as_slice() {
            [1, own @ ..] if own.len() == x.axes.len() => own,
            own => own,
        };
        let mut pairs = own.iter().rev().zip(x.axes.iter().rev());
        own.len() <= x.axes.len() && pairs.all(|(&own, &n)| own == n || own == 1)
    };
    if fits {
        Ok(x.axes.clone())
    } else {
        let verb = if op == "Add" { "adds" } else { "multiplies" };
        Err(format!("{verb} {:?} and {:?}", x.axes, other.axes))
    }
}

/// Matrix products over the last two axes.
pub(super) fn products(x: &Shape, other: &Shape) -> Inferred<Vec<usize>> {
    let refused = || Err(format!("multiplies {:?} by {:?}", x.axes, other.axes));
    let ([outer @ .., _, inner], [others @ .., rows, columns]) =
        (x.axes.as_slice(), other.axes.as_slice())
    else {
        return refused();
    };
    // Either one matrix for all, or one for each of the same outer axes.
    let fits = if other.batched {
        outer == others
    } else {
        others.is_empty()
    };
    if !fits || inner != rows {
        return refused();
    }
    let mut axes = x.axes.clone();
    if let Some(last) = axes.last_mut() {
        *last = *columns;
    }
    Ok(axes)
}

/// Scale and shift for each of the last axis.
pub(super) fn layer_norm(x: &Shape, weight: &Shape, bias: &Shape) -> Inferred<Vec<usize>> {
    let width = x.axes.last();
    let fits = |part: &Shape| !part.batched && part.axes.len() == 1 && part.axes.last() == width;
    if fits(weight) && fits(bias) {
        Ok(x.axes.clone())
    } else {
        Err(format!(
            "has scale {:?} and shift {:?} for {:?}",
            weight.axes, bias.axes, x.axes
        ))
    }
}

/// The axes in another order; the batch stays first.
pub(super) fn transposed(x: &Shape, order: Option<&[i64]>) -> Inferred<Vec<usize>> {
    let order = order.unwrap_or_default();
    let mut sorted = order.to_vec();
    sorted.sort_unstable();
    let whole = (0..=x.axes.len() as i64).eq(sorted);
    if !whole || order.first() != Some(&0) {
        return Err(format!("orders [batch, {:?}] as {order:?}", x.axes));
    }
    // `whole` has checked that these are positions after the batch.
    Ok(order[1..]
        .iter()
        .map(|&axis| x.axes[axis as usize - 1])
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(axes: &[usize]) -> Shape {
        Shape {
            batched: true,
            axes: axes.to_vec(),
        }
    }

    fn constant(axes: &[usize]) -> Shape {
        Shape {
            batched: false,
            axes: axes.to_vec(),
        }
    }

    #[test]
    fn shapes_of_an_attention_head() {
        let x = batch(&[5, 12]);
        assert_eq!(reshaped(&x, &[0, 5, 3, 4]), Ok(vec![5, 3, 4]));
        let heads = batch(&[5, 3, 4]);
        assert_eq!(transposed(&heads, Some(&[0, 2, 3, 1])), Ok(vec![3, 4, 5]));
        let scores = products(&batch(&[3, 5, 4]), &batch(&[3, 4, 5]));
        assert_eq!(scores, Ok(vec![3, 5, 5]));
        assert_eq!(products(&x, &constant(&[12, 7])), Ok(vec![5, 7]));
        assert_eq!(elementwise("Add", &x, &constant(&[12])), Ok(vec![5, 12]));
        assert_eq!(
            elementwise("Add", &x, &constant(&[1, 5, 12])),
            Ok(vec![5, 12])
        );
        assert_eq!(elementwise("Add", &x, &constant(&[])), Ok(vec![5, 12]));
        let image = batch(&[3, 7, 7]);
        assert_eq!(
            elementwise("Mul", &image, &constant(&[1, 3, 1, 1])),
            Ok(vec![3, 7, 7])
        );
        assert_eq!(padded(&x, &[0, 1, 0, 0, 0, 0]), Ok(vec![6, 12]));
        assert_eq!(picked(&x, &[4]), Ok(vec![12]));
        assert_eq!(
            layer_norm(&x, &constant(&[12]), &constant(&[12])),
            Ok(vec![5, 12])
        );
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let x = batch(&[5, 12]);
        for values in [
            &[0, 5, 13][..],
            &[1, 5, 12],
            &[0, -1, 12],
            &[],
            &[0, 60, 0, 1],
        ] {
            assert!(reshaped(&x, values).is_err(), "{values:?}");
        }
        for values in [
            &[1, 0, 0, 0, 0, 0][..],
            &[0, -1, 0, 0, 0, 0],
            &[0, 1],
            &[0, i64::MAX, 0, 0, 1, 0],
        ] {
            assert!(padded(&x, values).is_err(), "{values:?}");
        }
        for values in [&[5][..], &[-1], &[], &[0, 0]] {
            assert!(picked(&x, values).is_err(), "{values:?}");
        }
        for order in [&[1, 0, 2][..], &[0, 1], &[0, 2, 2], &[0, 1, 3]] {
            assert!(transposed(&x, Some(order)).is_err(), "{order:?}");
        }
        assert!(transposed(&x, None).is_err());
        for other in [
            constant(&[13, 7]),
            batch(&[12, 7, 1]),
            constant(&[1, 12, 7]),
            constant(&[12]),
        ] {
            assert!(products(&x, &other).is_err(), "{other:?}");
        }
        for other in [constant(&[5]), constant(&[2, 5, 12]), batch(&[12])] {
            assert!(elementwise("Add", &x, &other).is_err(), "{other:?}");
        }
        assert!(layer_norm(&x, &constant(&[5]), &constant(&[12])).is_err());
        assert!(layer_norm(&x, &constant(&[12]), &batch(&[12])).is_err());
    }
}
