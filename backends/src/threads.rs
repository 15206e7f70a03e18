//! How many CPU threads compute.

use std::num::NonZeroUsize;

use crate::BackendError;

/// Sets the number of threads of rayon's global pool (flex, ndarray, the data pipeline) and of
/// libtorch's.
///
/// Results do not depend on it for data and views; sums inside a backend's kernels may be ordered
/// differently and differ in the last bits.
///
/// # Errors
///
/// [`BackendError::ThreadsRunning`] if rayon's pool has already started with another number.
pub fn set_threads(threads: NonZeroUsize) -> Result<(), BackendError> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads.get())
        .build_global();
    if pool.is_err() && rayon::current_num_threads() != threads.get() {
        return Err(BackendError::ThreadsRunning);
    }
    #[cfg(feature = "tch")]
    crate::libtorch::set_threads(threads);
    Ok(())
}

/// The number of threads of rayon's global pool. Starts the pool if it has not started.
pub fn threads() -> usize {
    rayon::current_num_threads()
}

/// `1 thread`, `2 threads`.
pub(crate) fn count(threads: usize) -> String {
    match threads {
        1 => "1 thread".to_owned(),
        n => format!("{n} threads"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::own_process::own_process;

    /// One test, in order: the pool is the process's, and other tests may have started theirs.
    #[test]
    fn threads_are_set_once() {
        if !own_process("threads::tests::threads_are_set_once") {
            return;
        }
        let two = NonZeroUsize::MIN.saturating_add(1);
        assert_eq!(set_threads(two), Ok(()));
        assert_eq!(threads(), 2);
        assert_eq!(
            set_threads(two),
            Ok(()),
            "the same number again is no conflict"
        );
        assert_eq!(
            set_threads(NonZeroUsize::MIN),
            Err(BackendError::ThreadsRunning)
        );
        assert_eq!(threads(), 2);
    }
}
