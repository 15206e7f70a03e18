//! Runs a case on a backend, or says why not.

use selfcls_backends::{Opened, Selection, open};
use selfcls_core::config::Precision;
use selfcls_core::runtime::Runtime;
use selfcls_tests::not_run;
use std::sync::{Mutex, PoisonError};

/// A graphics driver in software compiles kernels on all cores and in much memory.
static ONE_AT_A_TIME_ON_WGPU: Mutex<()> = Mutex::new(());

/// Runs `case` on the device that `backend` names, with its own kernels.
pub(crate) fn run(backend: &str, name: &str, case: fn(&Case)) {
    run_with(backend, backend, name, case, |opened| {
        opened.runtime(Precision::F32).expect("f32 everywhere")
    });
}

/// Runs `case` on the device that `backend` names, with burn's operations where it has kernels of its own.
#[cfg(feature = "tch")]
pub(crate) fn run_plain(backend: &str, name: &str, case: fn(&Case)) {
    let label = format!("{backend}-plain");
    run_with(backend, &label, name, case, |opened| {
        Runtime::new(opened.device)
    });
}

fn run_with(
    backend: &str,
    label: &str,
    name: &str,
    case: fn(&Case),
    runtime: fn(Opened) -> Runtime,
) {
    let _one_at_a_time = (backend == "wgpu").then(|| {
        ONE_AT_A_TIME_ON_WGPU
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    });
    let selection: Selection = backend.parse().expect("a backend name");
    match open(&selection) {
        Ok(opened) => case(&Case {
            backend: label.to_string(),
            name: name.to_string(),
            runtime: runtime(opened),
        }),
        Err(error) => not_run(&format!("{label}::{name}"), error),
    }
}

/// A case on a device.
pub(crate) struct Case {
    /// The backend's name.
    pub backend: String,
    /// The case's name.
    pub name: String,
    /// The device and its kernels.
    pub runtime: Runtime,
}

impl Case {
    /// Checks that `actual` is `expected` within `tolerance` times the largest expected magnitude
    /// (at least 1), and reports the error for the parity table.
    #[track_caller]
    pub(crate) fn close(&self, what: &str, actual: &[f32], expected: &[f32], tolerance: f32) {
        assert_eq!(
            actual.len(),
            expected.len(),
            "{}: length of {what}",
            self.name
        );
        let scale = expected.iter().fold(1.0_f32, |scale, x| scale.max(x.abs()));
        let error = actual
            .iter()
            .zip(expected)
            .map(|(a, e)| (a - e).abs())
            // Not `f32::max`, which would swallow a NaN.
            .fold(
                0.0_f32,
                |worst, d| if d > worst || d.is_nan() { d } else { worst },
            )
            / scale;
        eprintln!(
            "PARITY\t{}\t{}\t{what}\t{error:.2e}\t{tolerance:.0e}",
            self.name, self.backend
        );
        assert!(
            error <= tolerance,
            "{} on {}: {what} is off by {error:e} of its scale {scale}, allowed {tolerance:e}",
            self.name,
            self.backend
        );
    }

    /// [`close`](Self::close) for one number.
    #[track_caller]
    pub(crate) fn close_scalar(&self, what: &str, actual: f32, expected: f64, tolerance: f32) {
        self.close(what, &[actual], &[expected as f32], tolerance);
    }
}

/// Instantiates cases as tests of every backend compiled in.
macro_rules! on_backends {
    (every { $($em:ident :: $ec:ident),+ $(,)? } flex_and_tch { $($sm:ident :: $sc:ident),+ $(,)? }) => {
        #[cfg(feature = "flex")]
        mod on_flex {
            $(#[test] fn $ec() { crate::runner::run("flex", concat!(stringify!($em), "::", stringify!($ec)), crate::$em::$ec); })+
            $(#[test] fn $sc() { crate::runner::run("flex", concat!(stringify!($sm), "::", stringify!($sc)), crate::$sm::$sc); })+
        }
        #[cfg(feature = "ndarray")]
        mod on_ndarray {
            $(#[test] fn $ec() { crate::runner::run("ndarray", concat!(stringify!($em), "::", stringify!($ec)), crate::$em::$ec); })+
        }
        #[cfg(feature = "tch")]
        mod on_tch {
            $(#[test] fn $ec() { crate::runner::run("tch", concat!(stringify!($em), "::", stringify!($ec)), crate::$em::$ec); })+
            $(#[test] fn $sc() { crate::runner::run("tch", concat!(stringify!($sm), "::", stringify!($sc)), crate::$sm::$sc); })+
        }
        #[cfg(feature = "tch")]
        mod on_tch_plain {
            $(#[test] fn $ec() { crate::runner::run_plain("tch", concat!(stringify!($em), "::", stringify!($ec)), crate::$em::$ec); })+
            $(#[test] fn $sc() { crate::runner::run_plain("tch", concat!(stringify!($sm), "::", stringify!($sc)), crate::$sm::$sc); })+
        }
        #[cfg(feature = "wgpu")]
        mod on_wgpu {
            $(#[test] fn $ec() { crate::runner::run("wgpu", concat!(stringify!($em), "::", stringify!($ec)), crate::$em::$ec); })+
        }
    };
}

pub(crate) use on_backends;
