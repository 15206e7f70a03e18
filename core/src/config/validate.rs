//! What makes a configuration impossible, found before any data is touched.

use super::backbone::HEAD_WIDTH;
use super::{Arch, Config, EvalConfig, Layout, ModelConfig, OptimKind, Residual, Transformer};
use crate::preprocess::Preprocess;
use crate::{Error, Result};
use std::collections::BTreeSet;

impl Config {
    /// Checks every value on its own and against the others.
    ///
    /// # Errors
    /// [`Error::Config`] with all problems at once, each with its key, its value and the fix.
    pub fn validate(&self) -> Result<()> {
        let mut problems = Problems::default();
        self.check_views(&mut problems);
        self.check_model(&mut problems);
        self.check_loss_and_queue(&mut problems);
        self.check_optim(&mut problems);
        self.check_train(&mut problems);
        self.check_eval(&mut problems);
        problems.finish()
    }

    /// The preprocessing that evaluation and the exported file use.
    pub fn preprocess(&self) -> Preprocess {
        let (resize, crop) = self.eval.sizes(self.views.global_size);
        Preprocess {
            resize,
            crop,
            interpolation: self.eval.interpolation,
            mean: self.views.mean.map(|x| x as f32),
            std: self.views.std.map(|x| x as f32),
        }
    }

    fn check_views(&self, problems: &mut Problems) {
        let v = &self.views;
        problems.when(v.global_size < 8 || v.global_size > 4096, || {
            format!(
                "views.global_size = {} must be from 8 to 4096 pixels",
                v.global_size
            )
        });
        problems.when(v.local_count > 64, || {
            format!("views.local_count = {} must be at most 64", v.local_count)
        });
        if v.local_count > 0 {
            problems.when(v.local_size < 8, || {
                format!(
                    "views.local_size = {} must be at least 8 pixels",
                    v.local_size
                )
            });
            problems.when(v.local_size > v.global_size, || {
                format!(
                    "views.local_size = {} is larger than views.global_size = {}; local views are the small ones",
                    v.local_size, v.global_size
                )
            });
            problems.range("views.local_scale", v.local_scale, 0.0, 1.0);
        }
        problems.range("views.global_scale", v.global_scale, 0.0, 1.0);
        problems.range("views.ratio", v.ratio, 0.0, 100.0);
        problems.range("views.blur_radius", v.blur_radius, 0.0, 100.0);
        for (name, p) in [
            ("views.flip", v.flip),
            ("views.jitter", v.jitter),
            ("views.grey", v.grey),
            ("views.global_blur", v.global_blur[0]),
            ("views.global_blur", v.global_blur[1]),
            ("views.local_blur", v.local_blur),
            ("views.global_solarise", v.global_solarise[0]),
            ("views.global_solarise", v.global_solarise[1]),
        ] {
            problems.when(!(0.0..=1.0).contains(&p), || {
                format!("{name} = {p} is a probability: it must be from 0 to 1")
            });
        }
        for (name, x) in [
            ("views.brightness", v.brightness),
            ("views.contrast", v.contrast),
            ("views.saturation", v.saturation),
        ] {
            problems.when(!(0.0..=1.0).contains(&x), || {
                format!("{name} = {x} must be from 0 to 1")
            });
        }
        problems.when(!(0.0..=0.5).contains(&v.hue), || {
            format!("views.hue = {} must be from 0 to 0.5", v.hue)
        });
        problems.when(v.std.iter().any(|&s| !(s > 0.0 && s.is_finite())), || {
            format!("views.std = {:?} must be positive", v.std)
        });
        problems.when(v.mean.iter().any(|m| !m.is_finite()), || {
            format!("views.mean = {:?} must be finite", v.mean)
        });
    }

