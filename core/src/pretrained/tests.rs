use super::*;
use crate::config::{Arch, ModelConfig, Stem};
use crate::weights::{Array, StateDict};
use std::path::{Path, PathBuf};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/pretrained")
        .join(name)
}

/// The authors' checkpoint, shared with the suite of all backends.
fn authors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/authors_checkpoint.pth.tar")
}

/// As `values` of the fixtures' `make.py`.
fn check_values(state: &StateDict) {
    for (name, array) in state {
        let start: usize = name.bytes().map(usize::from).sum();
        for (i, &value) in array.data.iter().enumerate() {
            assert_eq!(value, ((start + 31 * i) % 97) as f32 / 64.0, "{name}[{i}]");
        }
    }
}

/// Every layout of the table, from files that PyTorch wrote: all tensors under our names with their
/// values, and what is left out named.
#[test]
fn every_layout_is_recognised_and_renamed() {
    let cases: [(&str, &str, &[&str]); 11] = [
        ("torchvision.pth", "plain ResNet", &["linear classifier"]),
        (
            "mocov2.pth.tar",
            "MoCo v2",
            &["momentum encoder", "projection head", "queue of negatives"],
        ),
        (
            "simsiam.pth.tar",
            "SimSiam",
            &["prediction head", "projection head"],
        ),
        ("swav.pth.tar", "SwAV", &["projection head", "prototypes"]),
        (
            "barlowtwins.pth",
            "Barlow Twins",
            &["normalisation of the projections", "projection head"],
        ),
        ("dino_resnet.pth", "DINO", &["projection head"]),
        ("dino_vit.pth", "DINO", &["projection head"]),
        ("vit.pth", "plain ViT", &[]),
        ("deit.pth", "plain ViT", &["linear classifier"]),
        ("obow.pth.tar", "OBoW", &["linear classifier"]),
        ("scan.pth.tar", "SCAN", &["clustering head"]),
    ];
    let mut covered = std::collections::BTreeSet::from([
        "Self-Classifier",
        "Self-Classifier v1",
        "backbone alone",
    ]);
    for (name, project, dropped) in cases {
        let weights = read(&fixture(name), &[]).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(weights.project, project, "{name}");
        assert_eq!(
            weights.dropped.keys().collect::<Vec<_>>(),
            dropped,
            "{name}"
        );
        check_values(&weights.state);
        let expected = if name.contains("vit") || name.contains("deit") {
            18
        } else {
            60
        };
        assert_eq!(weights.state.len(), expected, "{name}");
        covered.insert(project);
    }
    for layout in LAYOUTS {
        assert!(
            covered.contains(layout.project),
            "{} is not tested",
            layout.project
        );
    }
}

#[test]
fn what_a_layout_does_not_know_is_refused_unless_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("own.safetensors");
    let mut state = read(&fixture("torchvision.pth"), &[]).expect("reads").state;
    state.insert("backbone.extra".into(), Array::new([1], vec![0.0]));
    let plain: StateDict = state
        .into_iter()
        .map(|(name, array)| (name.replace("backbone.", ""), array))
        .collect();
    let whole: StateDict = plain
        .iter()
        .map(|(name, array)| (format!("backbone.{name}"), array.clone()))
        .collect();
    std::fs::write(&path, safetensors(&whole, Part::Backbone).expect("packs")).expect("writes");
    let message = read(&path, &[]).expect_err("refused").to_string();
    assert!(
        message.contains("own.safetensors") && message.contains("does not have extra"),
        "{message}"
    );
    let weights = read(&path, &["ext".into()]).expect("reads");
    assert_eq!(weights.dropped["ignored as asked"], 1);
    assert_eq!(weights.state.len(), plain.len() - 1);
    // The whole, with `backbone.` before every name.
    std::fs::write(&path, safetensors(&whole, Part::Whole).expect("packs")).expect("writes");
    let weights = read(&path, &[]).expect("reads");
    assert_eq!((weights.project, weights.state), ("backbone alone", whole));
}

