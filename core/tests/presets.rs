//! The presets of the authors' experiments against the command lines of their scripts.
//!
//! `fixtures/scripts.json` holds, per script, the nodes and GPUs it asks Slurm for and the flags it
//! gives to the training program; what a script does not give comes from that program's own defaults,
//! written down here. Every value of every preset is compared.

#![allow(clippy::expect_used, reason = "a failed expectation is a failed test")]

use selfcls_core::Config;
use selfcls_core::config::presets;
use selfcls_core::config::{ClassifierInit, HeadInit, Interpolation, Layers, OptimKind, Schedule};
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct Script {
    script: String,
    nodes: usize,
    gpus: usize,
    flags: BTreeMap<String, String>,
}

impl Script {
    fn has(&self, flag: &str) -> bool {
        self.flags.contains_key(flag)
    }

    fn text<'a>(&'a self, flag: &str, default: &'a str) -> &'a str {
        self.flags.get(flag).map_or(default, String::as_str)
    }

    fn number(&self, flag: &str, default: f64) -> f64 {
        let given = self.flags.get(flag);
        given.map_or(default, |text| text.parse().expect("a number"))
    }

    fn count(&self, flag: &str, default: usize) -> usize {
        let given = self.flags.get(flag);
        given.map_or(default, |text| text.parse().expect("a count"))
    }

    fn pair(&self, flag: &str, default: [f64; 2]) -> [f64; 2] {
        let Some(text) = self.flags.get(flag) else {
            return default;
        };
        let mut numbers = text.split(' ').map(|text| text.parse().expect("a number"));
        [(); 2].map(|()| numbers.next().expect("two numbers"))
    }

    /// `-b` is what a node takes, divided among its GPUs with the remainder lost.
    fn batch(&self, default: usize) -> usize {
        self.nodes * self.gpus * (self.count("b", default) / self.gpus)
    }

    fn kind(&self) -> OptimKind {
        match (self.has("sgd"), self.has("lars")) {
            (true, true) => OptimKind::Larc,
            (true, false) => OptimKind::Sgd,
            (false, true) => OptimKind::LarcAdamW,
            (false, false) => OptimKind::AdamW,
        }
    }

    fn start(&self, backbone: &str) -> Config {
        let precision = if self.has("use-amp") { "fp16" } else { "f32" };
        let text =
            format!("[model]\nbackbone = \"{backbone}\"\n[train]\nprecision = \"{precision}\"\n");
        Config::from_toml(&text).expect("a configuration")
    }

    /// The authors' program at its last commit.
    fn paper(&self) -> Config {
        let mut c = self.start("resnet50");
        c.views.global_scale = self.pair("global-crops-scale", [0.4, 1.0]);
        c.views.local_scale = self.pair("local-crops-scale", [0.05, 0.4]);
        c.views.local_count = self.count("local-crops-number", 6);
        let sizes = self.text("cls-size", "1000").split(' ');
        c.model.heads = sizes.map(|text| text.parse().expect("a size")).collect();
        assert_eq!(c.model.heads.len(), self.count("num-cls", 1));
        c.model.dim = self.count("dim", 128);
        c.model.hidden_dim = self.count("hidden-dim", 4096);
        c.model.head_layers = self.count("num-hidden", 3);
        c.model.head_bn = self.has("use-bn");
        c.model.leaky = !self.has("no-leaky");
        c.model.fixed_classifiers = self.has("fixed-cls");
        c.loss.row_temperature = self.number("row-tau", 0.1);
        c.loss.col_temperature = self.number("col-tau", 0.05);
        c.loss.eps = self.number("eps", 1e-12);
        c.queue.length = self.count("queue-len", 262_144);
        c.queue.replace = !self.has("no-nn-aug");
        c.optim.kind = self.kind();
        c.optim.lr = self.number("lr", 4.8);
        c.optim.start_lr = self.number("start-warmup", 0.3);
        assert!(self.has("cos"));
        c.optim.schedule = Schedule::Cosine;
        c.optim.final_lr = self.flags["final-lr"].parse().expect("a rate");
        c.optim.warmup_epochs = self.count("warmup-epochs", 10);
        c.optim.momentum = self.number("momentum", 0.9);
        c.optim.weight_decay = self.number("wd", 1e-6);
        c.optim.no_bias_weight_decay = self.has("no-bias-wd");
        c.optim.clip_grad = self.number("clip-grad", 0.0);
        c.train.epochs = self.count("epochs", 800);
        c.train.batch_size = self.batch(256);
        c.train.syncbn_group_size = self.count("syncbn_process_group_size", 0);
        c.checkpoint.milestone_epochs = 25;
        c
    }

    /// What the programs of the first arXiv version have in common.
    fn first(&self, backbone: &str, heads: (usize, usize), tau: f64) -> Config {
        let mut c = self.start(backbone);
        c.views.global_scale = [0.2, 1.0];
        c.views.local_count = 0;
        c.views.interpolation = Interpolation::Bilinear;
        c.views.saturation = 0.4;
        c.views.global_blur = [0.5, 0.5];
        c.views.global_solarise = [0.0, 0.0];
        let (count, classes) = heads;
        c.model.heads = vec![self.count("cls-size", classes); self.count("num-cls", count)];
        c.model.head_bn = true;
        c.model.fixed_classifiers = !self.has("learnable-cls");
        c.model.classifier_gain = false;
        c.model.classifier_init = ClassifierInit::Orthogonal;
        c.model.head_init = HeadInit::Uniform;
        c.model.views_apart = true;
        c.loss.row_temperature = self.number("tau", tau);
        c.loss.col_temperature = self.number("tau", tau);
        c.loss.normalise_predictions = false;
        c.queue.length = 0;
        c.optim.kind = self.kind();
        c.optim.momentum = self.number("momentum", 0.9);
        c.optim.weight_decay = self.number("wd", 1e-6);
        assert!(self.has("cos"));
        c.train.syncbn_group_size = self.count("syncbn_process_group_size", 0);
        c.checkpoint.milestone_epochs = 50;
        c
    }