    fn check_model(&self, problems: &mut Problems) {
        let m = &self.model;
        problems.when(m.width > 1024, || {
            format!(
                "model.width = {} must be at most 1024; 0 is the backbone's own",
                m.width
            )
        });
        match m.layout() {
            Layout::Residual(net) => self.check_residual(net, problems),
            Layout::Transformer(net) => self.check_transformer(net, problems),
        }
        problems.when(m.dim == 0, || "model.dim = 0 must be at least 1".into());
        problems.when(m.head_layers > 1 && m.hidden_dim == 0, || {
            "model.hidden_dim = 0 must be at least 1".into()
        });
        problems.when(m.head_layers > 16, || {
            format!("model.head_layers = {} must be at most 16", m.head_layers)
        });
        problems.when(m.head_layers == 0 && m.dim != m.backbone_dim(), || {
            format!(
                "model.head_layers = 0 leaves the backbone's {} features as they are, but model.dim = {}; set model.dim = {} or model.head_layers = 1",
                m.backbone_dim(), m.dim, m.backbone_dim()
            )
        });
        problems.when(m.heads.is_empty(), || {
            "model.heads is empty; give at least one number of classes, e.g. [10]".into()
        });
        problems.when(m.heads.len() > 1000, || {
            format!(
                "model.heads has {} entries; at most 1000 classifiers share an embedding",
                m.heads.len()
            )
        });
        for classes in m.heads.iter().copied().collect::<BTreeSet<_>>() {
            problems.when(!(2..=1_000_000).contains(&classes), || {
                format!("model.heads has {classes}; a classifier needs from 2 to 1000000 classes")
            });
        }
    }

    fn check_residual(&self, net: Residual, problems: &mut Problems) {
        let (m, usual) = (&self.model, ModelConfig::default());
        let name = backbone_name(m.backbone);
        for (key, set) in [
            ("patch_size", m.patch_size != usual.patch_size),
            ("depth", m.depth != usual.depth),
            ("drop_path", m.drop_path != usual.drop_path),
            ("position_size", m.position_size != usual.position_size),
        ] {
            problems.when(set, || {
                format!("model.{key} is for vision transformers, and model.backbone = \"{name}\" is a residual network; leave it out")
            });
        }
        problems.when(net.blocks().any(|block| block.inner == 0), || {
            format!(
                "model.width = {} leaves the groups of {name} without a channel; it needs at least {}",
                net.width,
                64usize.div_ceil(net.group_width)
            )
        });
    }

    fn check_transformer(&self, net: Transformer, problems: &mut Problems) {
        let (m, usual) = (&self.model, ModelConfig::default());
        let name = backbone_name(m.backbone);
        for (key, set) in [
            ("stem", m.stem != usual.stem),
            ("zero_init", m.zero_init != usual.zero_init),
        ] {
            problems.when(set, || {
                format!("model.{key} is for residual networks, and model.backbone = \"{name}\" is a vision transformer; leave it out")
            });
        }
        problems.when(net.dim > HEAD_WIDTH && !net.dim.is_multiple_of(HEAD_WIDTH), || {
            format!(
                "model.width = {} must be a multiple of {HEAD_WIDTH}, the width of an attention head, or smaller than one",
                net.dim
            )
        });
        problems.when(net.depth > 256, || {
            format!("model.depth = {} must be at most 256 blocks", net.depth)
        });
        problems.when(!(0.0..1.0).contains(&m.drop_path), || {
            format!(
                "model.drop_path = {} is a probability: it must be from 0 to below 1",
                m.drop_path
            )
        });
        problems.when(m.position_size > 4096, || {
            format!(
                "model.position_size = {} must be at most 4096 pixels",
                m.position_size
            )
        });
        if net.patch == 0 {
            problems.when(true, || "model.patch_size = 0 must be at least 1".into());
            return;
        }
        let (_, crop) = self.eval.sizes(self.views.global_size);
        let mut sizes = vec![
            ("model.position_size", m.position_size),
            ("views.global_size", self.views.global_size),
        ];
        if self.views.local_count > 0 {
            sizes.push(("views.local_size", self.views.local_size));
        }
        // Where it follows from the views, the message about them says it all.
        if crop != self.views.global_size {
            sizes.push(("eval.crop", crop));
        }
        for (key, size) in sizes {
            problems.when(size == 0 || !size.is_multiple_of(net.patch), || {
                let whole = size / net.patch * net.patch;
                let below = if whole > 0 {
                    format!("{whole} or ")
                } else {
                    String::new()
                };
                format!(
                    "{key} = {size} is not divisible by model.patch_size = {}; make it {below}{}",
                    net.patch,
                    whole + net.patch
                )
            });
        }
    }