#[test]
fn files_that_are_no_checkpoint_say_what_they_are() {
    let folder = tempfile::tempdir().expect("a folder");
    let refused = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).expect("writes");
        let message = read(&path, &[]).expect_err("refused").to_string();
        assert!(message.contains(name), "{message}");
        message
    };
    assert!(refused("page.pth", b"<!DOCTYPE html>").contains("not a file of torch.save"));
    assert!(refused("empty.pth", b"").contains("not a file of torch.save"));
    assert!(refused("cut.safetensors", b"\x20\0\0\0\0\0\0\0{\"a\":").contains("cut.safetensors"));
    let other = StateDict::from([("backbone.x".into(), Array::new([1], vec![f32::NAN]))]);
    let bytes = safetensors(&other, Part::Whole).expect("packs");
    assert!(refused("diverged.safetensors", &bytes).contains("NaN"));
    let message = read(&fixture("tensors.pth"), &[])
        .expect_err("refused")
        .to_string();
    assert!(
        message.contains("no known layout")
            && message.contains("transposed")
            && message.contains("MoCo v2"),
        "{message}"
    );
    let message = read(Path::new("missing.pth"), &[])
        .expect_err("refused")
        .to_string();
    assert!(message.contains("missing.pth"), "{message}");
}

/// Everything in the authors' own file: weights, momentum by parameter, the pickled queue.
#[test]
fn the_authors_checkpoint_is_read_whole() {
    let weights = read(&authors(), &[]).expect("reads");
    assert_eq!(weights.project, "Self-Classifier");
    assert!(weights.dropped.is_empty());
    let checkpoint = authors_checkpoint(&authors()).expect("reads");
    assert_eq!(checkpoint.model, weights.state);
    assert_eq!(checkpoint.epoch, 3);
    assert_eq!(checkpoint.best_loss, Some(2.649_169_206_619_262_7));
    let optimizer = &checkpoint.optimizer;
    assert!(!optimizer.adamw);
    assert_eq!(optimizer.momentum, Some(0.9));
    assert_eq!(optimizer.state.moments.len(), 70);
    for (name, moment) in &optimizer.state.moments {
        let parameter = &checkpoint.model[name.strip_suffix("#0").expect("one moment")];
        assert_eq!(moment.shape, [parameter.data.len()], "{name}");
    }
    let queue = checkpoint.queue.expect("a queue");
    assert_eq!((queue.indices.len(), queue.embeddings.len()), (16, 128));
    assert_eq!((queue.next, queue.full), (8, false));

    let message = authors_checkpoint(&fixture("mocov2.pth.tar"))
        .expect_err("refused")
        .to_string();
    assert!(message.contains("mocov2.pth.tar"), "{message}");
}

/// The first version's: an MLP called `fc`, bare classifiers that are numbered first, fixed ones without momentum.
#[test]
fn a_checkpoint_of_the_first_version_is_read_whole() {
    for (name, fixed) in [("first.pth.tar", true), ("first_cifar.pth.tar", false)] {
        let weights = read(&fixture(name), &[]).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(weights.project, "Self-Classifier v1");
        assert!(weights.dropped.is_empty());
        let mut state = weights.state.clone();
        for (head, classes) in [("cls_0", 5), ("cls_1", 3)] {
            let gain = state.remove(&format!("{head}.weight_g"));
            let ones = Array::new([classes, 1], vec![1.0; classes]);
            assert_eq!(gain, Some(ones), "{name}");
        }
        // Backbone, an MLP with one hidden layer, two classifiers.
        assert_eq!(state.len(), 60 + 8 + 2);
        check_values(&state);
        let model = architecture(&weights.state, &ModelConfig::default()).expect("known");
        assert_eq!((model.backbone, model.width), (Arch::ResNet10, 2));
        assert_eq!((model.head_layers, model.hidden_dim, model.dim), (2, 6, 8));
        assert_eq!((model.heads, model.head_bn), (vec![5, 3], true));

        let checkpoint = authors_checkpoint(&fixture(name)).expect("reads");
        assert_eq!(checkpoint.model, weights.state);
        assert_eq!((checkpoint.epoch, checkpoint.best_loss), (100, Some(4.25)));
        assert!(checkpoint.queue.is_none());
        let optimizer = checkpoint.optimizer;
        assert_eq!((optimizer.adamw, optimizer.momentum), (false, Some(0.9)));
        let moments = optimizer.state.moments;
        check_values(&moments);
        for name in state.keys().filter(|name| !name.contains("running_")) {
            let expected = !(fixed && name.starts_with("cls_"));
            assert_eq!(moments.contains_key(&format!("{name}#0")), expected);
        }
    }
}