    fn first_imagenet(&self) -> Config {
        assert!(self.has("use-aug"), "the views without colour operations");
        let mut c = self.first("resnet50", (10, 3000), 0.1);
        c.model.dim = self.count("dim", 128);
        // Without an MLP its width is not used; the preset keeps that of the others.
        c.model.hidden_dim = self.count("hidden-dim", 4096);
        let no_mlp = self.has("no-mlp");
        c.model.head_layers = if no_mlp {
            0
        } else {
            self.count("num-hidden", 1) + 1
        };
        c.loss.normalise_targets = false;
        c.optim.lr = self.number("lr", 4.8);
        c.optim.start_lr = self.number("start-warmup", 0.3);
        c.optim.final_lr = self.number("final-lr", 0.0048);
        c.optim.schedule = Schedule::Cosine;
        c.optim.warmup_epochs = self.count("warmup-epochs", 10);
        c.train.epochs = self.count("epochs", 800);
        c.train.batch_size = self.batch(256);
        // The loss sees what its own process has: no output is gathered.
        c.loss.group = c.train.batch_size / (self.nodes * self.gpus);
        c
    }

    fn first_cifar(&self) -> Config {
        let mut c = self.first("resnet18", (30, 30), 0.3);
        let stem = Config::from_toml("[model]\nstem = \"cifar\"").expect("a stem");
        c.model.stem = stem.model.stem;
        c.views.global_size = 32;
        (c.views.mean, c.views.std) = match self.text("data", "CIFAR10") {
            "CIFAR10" => ([0.4914, 0.4822, 0.4465], [0.247, 0.243, 0.261]),
            "CIFAR100-20" => ([0.5071, 0.4867, 0.4408], [0.2675, 0.2565, 0.2761]),
            other => panic!("{other}"),
        };
        c.model.dim = self.count("dim", 64);
        c.model.hidden_dim = self.count("hidden-dim", 256);
        c.model.head_layers = self.count("num-hidden", 2) + 1;
        c.loss.normalise_targets = true;
        c.optim.lr = self.number("lr", 0.8);
        c.optim.final_lr = self.number("final-lr", 0.008);
        c.optim.schedule = Schedule::CosineEpochs;
        c.optim.warmup_epochs = 0;
        c.train.epochs = self.count("epochs", 100);
        c.train.batch_size = self.batch(32);
        c
    }
}

#[test]
fn the_authors_presets_are_their_scripts() {
    let text = include_str!("fixtures/scripts.json");
    let scripts: BTreeMap<String, Script> = serde_json::from_str(text).expect("JSON");
    for (name, script) in &scripts {
        let preset = presets::find(name).unwrap_or_else(|| panic!("no preset {name}"));
        let actual = Layers::default()
            .preset(preset)
            .and_then(Layers::resolve)
            .unwrap_or_else(|error| panic!("{name}: {error}"))
            .config;
        let expected = match name.split_once('/') {
            Some(("paper", _)) => script.paper(),
            Some((_, cifar)) if cifar.starts_with("train_cifar") => script.first_cifar(),
            _ => script.first_imagenet(),
        };
        assert_eq!(actual.to_toml(), expected.to_toml(), "{name}");

        // The comments name the script, its ranks and its total batch.
        let comments: Vec<&str> = preset
            .source
            .lines()
            .filter_map(|line| line.strip_prefix("# "))
            .collect();
        let comments = comments.join(" ");
        assert!(comments.contains(&script.script), "{name}");
        let ranks = script.nodes * script.gpus;
        let batch = expected.train.batch_size;
        let said = match ranks {
            1 => format!("1 rank of {batch} images"),
            _ => format!("of {} images, {batch} in all", batch / ranks),
        };
        assert!(comments.contains(&said), "{name}: {said}");
        assert!(
            ranks == 1 || comments.contains(&format!("{ranks} ranks")),
            "{name}"
        );
    }
    let ours = presets::all().filter(|preset| preset.name.contains('/'));
    assert_eq!(ours.count(), scripts.len(), "a preset without a script");
}

/// Figures that are easily mistaken, spelled out.
#[test]
fn places_where_the_scripts_surprise() {
    let config = |name: &str| {
        let preset = presets::find(name).expect("a preset");
        let resolved = Layers::default().preset(preset).and_then(Layers::resolve);
        resolved.expect("resolves").config
    };
    assert_eq!(config("paper/train_100ep").train.batch_size, 4092);
    assert_eq!(config("paper/train_800ep").optim.lr, 3.2);
    assert_eq!(config("paper/train_100ep_q_len_128K").optim.lr, 3.2);
    assert_eq!(config("paper/train_100ep_q_len_1M").optim.lr, 4.8);
    assert_eq!(config("paper/train_100ep_no_mlp").queue.length, 131_072);
    assert_eq!(config("paper/train_100ep_bs_256").queue.length, 16_384);
    assert_eq!(config("paper/train_100ep_bs_512").optim.warmup_epochs, 0);
    assert!(!config("paper/train_100ep_15x1k").model.head_bn);
    assert!(config("paper/train_100ep_bs_2048").model.head_bn);
    assert_eq!(config("first/train_100ep_100x128").model.heads, [128; 100]);
    assert_eq!(config("paper/train_800ep").train.syncbn_group_size, 22);
    assert_eq!(
        config("paper/train_100ep_bs_256").train.syncbn_group_size,
        0
    );
    assert_eq!(config("imagenet-1gpu").train.syncbn_group_size, 0);
}
