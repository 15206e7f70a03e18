//! Loss scaling: keeps the gradients of half precision away from its smallest numbers.

use crate::config::Precision;
use serde::{Deserialize, Serialize};

/// First factor (authors' code).
const INITIAL: f64 = 16_384.0;
/// Steps without an overflow after which the factor doubles (PyTorch's `GradScaler`).
const PATIENCE: usize = 2000;
/// Half of it is still representable in f32 with every gradient that matters.
const LARGEST: f64 = 16_777_216.0;

/// The factor on the loss, raised as long as no gradient overflows (Micikevicius et al. 2018, section 3.2,
/// with the schedule of PyTorch's `GradScaler`).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossScale {
    /// The factor, a power of two.
    pub factor: f64,
    /// Steps since it last changed.
    pub steady: usize,
}

impl LossScale {
    /// A scale for `precision`, if it needs one: bf16 has the range of f32.
    pub fn for_precision(precision: Precision) -> Option<Self> {
        (precision == Precision::Fp16).then_some(Self {
            factor: INITIAL,
            steady: 0,
        })
    }

    /// The scale for the next step, after one whose gradients were `finite` or not.
    pub fn after(self, finite: bool) -> Self {
        let Self { factor, steady } = self;
        if !finite {
            Self {
                factor: (factor / 2.0).max(1.0),
                steady: 0,
            }
        } else if steady + 1 == PATIENCE {
            Self {
                factor: (factor * 2.0).min(LARGEST),
                steady: 0,
            }
        } else {
            Self {
                factor,
                steady: steady + 1,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_factor_halves_at_overflow_and_doubles_after_patience() {
        assert_eq!(LossScale::for_precision(Precision::F32), None);
        assert_eq!(LossScale::for_precision(Precision::Bf16), None);
        let first = LossScale::for_precision(Precision::Fp16).expect("a scale");
        let halved = first.after(true).after(false);
        assert_eq!((halved.factor, halved.steady), (INITIAL / 2.0, 0));
        let mut scale = halved;
        for _ in 0..PATIENCE - 1 {
            scale = scale.after(true);
            assert_eq!(scale.factor, INITIAL / 2.0);
        }
        scale = scale.after(true);
        assert_eq!((scale.factor, scale.steady), (INITIAL, 0));
        for _ in 0..100 {
            scale = scale.after(false);
        }
        assert_eq!(scale.factor, 1.0, "never below one");
    }
}
