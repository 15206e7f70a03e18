//! One loop, compiled several times: for any processor, for those with AVX2 and for those with AVX-512,
//! chosen at run time.
//!
//! The pixel kernels are plain loops over slices that the compiler vectorises; the default x86-64
//! target stops at SSE2, which costs them a factor of two to six. All kernels round at the same
//! places whatever the instruction set, so the choice never changes a result.

use pulp::Arch;

/// Runs `kernel` with the widest instruction set of this processor.
///
/// The closure and everything hot in it must be `#[inline(always)]`: only code that ends up inside
/// the dispatched function is compiled for its instruction set.
#[inline]
pub(super) fn dispatch<R>(kernel: impl FnOnce() -> R) -> R {
    Arch::new().dispatch(kernel)
}

/// `x`, from 0 to 255, rounded down.
///
/// The cast `as u8` would do, but it also defines what becomes of infinities and NaN, which the
/// vectoriser cannot express and falls back to one value at a time. Adding 2^23 instead leaves the
/// nearest whole number in the low bits.
#[inline(always)]
pub(super) fn floor_to_byte(x: f32) -> u8 {
    const SHIFT: f32 = 8_388_608.0;
    let shifted = x + SHIFT;
    let up = u32::from(shifted - SHIFT > x);
    (shifted.to_bits() - up) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floors() {
        for whole in 0..=255u8 {
            let x = f32::from(whole);
            assert_eq!(floor_to_byte(x), whole);
            if whole < 255 {
                assert_eq!(floor_to_byte(x + 0.5), whole);
                assert_eq!(floor_to_byte((x + 1.0).next_down()), whole);
            }
        }
        assert_eq!(floor_to_byte(f32::MIN_POSITIVE), 0);
    }
}