    fn check_loss_and_queue(&self, problems: &mut Problems) {
        let l = &self.loss;
        for (name, t) in [
            ("loss.row_temperature", l.row_temperature),
            ("loss.col_temperature", l.col_temperature),
        ] {
            problems.when(!(t > 0.0 && t.is_finite()), || {
                format!("{name} = {t} must be positive")
            });
        }
        problems.when(!(l.eps > 0.0 && l.eps < 1.0), || {
            format!("loss.eps = {} must be between 0 and 1", l.eps)
        });
        let length = self.queue.length;
        problems.when(length == 1, || {
            "queue.length = 1 holds no second neighbour; use at least 2, or 0 to disable the queue".into()
        });
        problems.when(length > 0 && length < self.train.batch_size, || {
            format!(
                "queue.length = {length} cannot hold one batch of train.batch_size = {}; make it at least as long, or 0 to disable it",
                self.train.batch_size
            )
        });
    }

    fn check_optim(&self, problems: &mut Problems) {
        let o = &self.optim;
        for (name, x) in [
            ("optim.lr", o.lr),
            ("optim.start_lr", o.start_lr),
            ("optim.final_lr", o.final_lr),
            ("optim.weight_decay", o.weight_decay),
            ("optim.trust", o.trust),
            ("optim.clip_grad", o.clip_grad),
            ("optim.clip_grad_global", o.clip_grad_global),
        ] {
            problems.when(!(x >= 0.0 && x.is_finite()), || {
                format!("{name} = {x} must be a number from 0 up")
            });
        }
        for (name, x) in [
            ("optim.momentum", o.momentum),
            ("optim.betas", o.betas[0]),
            ("optim.betas", o.betas[1]),
        ] {
            problems.when(!(0.0..1.0).contains(&x), || {
                format!("{name} = {x} must be from 0 to below 1")
            });
        }
        let decay = o.backbone_weight_decay;
        problems.when(!(decay >= 0.0 || decay == -1.0) || !decay.is_finite(), || {
            format!(
                "optim.backbone_weight_decay = {decay} must be a number from 0 up, or -1 for that of the rest"
            )
        });
        let larc = matches!(o.kind, OptimKind::Larc | OptimKind::LarcAdamW);
        problems.when(larc && o.trust == 0.0, || {
            "optim.trust = 0 lets LARC move nothing; it must be above 0".into()
        });
        problems.when(o.clip_grad > 0.0 && o.clip_grad_global > 0.0, || {
            format!(
                "optim.clip_grad = {} and optim.clip_grad_global = {} both clip; set one of them to 0",
                o.clip_grad, o.clip_grad_global
            )
        });
        problems.when(o.warmup_epochs > self.train.epochs, || {
            format!(
                "optim.warmup_epochs = {} is longer than train.epochs = {}; shorten the warm-up",
                o.warmup_epochs, self.train.epochs
            )
        });
    }

    fn check_train(&self, problems: &mut Problems) {
        let t = &self.train;
        problems.when(t.epochs == 0, || {
            "train.epochs = 0 must be at least 1".into()
        });
        problems.when(t.batch_size < 2, || {
            format!(
                "train.batch_size = {} must be at least 2: the loss normalises over the batch",
                t.batch_size
            )
        });
        let divides = t.accumulate > 0 && t.batch_size.is_multiple_of(t.accumulate);
        problems.when(!divides, || {
            format!(
                "train.accumulate = {} must divide train.batch_size = {}: all parts of a batch are equal",
                t.accumulate, t.batch_size
            )
        });
        problems.when(divides && t.accumulate > 1 && t.batch_size < 2 * t.accumulate, || {
            format!(
                "train.accumulate = {} leaves one image in each part of train.batch_size = {}; batch normalisation needs at least 2",
                t.accumulate, t.batch_size
            )
        });
        problems.when(t.log_every == 0, || {
            "train.log_every = 0 must be at least 1".into()
        });
    }

