//! No more threads than were allowed: the system counts them while images are classified.

#![cfg(target_os = "linux")]

mod support;

use selfcls_core::pixels::Rgb8;
use selfcls_export::{Classifier, EngineChoice, HeadSelection, Options};
use std::fs::DirEntry;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{scope, sleep};
use std::time::Duration;
use support::model::Example;

/// Threads of this process, without those that are on their way out: the system lists them for a moment longer.
fn threads() -> usize {
    const EXITING: u64 = 4;
    let tasks = std::fs::read_dir("/proc/self/task").expect("Linux tells");
    let is_there = |task: &DirEntry| {
        // After the name, which is in brackets and whatever it likes, come the state, five numbers and the flags.
        let stat = std::fs::read_to_string(task.path().join("stat")).ok()?;
        let (_, rest) = stat.rsplit_once(')')?;
        let flags: u64 = rest.split_whitespace().nth(6)?.parse().ok()?;
        (flags & EXITING == 0).then_some(())
    };
    let tasks = tasks.flatten();
    tasks.filter(|task| is_there(task).is_some()).count()
}

/// The most threads that `work` had at a time beside the one that called it.
fn most(work: impl FnOnce()) -> usize {
    let (most, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    let before = threads();
    scope(|scope| {
        let counter = scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                most.fetch_max(threads(), Ordering::SeqCst);
                sleep(Duration::from_micros(100));
            }
        });
        work();
        done.store(true, Ordering::SeqCst);
        // Its end as a thread, not that of its work, which is all that the scope waits for.
        counter.join().expect("it counts");
    });
    // Without the thread that counts.
    most.into_inner().saturating_sub(before + 1)
}

/// Images whose preparation takes a while.
fn images() -> Vec<Rgb8> {
    let image = |number: usize| {
        let side = 400 + number;
        let bytes = (0..3 * side * side).map(|i| (i * number) as u8).collect();
        Rgb8::new(side, side, bytes).expect("an image")
    };
    (0..24).map(image).collect()
}

#[test]
fn as_many_as_allowed() {
    let bytes = support::file(&Example::golden(), HeadSelection::All);
    let engine = support::tested_engine();
    let open = |options: &Options| Classifier::from_bytes(bytes.clone(), options).expect("opens");
    // What an engine keeps for itself, whatever is opened.
    drop(open(&Options::default().engine(engine.clone()).threads(1)));
    let images = images();
    for allowed in [1, 2, 3] {
        for many in [false, true] {
            let options = Options::default().threads(allowed).many(many);
            let options = options.engine(engine.clone());
            let helpers = most(|| {
                let classifier = open(&options);
                classifier.classify_batch(&images).expect("classifies");
                classifier.classify(&images[0]).expect("classifies");
                classifier.run(&classifier.prepare(&images)).expect("runs");
            });
            // ONNX Runtime keeps those of a session, which wait while others prepare images.
            let waiting = match (&engine, many) {
                (EngineChoice::Tract, _) | (_, true) => 0,
                _ => allowed - 1,
            };
            assert!(
                helpers < allowed + waiting,
                "{helpers} beside one of {allowed}, {many}"
            );
            assert!(helpers > 0 || allowed == 1, "they are used");

            let beside = most(|| {
                let classifier = open(&options);
                let stream = classifier.stream(images.clone()).expect("starts");
                assert!(
                    stream
                        .map(|(_, answer)| answer)
                        .all(|answer| answer.is_ok())
                );
            });
            assert!(beside <= 2 * allowed, "{beside} of 2 x {allowed}");
        }
    }
    // One test, for another would have a thread of its own.
    if engine == EngineChoice::Tract {
        support::again_in_onnxruntime("threads::as_many_as_allowed");
    }
}
