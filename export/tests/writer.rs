//! What the writer promises about the file and refuses to write.

mod support;

use selfcls_core::config::{Arch, ModelConfig};
use selfcls_core::metadata::{InputKind, WeightKind};
use selfcls_core::weights::Array;
use selfcls_export::{
    Classifier, EngineChoice, Error, ExternalData, FileOptions, HeadSelection, OnnxWriter, Output,
};
use std::collections::BTreeSet;
use support::model::Example;

fn writer(example: &Example) -> OnnxWriter<'_> {
    OnnxWriter::new(&example.model, &example.weights, example.metadata.clone())
}

/// The message with which `options` are refused.
fn options_refused(example: &Example, options: FileOptions) -> String {
    let error = writer(example).options(options).to_bytes();
    error.expect_err("must be refused").to_string()
}

fn outputs(chosen: &[Output]) -> Option<BTreeSet<Output>> {
    Some(chosen.iter().copied().collect())
}

/// A small vision transformer for images of 16 pixels.
fn transformer() -> Example {
    let model = ModelConfig {
        backbone: Arch::VitSmall,
        width: 8,
        depth: 1,
        patch_size: 8,
        position_size: 16,
        hidden_dim: 4,
        dim: 4,
        heads: vec![3],
        ..ModelConfig::default()
    };
    Example::new(model, 16)
}

/// Every kind of file, each with a name.
fn forms() -> Vec<(&'static str, FileOptions)> {
    let mut forms = vec![
        ("plain", FileOptions::default()),
        (
            "all outputs of one head",
            FileOptions {
                heads: HeadSelection::Only(vec![1]),
                outputs: outputs(&Output::ALL),
                ..FileOptions::default()
            },
        ),
        (
            "a fixed batch of bytes",
            FileOptions {
                batch: Some(4),
                input: InputKind::Uint8,
                ..FileOptions::default()
            },
        ),
        (
            "a free size",
            FileOptions {
                dynamic_size: true,
                ..FileOptions::default()
            },
        ),
        (
            "any image, in halves",
            FileOptions {
                input: InputKind::Any,
                weights: WeightKind::F16,
                ..FileOptions::default()
            },
        ),
    ];
    for (name, opset) in [("18", 18), ("19", 19), ("20", 20), ("21", 21)] {
        let options = FileOptions {
            opset: Some(opset),
            ..FileOptions::default()
        };
        forms.push((name, options));
    }
    forms
}

fn refused(example: &Example) -> String {
    writer(example)
        .to_bytes()
        .expect_err("must be refused")
        .to_string()
}

#[test]
fn same_model_same_bytes() {
    for (name, options) in forms() {
        let write = || {
            let example = Example::golden();
            let bytes = writer(&example).options(options.clone()).to_bytes();
            bytes.expect("writable")
        };
        assert_eq!(write(), write(), "{name}");
    }
    let bytes = writer(&Example::golden()).to_bytes().expect("writable");
    let mut other = Example::golden();
    let changed = other.weights.get_mut("cls_1.weight_g").expect("a head");
    changed.data[3] += 0.5;
    assert_ne!(bytes, writer(&other).to_bytes().expect("writable"));
}

#[test]
fn normalisations_are_folded_and_names_are_paths() {
    let bytes = writer(&Example::golden()).to_bytes().expect("writable");
    let contains = |text: &str| {
        bytes
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    };
    for absent in [
        "BatchNormalization",
        "running_var",
        "weight_g",
        "downsample.1",
        "mlp.1",
    ] {
        assert!(!contains(absent), "{absent}");
    }
    for present in [
        "backbone.layer4.1.conv2.weight",
        "backbone.layer2.0.downsample.0",
        "mlp_head.mlp.3.bias",
        "cls_1.weight",
        "logits.1",
        "probabilities",
        "embedding",
    ] {
        assert!(contains(present), "{present}");
    }
}