    fn check_eval(&self, problems: &mut Problems) {
        let (resize, crop) = self.eval.sizes(self.views.global_size);
        problems.when(crop > resize, || {
            format!("eval.crop = {crop} is larger than eval.resize = {resize}; the crop is cut from the resized image")
        });
        problems.when(crop < 8, || {
            format!("eval.crop = {crop} must be at least 8 pixels")
        });
        problems.when(resize > 8192, || {
            format!("eval.resize = {resize} must be at most 8192 pixels")
        });
        problems.when(self.eval.batch_size == 0, || {
            "eval.batch_size = 0 must be at least 1".into()
        });
    }
}

impl EvalConfig {
    /// `resize` and `crop` with the automatic values filled in.
    fn sizes(&self, global_size: usize) -> (usize, usize) {
        let crop = if self.crop == 0 {
            global_size
        } else {
            self.crop
        };
        let resize = match self.resize {
            // Below 64 pixels a margin would cost more than it shows: 32-pixel images stay whole.
            0 if crop < 64 => crop,
            0 => (crop * 8 + 3) / 7,
            given => given,
        };
        (resize, crop)
    }
}

/// The backbone as it is written in TOML.
fn backbone_name(backbone: Arch) -> String {
    // Invariant: a unit variant is a string in TOML.
    let value = toml::Value::try_from(backbone).expect("a backbone is representable in TOML");
    value.as_str().unwrap_or_default().to_owned()
}

#[derive(Default)]
struct Problems(Vec<String>);

impl Problems {
    fn when(&mut self, wrong: bool, message: impl FnOnce() -> String) {
        if wrong {
            self.0.push(message());
        }
    }

    fn range(&mut self, name: &str, [low, high]: [f64; 2], above: f64, up_to: f64) {
        self.when(!(low > above && low <= high && high <= up_to), || {
            format!(
                "{name} = [{low}, {high}] must be two rising numbers above {above}, up to {up_to}"
            )
        });
    }

