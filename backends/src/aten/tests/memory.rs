//! A device that has not enough memory.

use burn::tensor::{Device, Tensor};
use selfcls_core::Error;
use selfcls_core::panics::guarded;

use crate::on_devices::on_devices;

on_devices!(want_of_memory_is_an_error);

/// In burn's operations on libtorch, which panic.
fn want_of_memory_is_an_error(device: &Device) {
    // 2^52 bytes: more than a process can address.
    let zeros = || Ok(Tensor::<2>::zeros([1 << 25, 1 << 25], device).dims());
    match guarded(zeros) {
        Err(Error::Memory(said)) => {
            assert!(!said.contains('\n') && said.len() < 500, "{said}");
        }
        other => panic!("{other:?}"),
    }
}