#[test]
fn every_problem_with_the_weights_is_listed() {
    let mut example = Example::golden();
    let weights = &mut example.weights;
    weights.remove("backbone.layer3.0.conv2.weight");
    weights.insert("fc.weight".into(), Array::new([2, 2], vec![0.0; 4]));
    weights.insert("mlp_head.mlp.3.bias".into(), Array::new([9], vec![0.0; 9]));
    // As many values, but transposed.
    weights.insert(
        "mlp_head.mlp.0.weight".into(),
        Array::new([32, 16], vec![0.0; 512]),
    );
    let mut spoil = |name: &str, value: f32| {
        weights.get_mut(name).expect("a weight").data[1] = value;
    };
    spoil("backbone.bn1.bias", f32::NAN);
    spoil("backbone.layer1.0.bn1.running_var", -1.0);
    let direction = weights.get_mut("cls_0.weight_v").expect("a head");
    direction.data[8..16].fill(0.0);
    let message = refused(&example);
    for said in [
        "`backbone.layer3.0.conv2.weight` [16, 16, 3, 3] is missing",
        "`fc.weight` has no place in the model",
        "`mlp_head.mlp.3.bias` is [9], expected [8]",
        "`mlp_head.mlp.0.weight` is [32, 16], expected [16, 32]",
        "`backbone.bn1.bias` has values that are not finite",
        "`backbone.layer1.0.bn1.running_var` has negative variances",
        "`cls_0.weight_v` has a row of zeros",
    ] {
        assert!(message.contains(said), "{said:?} is not in: {message}");
    }
    assert_eq!(message.lines().count(), 8, "{message}");
}

#[test]
fn heads_that_are_left_out_are_checked_too() {
    let mut example = Example::golden();
    example.weights.remove("cls_0.weight_v");
    let options = FileOptions {
        heads: HeadSelection::Only(vec![1]),
        ..FileOptions::default()
    };
    let error = writer(&example).options(options).to_bytes();
    assert!(matches!(error, Err(Error::Weights(problems)) if problems.len() == 2));
}

#[test]
fn counters_of_batch_norm_are_ignored_where_they_belong() {
    let mut example = Example::golden();
    let counter = || Array::new([], vec![7.0]);
    example
        .weights
        .insert("backbone.bn1.num_batches_tracked".into(), counter());
    writer(&example)
        .to_bytes()
        .expect("PyTorch's counters are known");
    example
        .weights
        .insert("elsewhere.num_batches_tracked".into(), counter());
    assert!(refused(&example).contains("`elsewhere.num_batches_tracked`"));
}

#[test]
fn requests_that_contradict_the_model() {
    let example = Example::golden();
    let with = |change: fn(&mut FileOptions)| {
        let mut options = FileOptions::default();
        change(&mut options);
        options
    };
    let cases = [
        (
            with(|o| o.heads = HeadSelection::Only(vec![0, 2])),
            "no head 2; its heads are 0 to 1",
        ),
        (
            with(|o| o.heads = HeadSelection::Only(vec![1, 1])),
            "not a list of different ones",
        ),
        (
            with(|o| o.heads = HeadSelection::Only(vec![])),
            "not a list of different ones",
        ),
        (with(|o| o.outputs = outputs(&[])), "at least one output"),
        (with(|o| o.batch = Some(0)), "a fixed batch of 0"),
        (
            with(|o| o.batch = Some(65_535)),
            "a fixed batch of 65535 images of 64 pixels",
        ),
        (with(|o| o.opset = Some(16)), "16 is not from 17 to 21"),
        (with(|o| o.opset = Some(22)), "22 is not from 17 to 21"),
        (
            with(|o| (o.input, o.opset) = (InputKind::Any, Some(17))),
            "use 18 or newer, or input `uint8`",
        ),
        (
            with(|o| (o.input, o.dynamic_size) = (InputKind::Any, true)),
            "every size already",
        ),
    ];
    for (options, said) in cases {
        let message = options_refused(&example, options);
        assert!(message.contains(said), "{said:?} is not in: {message}");
    }
    let message = options_refused(&transformer(), with(|o| o.dynamic_size = true));
    assert!(message.contains("images of one size"), "{message}");

    let mut example = Example::golden();
    example.metadata.heads.pop();
    assert!(refused(&example).contains("another model"));

    let mut example = Example::golden();
    example.metadata.row_temperature = 0.0;
    assert!(refused(&example).contains("row_temperature"));

    let mut example = Example::golden();
    example.model.head_layers = 0;
    assert!(refused(&example).contains("head_layers = 0"));
}

#[test]
fn a_backbone_alone_has_only_features() {
    let mut example = Example::golden();
    example.model.heads.clear();
    example.metadata.heads.clear();
    example.metadata.embedding_dim = 0;
    example
        .weights
        .retain(|name, _| name.starts_with("backbone."));
    assert_eq!(writer(&example).outputs().expect("planned"), ["features"]);
    writer(&example).to_bytes().expect("writable");
    for (options, said) in [
        (
            FileOptions {
                outputs: outputs(&[Output::Embedding]),
                ..FileOptions::default()
            },
            "no output `embedding`",
        ),
        (
            FileOptions {
                heads: HeadSelection::Only(vec![0]),
                ..FileOptions::default()
            },
            "a backbone without classifiers",
        ),
    ] {
        let message = options_refused(&example, options);
        assert!(message.contains(said), "{message}");
    }
}