    fn finish(self) -> Result<()> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Error::Config(self.0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Edit = fn(&mut Config);

    /// One impossible value each, and what the message must name.
    const IMPOSSIBLE: &[(&str, Edit)] = &[
        ("views.global_size", |c| c.views.global_size = 5000),
        ("views.local_count", |c| c.views.local_count = 65),
        ("views.local_size", |c| c.views.local_size = 4),
        ("larger than views.global_size", |c| {
            c.views.local_size = 256;
        }),
        ("views.global_scale", |c| c.views.global_scale = [0.5, 0.4]),
        ("views.global_scale", |c| c.views.global_scale = [0.5, 1.5]),
        ("views.local_scale", |c| c.views.local_scale = [0.0, 0.4]),
        ("views.ratio", |c| c.views.ratio = [f64::NAN, 1.0]),
        ("views.blur_radius", |c| c.views.blur_radius = [2.0, 0.1]),
        ("views.flip", |c| c.views.flip = 1.1),
        ("views.grey", |c| c.views.grey = f64::NAN),
        ("views.global_blur", |c| c.views.global_blur = [0.1, -1.0]),
        ("views.saturation", |c| c.views.saturation = 1.5),
        ("views.hue", |c| c.views.hue = 0.6),
        ("views.std", |c| c.views.std = [0.2, 0.0, 0.2]),
        ("views.mean", |c| c.views.mean[1] = f64::INFINITY),
        ("model.width", |c| c.model.width = 2000),
        ("model.dim = 0", |c| c.model.dim = 0),
        ("model.hidden_dim", |c| c.model.hidden_dim = 0),
        ("model.head_layers = 17", |c| c.model.head_layers = 17),
        ("model.head_layers = 0", |c| {
            c.model.head_layers = 0;
            c.model.dim = 100;
        }),
        ("model.heads is empty", |c| c.model.heads.clear()),
        ("model.heads has 1;", |c| c.model.heads = vec![10, 1]),
        ("loss.row_temperature", |c| c.loss.row_temperature = 0.0),
        ("loss.col_temperature", |c| c.loss.col_temperature = -0.05),
        ("loss.col_temperature", |c| {
            c.loss.col_temperature = f64::NAN;
        }),
        ("loss.eps", |c| c.loss.eps = 0.0),
        ("queue.length = 255 cannot hold", |c| c.queue.length = 255),
        ("optim.lr", |c| c.optim.lr = f64::INFINITY),
        ("optim.start_lr", |c| c.optim.start_lr = -0.1),
        ("optim.final_lr", |c| c.optim.final_lr = f64::NAN),
        ("optim.weight_decay", |c| c.optim.weight_decay = -1.0),
        ("optim.backbone_weight_decay", |c| {
            c.optim.backbone_weight_decay = -0.5;
        }),
        ("optim.backbone_weight_decay", |c| {
            c.optim.backbone_weight_decay = f64::INFINITY;
        }),
        ("optim.momentum", |c| c.optim.momentum = 1.0),
        ("optim.betas", |c| c.optim.betas = [0.9, 1.0]),
        ("optim.trust", |c| c.optim.trust = 0.0),
        ("optim.clip_grad", |c| c.optim.clip_grad = -1.0),
        ("both clip", |c| {
            c.optim.clip_grad = 1.0;
            c.optim.clip_grad_global = 1.0;
        }),
        ("optim.warmup_epochs", |c| c.optim.warmup_epochs = 101),
        ("train.epochs", |c| {
            c.train.epochs = 0;
            c.optim.warmup_epochs = 0;
        }),
        ("train.batch_size = 1", |c| c.train.batch_size = 1),
        ("train.accumulate = 3", |c| c.train.accumulate = 3),
        ("train.accumulate = 0", |c| c.train.accumulate = 0),
        ("one image in each part", |c| c.train.accumulate = 256),
        ("train.log_every", |c| c.train.log_every = 0),
        ("larger than eval.resize", |c| c.eval.resize = 200),
        ("eval.crop", |c| c.eval.crop = 4),
        ("eval.resize", |c| c.eval.resize = 9000),
        ("eval.batch_size", |c| c.eval.batch_size = 0),
    ];

    fn problems(config: &Config) -> Vec<String> {
        match config.validate() {
            Err(Error::Config(problems)) => problems,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_impossible_value_is_refused_by_name() {
        Config::default()
            .validate()
            .expect("the defaults are possible");
        for (expected, edit) in IMPOSSIBLE {
            let mut config = Config::default();
            edit(&mut config);
            let problems = problems(&config);
            let [problem] = problems.as_slice() else {
                panic!("{expected}: {problems:#?}");
            };
            assert!(problem.contains(expected), "{expected}: {problem}");
        }
        // One row has no second neighbour; it cannot hold a batch either.
        let mut config = Config::default();
        config.queue.length = 1;
        assert_eq!(problems(&config).len(), 2);
    }

    #[test]
    fn all_problems_are_listed_at_once() {
        let mut config = Config::default();
        config.loss.row_temperature = 0.0;
        config.model.heads = vec![10, 1];
        config.model.head_layers = 0;
        config.optim.warmup_epochs = 101;
        config.train.batch_size = 1;
        config.views.local_size = 256;
        config.views.global_scale = [0.5, 0.4];
        let problems = problems(&config);
        assert_eq!(problems.len(), 7, "{problems:#?}");
        assert!(Error::Config(problems).to_string().contains("7 problems"));
    }

    #[test]
    fn unusual_but_possible_values_are_accepted() {
        let mut config = Config::default();
        config.optim.lr = 6.4; // rates above 1 are the authors' rule
        config.optim.warmup_epochs = config.train.epochs;
        config.optim.backbone_weight_decay = 0.0;
        config.train.accumulate = 128;
        config.queue.length = 0;
        config.model.head_layers = 1;
        config.views.local_size = config.views.global_size;
        config.validate().expect("possible");
    }

    fn problems_after(change: impl FnOnce(&mut Config)) -> Vec<String> {
        let mut config = Config::default();
        change(&mut config);
        match config.validate() {
            Ok(()) => Vec::new(),
            Err(Error::Config(problems)) => problems,
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn settings_of_another_kind_of_backbone_are_refused() {
        let found = problems_after(|c| {
            c.model.backbone = Arch::ResNet50;
            c.model.patch_size = 8;
            c.model.depth = 2;
            c.model.drop_path = 0.1;
            c.model.position_size = 32;
        });
        assert_eq!(found.len(), 4, "{found:#?}");
        assert!(
            found.iter().all(|p| p.contains("\"resnet50\"")),
            "{found:#?}"
        );
        let found = problems_after(|c| {
            c.model.backbone = Arch::VitSmall;
            c.model.stem = super::super::Stem::Cifar;
            c.model.zero_init = true;
        });
        assert_eq!(found.len(), 2, "{found:#?}");
        assert!(
            found.iter().all(|p| p.contains("\"vit_small\"")),
            "{found:#?}"
        );
    }

    #[test]
    fn images_are_whole_patches() {
        let found = problems_after(|c| {
            c.model.backbone = Arch::VitTiny;
            c.model.patch_size = 14;
            c.views.global_size = 100;
            c.eval.crop = 50;
        });
        for (found, said) in found.iter().zip([
            "views.global_size = 100 is not divisible by model.patch_size = 14; make it 98 or 112",
            "views.local_size = 96",
            "eval.crop = 50",
        ]) {
            assert!(found.contains(said), "{found}");
        }
        assert_eq!(found.len(), 3, "{found:#?}");
        let none = problems_after(|c| {
            c.model.backbone = Arch::DeitSmall;
            c.model.patch_size = 4;
            c.model.position_size = 32;
            c.views.global_size = 32;
            c.views.local_size = 16;
        });
        assert_eq!(none, [""; 0]);
    }

    #[test]
    fn impossible_networks_are_refused() {
        for (said, change) in [
            (
                "a multiple of 64",
                (|c| c.model.width = 100) as fn(&mut Config),
            ),
            ("model.patch_size = 0", |c| c.model.patch_size = 0),
            ("model.depth = 257", |c| c.model.depth = 257),
            ("model.drop_path = 1", |c| c.model.drop_path = 1.0),
            ("model.position_size = 8 ", |c| c.model.position_size = 8),
        ] {
            let found = problems_after(|c| {
                c.model.backbone = Arch::VitTiny;
                change(c);
            });
            assert_eq!(found.len(), 1, "{found:#?}");
            assert!(found[0].contains(said), "{found:#?}");
        }
        let found = problems_after(|c| {
            c.model.backbone = Arch::ResNext50;
            c.model.width = 8;
        });
        assert!(found[0].contains("at least 16"), "{found:#?}");
        let found = problems_after(|c| {
            c.model.backbone = Arch::ResNet50;
            c.model.head_layers = 0;
        });
        assert!(found[0].contains("model.dim = 2048"), "{found:#?}");
        let found = problems_after(|c| c.model.heads = vec![1; 1001]);
        assert_eq!(found.len(), 2, "{found:#?}");
    }

    #[test]
    fn automatic_preprocessing_sizes() {
        let mut config = Config::default();
        let p = config.preprocess();
        assert_eq!((p.resize, p.crop), (256, 224));
        config.views.global_size = 32;
        let p = config.preprocess();
        assert_eq!((p.resize, p.crop), (32, 32));
    }
}
