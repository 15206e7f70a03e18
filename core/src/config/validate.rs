//! What makes a configuration impossible, found before any data is touched.

mod ranks;

use super::backbone::HEAD_WIDTH;
use super::{Arch, Config, EvalConfig, Layout, ModelConfig, Residual, Transformer};
use crate::preprocess::Preprocess;
use crate::{Error, Result};
use std::collections::BTreeSet;

impl Config {
    /// Checks every value on its own and against the others.
    ///
    /// # Errors
    /// [`Error::Config`] with all problems at once, each with its key, its value and the fix.
    pub fn validate(&self) -> Result<()> {
        self.validate_for_ranks(1)
    }

    /// As [`validate`](Self::validate), for a training by so many ranks.
    ///
    /// # Errors
    /// As there.
    pub fn validate_for_ranks(&self, ranks: usize) -> Result<()> {
        let mut problems = Problems::default();
        self.check_views(&mut problems);
        self.check_model(&mut problems);
        self.check_loss_and_queue(&mut problems);
        self.check_optim(&mut problems);
        self.check_train(&mut problems);
        self.check_eval(&mut problems);
        self.check_monitor(&mut problems);
        self.check_ranks(ranks, &mut problems);
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
        problems.when(net.depth > Transformer::MAX_DEPTH, || {
            format!(
                "model.depth = {} must be at most {} blocks",
                net.depth,
                Transformer::MAX_DEPTH
            )
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
        problems.when(o.kind.is_larc() && o.trust == 0.0, || {
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
        problems.when(!self.parts_are_equal(), || {
            format!(
                "train.accumulate = {} must divide train.batch_size = {}: all parts of a batch are equal",
                t.accumulate, t.batch_size
            )
        });
        problems.when(!(t.bucket_mib > 0.0 && t.bucket_mib <= 1024.0), || {
            format!(
                "train.bucket_mib = {} must be above 0 and at most 1024",
                t.bucket_mib
            )
        });
        problems.when(t.timeout_seconds == 0 || t.timeout_seconds > 86_400, || {
            format!(
                "train.timeout_seconds = {} must be from 1 to 86400, a day",
                t.timeout_seconds
            )
        });
        problems.when(t.recompute && t.accumulate > 1, || {
            format!(
                "train.recompute computes activations again, and so does train.accumulate = {}; use one of them",
                t.accumulate
            )
        });
        problems.when(t.recompute && self.model.views_apart, || {
            "train.recompute cannot be combined with model.views_apart; leave one of them out"
                .into()
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

    fn check_monitor(&self, problems: &mut Problems) {
        let m = &self.monitor;
        problems.when(m.every_epochs > 0 && m.samples < 2, || {
            format!(
                "monitor.samples = {} must be at least 2; set monitor.every_epochs to 0 to measure nothing",
                m.samples
            )
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
mod tests;
