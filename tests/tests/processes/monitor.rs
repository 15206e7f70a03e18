//! The monitor's images are shared among the ranks, and its measures are those of one process.

use crate::binary_for;
use crate::start::{Place, config};
use selfcls_core::Config;
use selfcls_core::data::{Shapes, Source};
use std::path::Path;

/// Weights that hardly move, so that all runs measure the same ones.
fn still() -> Config {
    let mut config = config();
    config.optim.lr = 1e-9;
    config.optim.start_lr = 1e-9;
    config.optim.final_lr = 1e-9;
    config
}

/// The monitor's lines without the time that they took.
fn measured(run: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).expect("a journal");
    let lines = text
        .lines()
        .map(|line| -> serde_json::Value { serde_json::from_str(line).expect("JSON") });
    let mut lines: Vec<_> = lines.filter(|line| line["kind"] == "monitor").collect();
    for line in &mut lines {
        line.as_object_mut().expect("an object").remove("seconds");
    }
    lines
}

/// As many images as ranks can share equally, as they cannot, and fewer than there are ranks.
#[test]
fn ranks_measure_what_one_does() {
    let Some(binary) = binary_for("monitor::ranks_measure_what_one_does") else {
        return;
    };
    let place = Place::new(binary);
    for samples in [40, 13, 3] {
        let mut config = still();
        config.monitor.samples = samples;
        let train = |world: usize| {
            let run = format!("{samples}-of-{world}");
            place.train(&run, &config, world);
            measured(&place.path(&run))
        };
        let alone = train(1);
        assert_eq!(alone.len(), 2, "one line per epoch");
        assert_eq!(alone[0]["samples"], samples);
        for world in [2, 4] {
            assert_eq!(train(world), alone, "{samples} images, {world} ranks");
        }
    }
}

/// An image that the second rank cannot read is a warning, with its rank, and no end.
#[test]
fn what_one_cannot_read_is_a_warning_of_all() {
    let Some(binary) = binary_for("monitor::what_one_cannot_read_is_a_warning_of_all") else {
        return;
    };
    let place = Place::new(binary);
    let photos = place.path("photos");
    std::fs::create_dir(&photos).expect("creates");
    let shapes = Shapes::new(4, 3, 16);
    for index in 0..4 {
        let image = shapes.image(index).expect("drawn");
        let path = photos.join(format!("{index}.png"));
        selfcls_core::picture::write_png(&path, &image).expect("written");
    }
    // Its beginning is that of a picture.
    let last = photos.join("3.png");
    let bytes = std::fs::read(&last).expect("reads");
    std::fs::write(&last, &bytes[..bytes.len() / 2]).expect("written");
    let mut config = still();
    config.data.cache_mib = 0;
    config.monitor.data = photos.display().to_string();
    let ended = place.train("run", &config, 2);
    assert!(measured(&place.path("run")).is_empty());
    let said = &ended[0].stderr;
    assert!(
        said.contains("the monitor failed: rank 1: ") && said.contains("3.png"),
        "{said}"
    );
}