#[test]
fn shapes_tell_the_architecture() {
    let base = ModelConfig::default();
    let model = architecture(&read(&authors(), &[]).expect("reads").state, &base).expect("known");
    let expected = ModelConfig {
        backbone: Arch::ResNet18,
        width: 4,
        hidden_dim: 16,
        dim: 8,
        heads: vec![10, 20],
        ..base.clone()
    };
    assert_eq!(model, expected);

    // A backbone alone leaves head and classifiers as they are configured.
    let mut state = read(&fixture("torchvision.pth"), &[]).expect("reads").state;
    let model = architecture(&state, &base).expect("known");
    assert_eq!((model.backbone, model.width), (Arch::ResNet10, 2));
    assert_eq!(model.heads, base.heads);
    // A 3x3 stem is one of CIFAR's; which, only the configuration knows.
    state.insert(
        "backbone.conv1.weight".into(),
        Array::new([2, 3, 3, 3], vec![0.0; 54]),
    );
    assert_eq!(
        architecture(&state, &base).expect("known").stem,
        Stem::Cifar
    );
    let strided = ModelConfig {
        stem: Stem::CifarStride2,
        ..base.clone()
    };
    assert_eq!(
        architecture(&state, &strided).expect("known").stem,
        Stem::CifarStride2
    );

    state.insert(
        "backbone.layer1.1.conv1.weight".into(),
        Array::new([1], vec![0.0]),
    );
    let message = architecture(&state, &base)
        .expect_err("refused")
        .to_string();
    assert!(message.contains("[2, 1, 1, 1]"), "{message}");
    // Hostile shapes are refused or passed on, never indexed out of bounds.
    for shape in [vec![], vec![0], vec![0; 4]] {
        for name in [
            "backbone.conv1.weight",
            "backbone.layer1.0.conv2.weight",
            "cls_0.weight_v",
        ] {
            let count = shape.iter().product();
            state.insert(name.into(), Array::new(shape.clone(), vec![0.0; count]));
            let _ = architecture(&state, &base);
        }
    }
}

/// Out as `.pth` and safetensors, of the whole and of the backbone, and in again.
#[test]
fn what_is_converted_comes_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("converted");
    let state = read(&authors(), &[]).expect("reads").state;
    let backbone: StateDict = state
        .iter()
        .filter(|(name, _)| name.starts_with("backbone."))
        .map(|(name, array)| (name.clone(), array.clone()))
        .collect();
    for (part, expected) in [(Part::Whole, &state), (Part::Backbone, &backbone)] {
        for bytes in [torchvision(&state, part), safetensors(&state, part)] {
            std::fs::write(&path, bytes.expect("converts")).expect("writes");
            assert_eq!(
                read(&path, &[]).expect("reads").state,
                *expected,
                "{part:?}"
            );
        }
    }
    let none = StateDict::from([("cls_0.weight_g".into(), Array::new([1], vec![1.0]))]);
    for result in [
        torchvision(&none, Part::Whole),
        safetensors(&none, Part::Whole),
        detectron2(&none),
    ] {
        assert!(
            result
                .expect_err("refused")
                .to_string()
                .contains("no backbone")
        );
    }
    let vit = read(&fixture("vit.pth"), &[]).expect("reads").state;
    let message = detectron2(&vit).expect_err("refused").to_string();
    assert!(message.contains("not of a ResNet"), "{message}");
}

/// The authors' head of one layer is a bare Linear, and so is ours.
#[test]
fn a_head_of_one_layer_has_no_number() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("one.pth");
    let mut state = read(&fixture("torchvision.pth"), &[]).expect("reads").state;
    state.insert(
        "mlp_head.mlp.weight".into(),
        Array::new([2, 16], vec![0.5; 32]),
    );
    state.insert("mlp_head.mlp.bias".into(), Array::new([2], vec![0.25; 2]));
    let bytes = torchvision(&state, Part::Whole).expect("converts");
    std::fs::write(&path, &bytes).expect("writes");
    let weights = read(&path, &[]).expect("reads");
    assert_eq!(weights.state, state);
    let model = architecture(&weights.state, &ModelConfig::default()).expect("known");
    assert_eq!((model.head_layers, model.dim), (1, 2));
}
