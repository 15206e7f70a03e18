//! Runs a case on a backend, or says why not.

use crate::parity::{Tolerance, larger, record};
use libtest_mimic::Trial;
#[cfg(feature = "tch")]
use selfcls_backends::TchDevice;
use selfcls_backends::{Opened, Selection, open};
use selfcls_core::config::Precision;
use selfcls_core::runtime::Runtime;
use selfcls_tests::not_run;
use std::ops::Deref;
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
            cells: Cells::new(name, label),
            runtime: runtime(opened.clone()),
            opened,
        }),
        Err(error) => not_run(&format!("{label}::{name}"), error),
    }
}

/// A case on a device.
pub(crate) struct Case {
    /// Where its errors go.
    cells: Cells,
    /// The device and its kernels.
    pub runtime: Runtime,
    /// What makes others.
    #[cfg_attr(
        not(feature = "tch"),
        allow(dead_code, reason = "there is one precision elsewhere")
    )]
    pub opened: Opened,
}

impl Deref for Case {
    type Target = Cells;

    fn deref(&self) -> &Cells {
        &self.cells
    }
}

/// A case's cells of the parity table in the column of one backend.
pub(crate) struct Cells {
    case: String,
    backend: String,
}

impl Cells {
    fn new(case: &str, backend: &str) -> Self {
        Self {
            case: case.into(),
            backend: backend.into(),
        }
    }

    /// Of a case that needs no backend.
    pub(crate) fn host(case: &str) -> Self {
        Self::new(case, "host")
    }

    /// Checks that `actual` is `expected` within `tolerance` times the largest expected magnitude
    /// (at least 1), and enters the error into the parity table.
    #[track_caller]
    pub(crate) fn close(
        &self,
        what: &str,
        actual: &[f32],
        expected: &[f32],
        tolerance: impl Into<Tolerance>,
    ) {
        let tolerance = tolerance.into();
        assert_eq!(
            actual.len(),
            expected.len(),
            "{}: length of {what}",
            self.case
        );
        let scale = expected.iter().fold(1.0_f32, |scale, x| scale.max(x.abs()));
        let error = actual
            .iter()
            .zip(expected)
            .map(|(a, e)| (a - e).abs())
            .fold(0.0, larger)
            / scale;
        record(&self.case, &self.backend, what, error, tolerance);
        assert!(
            error <= tolerance.allowed,
            "{} on {}: {what} is off by {error:e} of its scale {scale}, allowed {:e}",
            self.case,
            self.backend,
            tolerance.allowed
        );
    }

    /// [`close`](Self::close) for one number.
    #[track_caller]
    pub(crate) fn close_scalar(
        &self,
        what: &str,
        actual: f32,
        expected: f64,
        tolerance: impl Into<Tolerance>,
    ) {
        self.close(what, &[actual], &[expected as f32], tolerance);
    }

    /// [`close`](Self::close) for a number known to be nothing but an error.
    #[track_caller]
    pub(crate) fn close_to_zero(&self, what: &str, error: f64, tolerance: impl Into<Tolerance>) {
        self.close_scalar(what, error as f32, 0.0, tolerance);
    }
}

/// Makes `trials()`: the cases on every backend compiled in, and what runs once.
macro_rules! trials {
    (
        every { $($em:ident :: $ec:ident),+ $(,)? }
        flex_and_tch { $($sm:ident :: $sc:ident),+ $(,)? }
        tch { $($tm:ident :: $tc:ident),+ $(,)? }
        once { $($(#[$attribute:meta])* $om:ident :: $oc:ident),+ $(,)? }
    ) => {
        fn trials() -> Vec<libtest_mimic::Trial> {
            const EVERY: &[crate::runner::Listed] =
                &[$((concat!(stringify!($em), "::", stringify!($ec)), crate::$em::$ec)),+];
            const FLEX_AND_TCH: &[crate::runner::Listed] =
                &[$((concat!(stringify!($sm), "::", stringify!($sc)), crate::$sm::$sc)),+];
            #[cfg(feature = "tch")]
            const TCH: &[crate::runner::Listed] =
                &[$((concat!(stringify!($tm), "::", stringify!($tc)), crate::$tm::$tc)),+];
            #[cfg(not(feature = "tch"))]
            const TCH: &[crate::runner::Listed] = &[];
            let mut trials = crate::runner::on_backends(EVERY, FLEX_AND_TCH, TCH);
            $($(#[$attribute])* trials.push(crate::runner::trial(
                concat!(stringify!($om), "::", stringify!($oc)).into(),
                crate::$om::$oc,
            ));)+
            trials
        }
    };
}

pub(crate) use trials;

/// A test of the suite; like any other it fails by panicking.
pub(crate) fn trial(name: String, test: impl FnOnce() + Send + 'static) -> Trial {
    Trial::test(name, || {
        test();
        Ok(())
    })
}

/// A case and its name.
pub(crate) type Listed = (&'static str, fn(&Case));

/// How a case is run on a backend.
type Run = fn(&str, &str, fn(&Case));

/// `every` case on every backend compiled in, `some` on flex and libtorch alone, `tch` on libtorch with ATen's kernels.
pub(crate) fn on_backends(every: &[Listed], some: &[Listed], tch: &[Listed]) -> Vec<Trial> {
    #[cfg(not(feature = "tch"))]
    let _ = tch;
    let mut trials = Vec::new();
    let mut add = |label: &str, backend: &'static str, run: Run, cases: &[Listed]| {
        for &(name, case) in cases {
            let test = move || run(backend, name, case);
            trials.push(trial(format!("{label}::{name}"), test));
        }
    };
    let all = [every, some].concat();
    if cfg!(feature = "flex") {
        add("flex", "flex", run, &all);
    }
    if cfg!(feature = "ndarray") {
        add("ndarray", "ndarray", run, every);
    }
    if cfg!(feature = "wgpu") {
        add("wgpu", "wgpu", run, every);
    }
    #[cfg(feature = "tch")]
    {
        let aten = [every, some, tch].concat();
        add("tch", "tch:cpu", run, &aten);
        add("tch-plain", "tch:cpu", run_plain, &all);
        match exact_cuda() {
            Ok(()) => add("tch-cuda", "tch:cuda", run, &aten),
            Err(reason) => trials.push(trial("tch-cuda".into(), || {
                not_run("tch-cuda (every case)", reason);
            })),
        }
    }
    trials
}

/// Whether there is a GPU that computes in all of f32.
#[cfg(feature = "tch")]
fn exact_cuda() -> Result<(), String> {
    open(&Selection::Tch(TchDevice::Cuda(0))).map_err(|error| error.to_string())?;
    if std::env::var("NVIDIA_TF32_OVERRIDE").is_ok_and(|value| value == "0") {
        return Ok(());
    }
    Err("NVIDIA_TF32_OVERRIDE=0 is not set: convolutions round f32 to TF32 without it".into())
}
