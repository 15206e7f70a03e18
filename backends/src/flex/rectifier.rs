//! `max(x, 0)` and what follows from it, a pass over the values each.

use rayon::prelude::*;

use super::normalisation::vectorised;

/// Values of a task.
const BLOCK: usize = 32 << 10;

/// Applies `f` to each of `values` and its fellow in `others`, in place.
fn update(values: &mut [f32], others: &[f32], f: impl Fn(f32, f32) -> f32 + Sync + Copy) {
    values
        .par_chunks_mut(BLOCK)
        .zip(others.par_chunks(BLOCK))
        .for_each(|(values, others)| {
            vectorised(
                #[inline(always)]
                || {
                    for (value, other) in values.iter_mut().zip(others) {
                        *value = f(*value, *other);
                    }
                },
            );
        });
}

/// `max(x, 0)`; NaN stays.
#[inline(always)]
fn positive(x: f32) -> f32 {
    if x <= 0.0 { 0.0 } else { x }
}

/// `max(x, 0)` of each value.
pub(super) fn rectify(values: &mut [f32]) {
    values.par_chunks_mut(BLOCK).for_each(|values| {
        vectorised(
            #[inline(always)]
            || {
                for value in values {
                    *value = positive(*value);
                }
            },
        );
    });
}

/// `max(x + y, 0)` of each pair.
pub(super) fn add_rectify(values: &mut [f32], others: &[f32]) {
    update(
        values,
        others,
        #[inline(always)]
        |value, other| positive(value + other),
    );
}

/// The gradient where the output is not zero.
pub(super) fn pass(gradient: &mut [f32], output: &[f32]) {
    update(
        gradient,
        output,
        #[inline(always)]
        |gradient, output| if output <= 0.0 { 0.0 } else { gradient },
    );
}
