//! Numbers that are taken when the next step is under way, as on a GPU.

use super::{SAMPLES, STEPS, config, result, train_on};
use burn::tensor::{Device, Int, Tensor};
use selfcls_backends::{Selection, open};
use selfcls_core::config::OptimKind;
use selfcls_core::data::Shapes;
use selfcls_core::kernels::{Kernels, PendingRead, PlainKernels};
use selfcls_core::runtime::Runtime;
use selfcls_core::train::run;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

/// On a GPU the loss is read when the next step is under way: events come later, and nothing else changes.
#[test]
fn reading_losses_late_changes_nothing() {
    let mut config = config(OptimKind::AdamW);
    config.checkpoint.every_steps = 3;
    let prompt = tempfile::tempdir().expect("a folder");
    assert!(train_on(prompt.path(), &config, usize::MAX, false).complete);
    let late = tempfile::tempdir().expect("a folder");
    for (heard, made) in [(4, 5), (8, 8), (11, 12)] {
        // 4: the event comes when step 5 is under way, and the run stops behind it. 8 ends an epoch, and
        // 12 is to be saved: there the trainer waits, but the request came with the event before.
        let outcome = train_on(late.path(), &config, heard, true);
        assert_eq!((outcome.complete, outcome.step), (false, made));
    }
    assert!(train_on(late.path(), &config, usize::MAX, true).complete);
    let (expected, journal) = result(prompt.path());
    let (actual, late_journal) = result(late.path());
    assert!(expected == actual, "the checkpoints differ");
    assert_eq!(journal, late_journal);
}

/// Burn's operations, and a journal of what goes to the device, what is computed and what comes back.
#[derive(Debug, Clone, Default)]
struct Watched(Arc<Mutex<Vec<&'static str>>>);

impl Watched {
    fn note(&self, what: &'static str) {
        let mut journal = self.0.lock().expect("a journal");
        // A step has many convolutions.
        if journal.last() != Some(&what) {
            journal.push(what);
        }
    }
}

impl Kernels for Watched {
    fn upload(&self, values: Vec<f32>, device: &Device) -> Tensor<1> {
        self.note("upload");
        PlainKernels.upload(values, device)
    }

    fn upload_ints(&self, values: Vec<i64>, device: &Device) -> Tensor<1, Int> {
        self.note("upload");
        PlainKernels.upload_ints(values, device)
    }

    fn begin_read(&self, numbers: Tensor<1>) -> PendingRead {
        self.note("begin to read");
        let (journal, pending) = (self.clone(), PlainKernels.begin_read(numbers));
        Box::new(move || {
            journal.note("wait");
            pending()
        })
    }

    fn conv2d(
        &self,
        input: Tensor<4>,
        weight: Tensor<4>,
        stride: usize,
        padding: usize,
        groups: usize,
    ) -> Tensor<4> {
        self.note("compute");
        PlainKernels.conv2d(input, weight, stride, padding, groups)
    }
}

/// A device that works by itself has the next step to do while the numbers of one are waited for, and these were
/// asked for before it: waiting for them is not waiting for the next step.
#[test]
fn numbers_are_waited_for_when_the_next_step_is_under_way() {
    let mut config = config(OptimKind::Sgd);
    config.train.epochs = 1;
    config.monitor.every_epochs = 0;
    let dir = tempfile::tempdir().expect("a folder");
    let selection: Selection = "flex".parse().expect("a backend");
    let kernels = Watched::default();
    let runtime = Runtime {
        asynchronous: true,
        kernels: Arc::new(kernels.clone()),
        ..Runtime::new(open(&selection).expect("flex runs everywhere").device)
    };
    let source = Arc::new(Shapes::new(SAMPLES, 0, 20));
    let never = AtomicBool::new(false);
    run(dir.path(), config, source, runtime, &mut |_| (), &never).expect("trains");

    let journal = kernels.0.lock().expect("a journal").clone();
    let step = ["upload", "compute", "begin to read"];
    let steps = STEPS / 3;
    let mut expected = step.to_vec();
    for _ in 1..steps {
        expected.extend(step);
        expected.push("wait");
    }
    // The last step of an epoch has none behind it.
    expected.push("wait");
    expected.dedup();
    assert_eq!(journal, expected);
}
