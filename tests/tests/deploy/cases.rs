//! Files of every form with what they must give, in a folder, for programs in other languages.

use super::forms;
use super::models::{self, Model};
use selfcls_core::eval::Trace;
use selfcls_core::metadata::{InputKind, Metadata};
use selfcls_export::FileOptions;
use selfcls_export::inference::raw::Pixels;
use selfcls_export::proof::{Trial, samples, trials};
use serde_json::{Value, json};
use std::path::Path;

/// Writes `<name>.onnx` and `<name>.json` for every form of both families into `folder`, and gives the names.
///
/// The JSON has `input` (`type`, `shape`, `values`), `outputs` (name to values), `tolerance` and `exact`: false
/// where the file's own resizing decides about the last grey level, so that the values are not comparable.
pub(crate) fn write(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    let resnet = [forms::of_all(), forms::of_residual(), forms::that_resize()].concat();
    for (family, config, forms) in [
        ("resnet", models::resnet(), resnet),
        ("vit", models::vit(), forms::of_all()),
    ] {
        let model = Model::new(config);
        for (form, options) in forms {
            let name = format!("{family}-{form}");
            let path = folder.join(format!("{name}.onnx"));
            let writer = model.writer(options.clone());
            writer.write(path).expect("writes");
            let case = case(&model, &options);
            let path = folder.join(format!("{name}.json"));
            std::fs::write(path, case.to_string()).expect("writes");
            names.push(name);
        }
    }
    names
}

fn case(model: &Model, options: &FileOptions) -> Value {
    let preprocess = model.config.preprocess();
    let images = samples(preprocess.crop).expect("draws");
    let trials = trials(options, &preprocess, &images);
    // Two images or more, where there is a choice.
    let trial: &Trial = &trials[1.min(trials.len() - 1)];
    let expected = model.network.trace(trial.prepared.clone(), trial.count);
    let (kind, values) = match &trial.image {
        Pixels::Float(values) => ("float32", json!(values)),
        Pixels::Bytes(values) => ("uint8", json!(values)),
    };
    let writer = model.writer(options.clone());
    let metadata = writer.metadata().expect("planned");
    let outputs = writer.outputs().expect("planned");
    let outputs = outputs.into_iter().map(|name| {
        let values = match &*name {
            "features" => expected.features.clone(),
            "embedding" => expected.embedding.clone(),
            "probabilities" => probabilities(&metadata, &expected),
            _ => {
                let index = name.strip_prefix("logits.").expect("logits");
                expected.logits[index.parse::<usize>().expect("a head")].clone()
            }
        };
        (name, json!(values))
    });
    json!({
        "input": { "type": kind, "shape": trial.shape, "values": values },
        "outputs": outputs.collect::<serde_json::Map<_, _>>(),
        "tolerance": selfcls_export::proof::Tolerance::of(&metadata).outputs,
        "exact": options.input != InputKind::Any,
    })
}

/// Softmax of the default head's logits.
fn probabilities(metadata: &Metadata, expected: &Trace) -> Vec<f32> {
    let head = metadata.head(metadata.default_head).expect("a head");
    let rows = expected.logits[head.index].chunks_exact(head.classes);
    rows.flat_map(|row| {
        let powers = row.iter().map(|x| (x / metadata.row_temperature).exp());
        let powers: Vec<f32> = powers.collect();
        let sum: f32 = powers.iter().sum();
        powers.into_iter().map(move |power| power / sum)
    })
    .collect()
}
