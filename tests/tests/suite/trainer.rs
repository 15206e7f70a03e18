//! What the trainer says about a run.

use selfcls_backends::{Selection, open};
use selfcls_core::data::{Shapes, Source};
use selfcls_core::pixels::Rgb8;
use selfcls_core::runtime::Runtime;
use selfcls_core::train::{Event, Trainer};
use selfcls_core::{Config, Result};
use selfcls_tests::small_config;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

const SAMPLES: usize = 24;

fn trainer(config: Config, source: Arc<dyn Source>) -> Trainer {
    let selection: Selection = "flex".parse().expect("a backend");
    let device = open(&selection).expect("flex runs everywhere").device;
    Trainer::new(config, source, Runtime::new(device)).expect("possible")
}

fn config() -> Config {
    let mut config = small_config();
    config.model.heads = vec![3];
    config.train.batch_size = 8;
    config.train.epochs = 2;
    config.optim.warmup_epochs = 0;
    config.queue.length = 8;
    config
}

fn shapes() -> Arc<dyn Source> {
    Arc::new(Shapes::new(SAMPLES, 0, 20))
}

/// One image more than the data has is warned about with both numbers; as many are not.
pub(crate) fn a_queue_longer_than_the_data_is_warned_about() {
    let warnings = |length| {
        let mut config = config();
        config.queue.length = length;
        trainer(config, shapes()).warnings()
    };
    let said = warnings(SAMPLES + 1);
    let [warning] = said.as_slice() else {
        panic!("{said:?}");
    };
    for part in ["queue.length = 25", "24 images", "neighbour"] {
        assert!(warning.contains(part), "{warning}");
    }
    assert!(warnings(SAMPLES).is_empty());
    assert!(warnings(0).is_empty());
}

/// The same images without labels.
struct Unlabelled(Arc<dyn Source>);

impl Source for Unlabelled {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn image(&self, index: usize) -> Result<Arc<Rgb8>> {
        self.0.image(index)
    }

    fn label(&self, _index: usize) -> Option<usize> {
        None
    }

    fn classes(&self) -> &[String] {
        &[]
    }

    fn name(&self, index: usize) -> String {
        self.0.name(index)
    }
}

/// From the step on that follows the one that filled the queue; never without labels.
pub(crate) fn neighbours_are_counted_where_labels_exist() {
    let known = |source: Arc<dyn Source>| -> Vec<bool> {
        let mut trainer = trainer(config(), source);
        let mut known = Vec::new();
        let never = AtomicBool::new(false);
        let epoch = trainer.epoch(&never, &mut |_| false, &mut |_, event| {
            match event {
                Event::Step(step) => known.push(step.neighbour_accuracy.is_some()),
                Event::Epoch(epoch) => known.push(epoch.neighbour_accuracy.is_some()),
                _ => {}
            }
            Ok(ControlFlow::Continue(()))
        });
        assert!(epoch.expect("trains").is_continue());
        known
    };
    // Three steps and the epoch.
    assert_eq!(known(shapes()), [false, true, true, true]);
    assert_eq!(known(Arc::new(Unlabelled(shapes()))), [false; 4]);
}
