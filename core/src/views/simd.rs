//! One loop, compiled several times: for any processor and for those with AVX2, chosen at run time.
//!
//! The pixel kernels are plain loops over slices that the compiler vectorises; the default x86-64
//! target stops at SSE2, which costs them a factor of two to four. All kernels round at the same
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
