//! A network to train in a test.

use selfcls_core::Config;
use selfcls_core::config::{Arch, Stem};

/// A small network of every kind of layer, on small views of two sizes, that writes down every step.
pub fn small_config() -> Config {
    let mut config = Config::default();
    config.views.global_size = 16;
    config.views.local_size = 8;
    config.views.local_count = 1;
    config.model.backbone = Arch::ResNet10;
    config.model.stem = Stem::CifarStride2;
    config.model.width = 4;
    config.model.hidden_dim = 16;
    config.model.dim = 8;
    config.train.log_every = 1;
    config
}
