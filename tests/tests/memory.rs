//! What the loss and the queue keep in memory, measured on flex. One test: the allocator counts for the
//! whole process.

#![allow(clippy::expect_used, reason = "a failed expectation is a failed test")]
#![cfg(feature = "flex")]

use burn::tensor::{Device, Distribution, Int, Tensor};
use peak_alloc::PeakAlloc;
use selfcls_backends::{Selection, open};
use selfcls_core::config::LossConfig;
use selfcls_core::queue::{Queue, SEARCH_VALUES};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

const MIB: f64 = (1 << 20) as f64;

/// The most that `work` needs beyond what was there, in bytes.
fn peak(work: impl FnOnce()) -> f64 {
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    work();
    ALLOCATOR.peak_usage().saturating_sub(before) as f64
}

#[test]
fn memory_is_linear_in_the_loss_and_bounded_in_the_search() {
    let selection: Selection = "flex".parse().expect("a backend");
    let device = open(&selection).expect("flex runs everywhere").device;
    the_loss_is_linear(&device);
    the_search_is_bounded(&device);
}

/// Twice the views, the batch or the classes: twice the memory, forward and backward.
fn the_loss_is_linear(device: &Device) {
    let loss = LossConfig::default().init();
    let of = |shape: [usize; 3]| {
        let logits = Tensor::<3>::random(shape, Distribution::Uniform(-1.0, 1.0), device);
        peak(|| {
            let result = loss.value_and_gradient(logits, 2).expect("a loss");
            drop(result);
        })
    };
    of([2, 8, 8]); // Whatever is set up once.
    let base = [4, 128, 1024];
    let values = base.iter().product::<usize>() as f64;
    let once = of(base);
    eprintln!("loss: {:.1} copies of the logits", once / (4.0 * values));
    assert!(once < 8.0 * 4.0 * values, "{:.1} MiB", once / MIB);
    for (what, shape) in [
        ("views", [8, 128, 1024]),
        ("batch", [4, 256, 1024]),
        ("classes", [4, 128, 2048]),
    ] {
        let ratio = of(shape) / once;
        eprintln!("loss: twice the {what}: {ratio:.2} times the memory");
        assert!(ratio < 2.2, "twice the {what}: {ratio}");
    }
}

/// A queue whose whole similarity matrix would take 1 GiB, and one of a quarter of the length.
fn the_search_is_bounded(device: &Device) {
    const DIM: usize = 4;
    const BATCH: usize = 2048;
    let random =
        |rows: usize| Tensor::<2>::random([rows, DIM], Distribution::Uniform(-1.0, 1.0), device);
    let ints = |rows: usize| Tensor::<1, Int>::arange(0..rows as i64, device);
    let of = |length: usize| {
        let mut queue = Queue::new(length, DIM, device);
        queue.push(random(length), ints(length), ints(length));
        let queries = random(BATCH);
        peak(|| {
            let found = queue.nearest(queries, ints(BATCH));
            drop(found.labels.into_data());
        })
    };
    let (short, long) = (of(32_768), of(131_072));
    eprintln!(
        "search: {:.0} MiB for 32768 rows, {:.0} MiB for 131072",
        short / MIB,
        long / MIB
    );
    assert!(long < 1.1 * short, "{long} bytes, {short} for a quarter");
    assert!(long < 16.0 * SEARCH_VALUES as f64, "{:.0} MiB", long / MIB);
}
