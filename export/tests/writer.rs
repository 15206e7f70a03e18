//! What the writer promises about the file and refuses to write.

mod support;

use selfcls_core::weights::Array;
use selfcls_export::{Classifier, EngineChoice, Error, HeadSelection, OnnxWriter};
use support::model::Example;

fn writer(example: &Example) -> OnnxWriter<'_> {
    OnnxWriter::new(&example.model, &example.weights, example.metadata.clone())
}

fn refused(example: &Example) -> String {
    writer(example)
        .to_bytes()
        .expect_err("must be refused")
        .to_string()
}

#[test]
fn same_model_same_bytes() {
    let bytes = writer(&Example::golden()).to_bytes().expect("writable");
    assert_eq!(
        bytes,
        writer(&Example::golden()).to_bytes().expect("writable")
    );
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
    let error = writer(&example).heads(HeadSelection::One(1)).to_bytes();
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
    let message = writer(&example).heads(HeadSelection::One(2)).to_bytes();
    let message = message.expect_err("no such head").to_string();
    assert!(
        message.contains("no head 2; its heads are 0 to 1"),
        "{message}"
    );

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
