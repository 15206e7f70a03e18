//! glibc's allocator, told to keep what a training step frees for the next one.
//!
//! By default it returns large blocks to the system as soon as they are freed, and every step of libtorch on
//! the CPU asks for the same ones again, page by page: 19 ms of a 390 ms step (ResNet-18, batch 64, one core)
//! went into that, 5 ms are left. `aten/allocator.h` sees to it that what is kept fits again.
#![allow(unsafe_code, reason = "a call of the C library")]

/// Lets freed memory stay with the process, unless the user has told the allocator otherwise.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) fn keep_freed_memory() {
    use std::ffi::c_int;

    unsafe extern "C" {
        fn mallopt(parameter: c_int, value: c_int) -> c_int;
    }
    const M_TRIM_THRESHOLD: c_int = -1;
    const M_MMAP_THRESHOLD: c_int = -3;
    const MIB: c_int = 1 << 20;

    let told = [
        "MALLOC_TRIM_THRESHOLD_",
        "MALLOC_MMAP_THRESHOLD_",
        "GLIBC_TUNABLES",
    ];
    if told.iter().any(|name| std::env::var_os(name).is_some()) {
        return;
    }
    // SAFETY: `mallopt` takes two integers, stores what it accepts under the allocator's own lock and ignores
    // the rest. 32 MiB is the largest threshold that it accepts for blocks of their own.
    unsafe {
        mallopt(M_MMAP_THRESHOLD, 32 * MIB);
        mallopt(M_TRIM_THRESHOLD, 1024 * MIB);
    }
}

/// Other allocators have no such habit, or no such switch.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn keep_freed_memory() {}

#[cfg(all(test, target_os = "linux", target_env = "gnu"))]
mod tests {
    use tch::{Device, Kind, Tensor};

    fn values(count: i64) -> Tensor {
        Tensor::empty([count], (Kind::Uint8, Device::Cpu))
    }

    fn place(tensor: &Tensor) -> usize {
        tensor.data_ptr() as usize
    }

    #[test]
    fn values_begin_where_vector_instructions_want_them() {
        let tensors: Vec<Tensor> = (1..300).map(values).collect();
        let aligned = |tensor| place(tensor).is_multiple_of(64);
        assert!(tensors.iter().all(aligned));
        let mut grown = values(70);
        let _filled = grown.fill_(7);
        let _resized = grown.resize_([70_000]);
        let kept = grown.slice(0, 0, 70, 1);
        assert_eq!(i64::try_from(kept.sum(Kind::Int64)).expect("a number"), 490);
        assert!(place(&values(0)) == 0);
    }

    /// By libtorch's own allocator, with the gaps at both ends of a block filled, less than a tenth do.
    #[test]
    fn a_tensor_takes_the_place_of_one_of_its_size() {
        let again = (0..200).filter(|number| {
            let size = 100_000 + 64 * (number * 37 % 100);
            let first = values(size);
            let _fill_gaps: Vec<Box<[u8]>> = (0..400)
                .map(|n| vec![0; 16 + 16 * (n % 6)].into())
                .collect();
            let left = place(&first);
            drop(first);
            place(&values(size)) == left
        });
        // Another thread may come between them.
        assert!(again.count() > 100);
    }
}
