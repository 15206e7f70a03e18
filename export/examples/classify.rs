//! Classifies image files with an exported model: all that an application needs, with this crate alone.
//!
//! ```text
//! cargo run --release -p selfcls-export --no-default-features --features inference --example classify -- \
//!     examples/shapes.onnx examples/disc.png
//! ```

#![allow(clippy::print_stdout)]

use selfcls_export::{Classifier, Options};
use std::error::Error;

/// What `model` says of each of `images`: the three most probable classes, by name where they have one.
pub(crate) fn classify(model: &str, images: &[String]) -> Result<Vec<String>, Box<dyn Error>> {
    let classifier = Classifier::open(model, &Options::default())?;
    let mut lines = Vec::new();
    for image in images {
        let prediction = classifier.classify_file(image)?;
        let mut line = format!("{image}:");
        for candidate in prediction.top(3) {
            let class = candidate.class.to_string();
            let name = candidate.name.unwrap_or(&class);
            line += &format!(" {name} {:.1} %", 100.0 * candidate.probability);
        }
        lines.push(line);
    }
    Ok(lines)
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let model = arguments
        .next()
        .ok_or("usage: classify MODEL.onnx IMAGE...")?;
    let images: Vec<String> = arguments.collect();
    for line in classify(&model, &images)? {
        println!("{line}");
    }
    Ok(())
}
