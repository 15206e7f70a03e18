//! Weights in and out of a model.

use crate::runner::Case;
use selfcls_core::config::{Arch, ModelConfig, Stem};
use selfcls_core::model::{state_dict, with_state_dict};

/// The CIFAR network of the presets: 307,536 parameters in its backbone, equal from equal seeds, and
/// refused by name when the weights are another model's.
pub fn weights_survive_a_round_trip(case: &Case) {
    let device = &case.runtime.device;
    let config = ModelConfig {
        backbone: Arch::ResNet10,
        stem: Stem::CifarStride2,
        width: 16,
        hidden_dim: 256,
        dim: 64,
        heads: vec![10, 20, 40, 80],
        ..Default::default()
    };
    let first = state_dict(&config.init(device, 1));
    let count = |prefix: &str| -> usize {
        first
            .iter()
            .filter(|(name, _)| name.starts_with(prefix) && !name.contains("running_"))
            .map(|(_, array)| array.data.len())
            .sum()
    };
    assert_eq!(count("backbone."), 307_536);
    assert_eq!(count(""), 367_270);
    assert_eq!(first, state_dict(&config.init(device, 1)));
    let other = config.init(device, 2);
    assert_ne!(first, state_dict(&other));
    let loaded = with_state_dict(other, &first).expect("the same model");
    assert_eq!(first, state_dict(&loaded));

    let mut wrong = first.clone();
    wrong.remove("cls_3.weight_g");
    let stem = wrong.remove("backbone.conv1.weight").expect("a stem");
    wrong.insert("backbone.fc.weight".into(), stem);
    let message = with_state_dict(loaded, &wrong)
        .expect_err("refused")
        .to_string();
    for name in [
        "cls_3.weight_g",
        "backbone.conv1.weight",
        "backbone.fc.weight",
    ] {
        assert!(message.contains(name), "{message}");
    }
}
