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

/// Writes `<name>.onnx` and `<name>.json` for every form of both families, and for those of the other filter, into `folder`, and gives the names.
///
/// The JSON has `input` (`type`, `shape`, `values`), `outputs` (name to values), `tolerance` and `exact`: false
/// where the file's own resizing decides about the last grey level, so that the values are not comparable. Of those
/// that prepare their images there is `<name>-prepared` too, which gives what they make of these.
pub(crate) fn write(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    let resnet = [forms::of_all(), forms::of_residual(), forms::that_resize()].concat();
    let mut vit = forms::of_all();
    vit.extend(forms::that_resize().into_iter().take(1));
    for (family, config, forms) in [
        ("resnet", models::resnet(), resnet),
        ("vit", models::vit(), vit),
        ("cubic", models::cubic(), forms::that_resize()),
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
            if let Some(bytes) = writer.preprocessing().expect("writes") {
                let name = format!("{name}-prepared");
                let at = |ending: &str| folder.join(format!("{name}.{ending}"));
                std::fs::write(at("onnx"), bytes).expect("writes");
                let case = preparing(&model, &options).to_string();
                std::fs::write(at("json"), case).expect("writes");
                names.push(name);
            }
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

/// The file's own preprocessing, which may be one grey level off.
fn preparing(model: &Model, options: &FileOptions) -> Value {
    let preprocess = model.config.preprocess();
    let images = samples(preprocess.crop).expect("draws");
    let trials = trials(options, &preprocess, &images);
    // Noise of odd sides.
    let trial = trials.iter().find(|trial| trial.shape[1] % 2 == 1);
    let trial = trial.filter(|trial| trial.own_size).unwrap_or(&trials[0]);
    let Pixels::Bytes(values) = &trial.image else {
        panic!("a file that prepares takes bytes");
    };
    let least = preprocess.std.iter().copied().fold(1.0, f32::min);
    let largest = trial
        .prepared
        .iter()
        .fold(1.0_f32, |most, x| most.max(x.abs()));
    json!({
        "input": { "type": "uint8", "shape": trial.shape, "values": values },
        "outputs": { "input": trial.prepared },
        "tolerance": 1.001 / 255.0 / least / largest,
        "exact": true,
        "prepares": true,
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
