//! A step on a GPU in which the host waits for nothing.
#![allow(unsafe_code, reason = "calls the functions of `waits.cpp`")]

use std::ffi::c_char;
use std::sync::Arc;

use burn::tensor::{Device, Tensor};
use selfcls_core::config::{Arch, Config, OptimKind, Precision};
use selfcls_core::kernels::Kernels;
use selfcls_core::model::ViewBatch;
use selfcls_core::runtime::Runtime;
use selfcls_core::train::{Batch, Learner};

use crate::distributed::tests::alone::alone;
use crate::distributed::tests::small_network;
use crate::message;
use crate::on_devices::{cpu, cuda, shared_kernels};
use crate::own_process::own_process;

unsafe extern "C" {
    fn selfcls_refuse_waits(refuse: bool) -> *mut c_char;
    fn selfcls_about_to_wait() -> *mut c_char;
}

fn answer(thrown: *mut c_char) -> Result<(), String> {
    // SAFETY: only called with what a function of `waits.cpp` has just returned.
    unsafe { message::answer(thrown) }
}

fn refuse_waits(refuse: bool) {
    // SAFETY: stores a number.
    answer(unsafe { selfcls_refuse_waits(refuse) }).expect("a number is stored");
}

fn about_to_wait() -> Result<(), String> {
    // SAFETY: reads that number.
    answer(unsafe { selfcls_about_to_wait() })
}

/// That ATen can be made to throw needs no GPU; the steps do. The switch is the whole process', in which other tests run:
/// hence another process.
#[test]
fn a_step_waits_for_nothing() {
    if !own_process("aten::tests::waits::a_step_waits_for_nothing") {
        return;
    }
    refuse_waits(true);
    let refused = about_to_wait();
    refuse_waits(false);
    let message = refused.expect_err("refused");
    assert!(message.contains("synchronizing"), "{message}");
    assert_eq!(about_to_wait(), Ok(()));
    // The steps themselves can be made anywhere.
    let device = cuda().unwrap_or_else(cpu);
    for (case, config) in cases() {
        eprintln!("{case}");
        let kernels = shared_kernels(&device, config.train.precision);
        steps(&device, &config, kernels);
    }
    let Some(peers) = alone(&device) else {
        return;
    };
    for (case, config) in cases().into_iter().take(2) {
        eprintln!("{case}, with batch statistics of all ranks");
        let kernels = shared_kernels(&device, config.train.precision);
        let kernels = kernels.synchronised(Arc::clone(&peers));
        steps(&device, &config, kernels.expect("libtorch's"));
    }
}

fn cases() -> Vec<(&'static str, Config)> {
    let with = |change: fn(&mut Config)| {
        let mut config = small_network();
        config.train.batch_size = 8;
        config.queue.length = 16;
        change(&mut config);
        config
    };
    let transformer = |config: &mut Config| {
        config.model.backbone = Arch::VitTiny;
        config.model.width = 8;
        config.model.depth = 2;
        config.model.patch_size = 4;
        config.model.position_size = 16;
        config.model.drop_path = 0.1;
    };
    vec![
        ("residual", with(|_| ())),
        (
            "in bf16",
            with(|config| config.train.precision = Precision::Bf16),
        ),
        ("recomputed", with(|config| config.train.recompute = true)),
        ("AdamW", with(|config| config.optim.kind = OptimKind::AdamW)),
        ("SGD", with(|config| config.optim.kind = OptimKind::Sgd)),
        ("clipped", with(|config| config.optim.clip_grad = 0.1)),
        ("transformer", with(transformer)),
    ]
}

/// Steps that warm up, until the queue is full and cuDNN has made its choices; then three whose every value comes from the
/// host and whose losses go there.
fn steps(device: &Device, config: &Config, kernels: Arc<dyn Kernels>) {
    let runtime = Runtime {
        kernels: Arc::clone(&kernels),
        asynchronous: true,
        ..Runtime::new(device.clone())
    };
    let mut learner = Learner::new(config, runtime);
    let mut step = |number: usize| {
        let output = learner
            .step(batch(device, &*kernels, config, number), 0.1)
            .expect("a step");
        kernels.begin_read(output.loss)
    };
    for number in 0..4 {
        step(number)().expect("a loss");
    }
    refuse_waits(true);
    let losses: Vec<_> = (4..7).map(&mut step).collect();
    refuse_waits(false);
    for loss in losses {
        assert!(loss().expect("a loss")[0].is_finite());
    }
}

fn batch(device: &Device, kernels: &dyn Kernels, config: &Config, step: usize) -> Batch {
    let count = config.train.batch_size;
    let images = |side: usize| -> Tensor<4> {
        let values = 2 * count * 3 * side * side;
        let values = (0..values).map(|place| ((place * 37 + step * 11) % 101) as f32 / 50.0 - 1.0);
        kernels
            .upload(values.collect(), device)
            .reshape([2 * count, 3, side, side])
    };
    let numbers = || {
        (0..count)
            .map(|sample| (step * count + sample) as i64)
            .collect()
    };
    Batch {
        views: ViewBatch {
            global: images(16),
            local: Some(images(8)),
        },
        indices: kernels.upload_ints(numbers(), device),
        labels: kernels.upload_ints(numbers(), device),
    }
}