#[test]
fn what_is_left_out_is_neither_in_the_graph_nor_in_the_metadata() {
    let example = Example::golden();
    let contains = |options: &FileOptions, text: &str| {
        let bytes = writer(&example).options(options.clone()).to_bytes();
        let bytes = bytes.expect("writable");
        bytes
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    };
    let features = FileOptions {
        outputs: outputs(&[Output::Features]),
        ..FileOptions::default()
    };
    let metadata = writer(&example).options(features.clone()).metadata();
    assert!(metadata.expect("planned").heads.is_empty());
    for absent in ["mlp_head", "cls_0", "embedding.least_length"] {
        assert!(!contains(&features, absent), "{absent}");
    }
    assert!(contains(&features, "backbone.layer4.1.conv2"));

    let probabilities = FileOptions {
        heads: HeadSelection::Only(vec![1, 0]),
        outputs: outputs(&[Output::Probabilities]),
        ..FileOptions::default()
    };
    let metadata = writer(&example).options(probabilities.clone()).metadata();
    let metadata = metadata.expect("planned");
    assert_eq!((metadata.default_head, metadata.heads.len()), (1, 1));
    assert!(contains(&probabilities, "cls_1.weight"));
    assert!(!contains(&probabilities, "cls_0.weight"));
}

#[test]
fn outputs_have_one_order() {
    let example = Example::golden();
    let options = FileOptions {
        heads: HeadSelection::Only(vec![1, 0]),
        outputs: outputs(&Output::ALL),
        ..FileOptions::default()
    };
    assert_eq!(
        writer(&example)
            .options(options)
            .outputs()
            .expect("planned"),
        [
            "logits.0",
            "logits.1",
            "probabilities",
            "embedding",
            "features"
        ]
    );
}

#[test]
fn halves_halve_the_file_and_refuse_what_they_cannot_hold() {
    let mut example = Example::golden();
    let halves = FileOptions {
        weights: WeightKind::F16,
        ..FileOptions::default()
    };
    let length = |options: &FileOptions| {
        let bytes = writer(&example).options(options.clone()).to_bytes();
        bytes.expect("writable").len()
    };
    let (whole, half) = (length(&FileOptions::default()), length(&halves));
    assert!(half < whole * 2 / 3, "{half} of {whole}");

    let weight = example.weights.get_mut("mlp_head.mlp.3.weight");
    weight.expect("the last layer").data[0] = 7e4;
    let message = options_refused(&example, halves);
    assert!(
        message.contains("mlp_head.mlp.3.weight") && message.contains("32 bits"),
        "{message}"
    );
}

#[test]
fn weights_beside_the_file_are_the_same() {
    let example = Example::golden();
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("model.onnx");
    let always = FileOptions {
        external: ExternalData::Always,
        ..FileOptions::default()
    };
    writer(&example)
        .options(always)
        .write(&path)
        .expect("written");
    let inside = writer(&example).to_bytes().expect("writable");
    let model = std::fs::read(&path).expect("readable");
    let data = std::fs::read(folder.path().join("model.onnx.data")).expect("readable");
    assert!(model.len() < inside.len() / 2);
    // The largest weight lies there as it would lie in the file.
    let largest = &example.weights["backbone.layer4.1.conv2.weight"].data;
    assert!(data.len() > largest.len() * 4);
    let tail = &data[data.len() - 64..];
    assert!(inside.windows(64).any(|part| part == tail));
}

#[test]
fn a_written_file_opens_with_its_metadata() {
    let example = Example::golden();
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("model.onnx");
    writer(&example).write(&path).expect("written");
    let bytes = std::fs::read(&path).expect("readable");
    assert_eq!(bytes, writer(&example).to_bytes().expect("writable"));
    let options = support::options(&EngineChoice::Tract);
    let classifier = Classifier::open(&path, &options).expect("opens");
    assert_eq!(classifier.metadata(), &example.metadata);
}

#[test]
fn a_refused_model_leaves_the_old_file() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("model.onnx");
    std::fs::write(&path, "old").expect("written");
    let mut example = Example::golden();
    example.weights.clear();
    assert!(writer(&example).write(&path).is_err());
    assert_eq!(std::fs::read(&path).expect("readable"), b"old");
    assert_eq!(std::fs::read_dir(folder.path()).expect("folder").count(), 1);
}
