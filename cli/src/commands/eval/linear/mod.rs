//! `eval linear`: how well a linear layer on the features tells classes apart; and fine-tuning.

mod summary;

use super::target::{EvalTarget, FEATURES, FeatureChoice, Needs, labelled};
use crate::error::{CliError, Result};
use crate::progress::{Progress, Stage};
use crate::signals::{steps_begin, stop_flag};
use crate::subject::{Subject, Trainable, device};
use clap::{Args, ValueEnum};
use selfcls_core::config::Precision;
use selfcls_core::data::Source;
use selfcls_core::eval::Extracted;
use selfcls_core::eval::features::source_fingerprint;
use selfcls_core::eval::linear::{
    CropFeed, Feed, LabelledFeatures, Linear, LinearConfig, LinearEvent, LinearOptimizer, Outcome,
    Probe, RandomCrops, TableFeed, Then, best,
};
use selfcls_core::runtime::Runtime;
use selfcls_core::weights::{StateDict, digest};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use summary::{Backbone, Summary};

/// Train a linear layer on the features of labelled images and classify others: top-1 and top-5 accuracy after each epoch
///
/// As the authors' lincls_eval: the backbone is frozen, every epoch sees a fresh random crop of each image, the test the
/// centre crop. --fast trains on features that are made once; --no-freeze trains the backbone too.
#[derive(Debug, Args)]
pub(crate) struct LinearArgs {
    #[command(flatten)]
    pub(crate) target: EvalTarget,
    /// Labelled images to train on; those of --data are the test
    #[arg(long, value_name = "SOURCE")]
    pub(crate) train: PathBuf,
    /// Make features once and train on them: those of the centre crops, or of N epochs of random crops that take turns
    #[arg(long, value_name = "centre|N")]
    pub(crate) fast: Option<Fast>,
    /// Train the backbone too (fine-tuning); start with a small --lr, such as 0.01
    #[arg(long, conflicts_with_all = ["fast", "features", "cache", "half"])]
    pub(crate) no_freeze: bool,
    /// Which features the layer sees
    #[arg(long, value_enum, default_value = "backbone")]
    pub(crate) features: FeatureChoice,
    /// The optimiser
    #[arg(long, value_enum, default_value = "sgd")]
    pub(crate) optimizer: OptimizerChoice,
    /// Passes over the training images
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub(crate) epochs: usize,
    /// Images per step. Without it 256 with sgd and 1024 with larc (the authors')
    #[arg(long, value_name = "N")]
    pub(crate) batch: Option<usize>,
    /// Learning rate of the first epoch; it falls to 0 along a cosine. Without it 30 with sgd and 0.8 with larc (the authors')
    #[arg(long, value_name = "RATE", allow_negative_numbers = true)]
    pub(crate) lr: Option<f64>,
    /// Momentum
    #[arg(
        long,
        value_name = "X",
        default_value_t = 0.9,
        allow_negative_numbers = true
    )]
    pub(crate) momentum: f64,
    /// Weight decay
    #[arg(
        long,
        value_name = "X",
        default_value_t = 0.0,
        allow_negative_numbers = true
    )]
    pub(crate) weight_decay: f64,
    /// Of initial weights, order and crops
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
}

/// The optimiser of the layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OptimizerChoice {
    /// Stochastic gradient descent
    Sgd,
    /// The same with layer-wise adaptive rates, as in the authors' script
    Larc,
}

/// Which features are made once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fast {
    /// Of the centre crops.
    Centre,
    /// Of so many epochs of random crops.
    Epochs(usize),
}

impl FromStr for Fast {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "centre" | "center" => Ok(Self::Centre),
            number => match number.parse() {
                Ok(epochs @ 1..) => Ok(Self::Epochs(epochs)),
                _ => Err("write centre, or a number of epochs from 1 up".into()),
            },
        }
    }
}

/// The images of an evaluation.
struct Images {
    train: Arc<dyn Source>,
    test: Arc<dyn Source>,
}

pub(super) fn run(args: &LinearArgs, progress: Progress) -> Result<()> {
    let config = args.config();
    config
        .validate()
        .map_err(|error| CliError::usage(error.to_string()))?;
    let target = &args.target;
    if target.cache.shard.is_some() {
        return Err(CliError::usage(
            "--shard: a layer is trained by one process",
        )
        .hint("shares of the features can be made: eval kmeans --train TRAIN --cache DIR --shard I/N, then this with --fast centre --cache DIR"));
    }
    let opened = device(&target.backend)?;
    let runtime = opened.runtime(Precision::F32).map_err(CliError::failure)?;
    let images = args.images()?;
    let run = Run {
        args,
        config,
        runtime,
        images,
        mode: args.mode(),
        progress,
    };
    progress.note(&format!("{}, {}", run.mode, opened.name));
    let (outcome, backbone, features) = if args.no_freeze {
        run.fine_tuned()?
    } else {
        run.frozen()?
    };
    run.report(outcome, backbone, features)
}

impl LinearArgs {
    fn config(&self) -> LinearConfig {
        let theirs = LinearConfig::of(match self.optimizer {
            OptimizerChoice::Sgd => LinearOptimizer::Sgd,
            OptimizerChoice::Larc => LinearOptimizer::Larc,
        });
        LinearConfig {
            epochs: self.epochs,
            batch_size: self.batch.unwrap_or(theirs.batch_size),
            lr: self.lr.unwrap_or(theirs.lr),
            momentum: self.momentum,
            weight_decay: self.weight_decay,
            seed: self.seed,
            ..theirs
        }
    }

    fn images(&self) -> Result<Images> {
        let test = self.target.labelled()?;
        let train = labelled(self.target.others(&self.train)?, &self.train)?;
        if train.classes() != test.classes() {
            return Err(CliError::failure(format!(
                "the classes of --train ({}) are not those of --data ({})",
                train.classes().join(", "),
                test.classes().join(", ")
            ))
            .hint("labels are the names of the sub-folders: both need the same ones"));
        }
        Ok(Images { train, test })
    }

    /// What the training sees, in words.
    fn mode(&self) -> String {
        match (self.no_freeze, self.fast) {
            (true, _) => "fine-tuning on a fresh random crop of each image in every epoch".into(),
            (false, None) => "a fresh random crop of each image in every epoch".into(),
            (false, Some(Fast::Centre)) => "features of the centre crops, made once".into(),
            (false, Some(Fast::Epochs(epochs))) => {
                format!("features of {epochs} epochs of random crops, made once")
            }
        }
    }
}

/// An evaluation, ready to run.
struct Run<'a> {
    args: &'a LinearArgs,
    config: LinearConfig,
    runtime: Runtime,
    images: Images,
    mode: String,
    progress: Progress,
}

impl Run<'_> {
    fn classes(&self) -> usize {
        self.images.test.classes().len()
    }

    /// A layer on features.
    fn frozen(&self) -> Result<(Outcome, Backbone, &'static str)> {
        let Images { train, test } = &self.images;
        let (target, seed) = (&self.args.target, self.config.seed);
        let mut subject = target.open(self.args.features, self.progress)?;
        let before = subject.network().weights_digest();
        let keep = target.keep(&subject, &**test, FEATURES, Needs::Features)?;
        let test = subject.extract(test, "test features", keep, self.progress)?;
        let width = test.features.width();
        let test = with_labels(test);
        let features = subject.features;
        let identity = format!("{:?} {features}", subject.key(&**train));
        let outcome = match self.args.fast {
            None => {
                let mut feed = CropFeed {
                    train: Arc::clone(train),
                    preprocess: subject.preprocess().clone(),
                    workers: 0,
                    seed,
                    then: Then::Features(subject.network(), test),
                };
                self.train(&mut feed, self.layer(width), identity)?
            }
            Some(fast) => {
                let (train, epochs) = self.train_features(&mut subject, fast)?;
                let mut feed = TableFeed::new(train, epochs, test, seed)?;
                self.train(&mut feed, self.layer(width), identity)?
            }
        };
        let backbone = Backbone {
            frozen: true,
            after: subject.network().weights_digest(),
            before,
        };
        if backbone.before != backbone.after {
            return Err(CliError::failure(
                "the backbone has changed although it was frozen: nothing of this evaluation can be trusted",
            )
            .hint("this is a defect of selfcls; please report it"));
        }
        Ok((outcome, backbone, features))
    }

    fn layer(&self, width: usize) -> Probe {
        Probe::frozen(&self.runtime, width, self.classes(), self.config.seed)
    }

    /// Features of the training images, and how many epochs of them there are.
    fn train_features(
        &self,
        subject: &mut Subject,
        fast: Fast,
    ) -> Result<(LabelledFeatures, usize)> {
        const NAME: &str = "training features";
        let (target, train) = (&self.args.target, &self.images.train);
        match fast {
            Fast::Centre => {
                let keep = target.keep(subject, &**train, "train-features", Needs::Features)?;
                let found = subject.extract(train, NAME, keep, self.progress)?;
                Ok((with_labels(found), 1))
            }
            Fast::Epochs(epochs) => {
                let preprocess = subject.preprocess().clone();
                let plain = subject.key(&**train);
                let crops =
                    RandomCrops::epochs(Arc::clone(train), &preprocess, self.config.seed, epochs);
                let key = crops.key(plain);
                let keep = target.keep_as(key, "train-crop-features", Needs::Features)?;
                let crops: Arc<dyn Source> = Arc::new(crops);
                let preprocess = RandomCrops::preprocess(&preprocess);
                let found = subject.extract_with(preprocess, &crops, NAME, keep, self.progress)?;
                Ok((with_labels(found), epochs))
            }
        }
    }

    /// The backbone and a layer on it.
    fn fine_tuned(&self) -> Result<(Outcome, Backbone, &'static str)> {
        let trainable = Trainable::open(
            &self.args.target.model,
            &self.runtime,
            &self.args.target.preprocess,
            self.progress,
        )?;
        let seed = self.config.seed;
        let mut feed = CropFeed {
            train: Arc::clone(&self.images.train),
            preprocess: trainable.preprocess,
            workers: 0,
            seed,
            then: Then::Images(Arc::clone(&self.images.test)),
        };
        let identity = format!(
            "{} {}",
            trainable.identity,
            source_fingerprint(&*self.images.train)
        );
        let probe = Probe::fine_tuning(
            &self.runtime,
            trainable.backbone,
            trainable.width,
            self.classes(),
            seed,
        );
        let before = backbone_digest(&probe.weights());
        let outcome = self.train(&mut feed, probe, identity)?;
        let backbone = Backbone {
            frozen: false,
            before: Some(before),
            after: Some(backbone_digest(&outcome.weights)),
        };
        Ok((outcome, backbone, "backbone"))
    }

    fn train(&self, feed: &mut dyn Feed, probe: Probe, identity: String) -> Result<Outcome> {
        let test = source_fingerprint(&*self.images.test);
        let linear = Linear {
            config: self.config.clone(),
            subject: format!("{} {identity} {test}", self.mode),
            classes: self.classes(),
            folder: self.args.target.results.folder()?,
        };
        let total = self.config.epochs * feed.samples();
        let mut shown = Shown {
            stage: self.progress.stage("training", total as u64),
            epochs: self.config.epochs,
            message: String::new(),
        };
        let stop = stop_flag();
        let mut listen = |event| shown.event(event);
        let outcome = linear.run(probe, &self.runtime, feed, &mut listen, stop)?;
        if outcome.complete {
            shown.stage.finish("done");
            return Ok(outcome);
        }
        let done = outcome.epochs.len();
        let stopped = CliError::interrupted(format!("stopped after {done} epochs"));
        Err(match linear.folder {
            Some(_) => stopped.hint("give the same command again to continue"),
            None => stopped.hint("with --out DIR it could be continued"),
        })
    }

    fn report(self, outcome: Outcome, backbone: Backbone, features: &'static str) -> Result<()> {
        let target = &self.args.target;
        let (Some(&best), Some(&last)) = (best(&outcome.epochs), outcome.epochs.last()) else {
            return Err(CliError::failure("no epoch was completed"));
        };
        let summary = Summary {
            mode: self.mode,
            features,
            optimizer: self.config.optimizer,
            lr: self.config.lr,
            batch: self.config.batch_size,
            train_samples: self.images.train.len(),
            samples: self.images.test.len(),
            classes: self.images.test.classes().len(),
            best,
            last,
            backbone,
            epochs: outcome.epochs,
        };
        if let Some(folder) = target.results.folder()? {
            summary
                .chart()
                .figure()?
                .write(&folder.join("linear.svg"))?;
        }
        target.results.print("linear", &summary, &summary.text())
    }
}

/// Shows how far the training is.
struct Shown {
    stage: Stage,
    epochs: usize,
    message: String,
}

impl Shown {
    fn event(&mut self, event: LinearEvent) {
        if !matches!(event, LinearEvent::Warning(_)) {
            steps_begin();
        }
        match event {
            LinearEvent::Resumed { epochs, steps } => self.stage.note(&format!(
                "continuing after {epochs} epochs and {steps} steps"
            )),
            LinearEvent::Progress { epoch, samples } => {
                let message = format!("epoch {epoch}/{}{}", self.epochs, self.message);
                self.stage.set(samples as u64, &message);
            }
            LinearEvent::Epoch(epoch) => {
                self.message = format!(", top-1 {:.4}", epoch.top1);
            }
            LinearEvent::Warning(text) => self.stage.note(&format!("warning: {text}")),
        }
    }
}

/// Features with the labels of their images, which [`labelled`] has made sure of.
fn with_labels(found: Extracted) -> LabelledFeatures {
    LabelledFeatures {
        features: found.features,
        labels: found.labels.unwrap_or_default(),
    }
}

/// Of the backbone's part of the weights.
fn backbone_digest(weights: &StateDict) -> String {
    let backbone: StateDict = weights
        .iter()
        .filter(|(name, _)| name.starts_with("backbone."))
        .map(|(name, array)| (name.clone(), array.clone()))
        .collect();
    digest(&backbone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fast_is_centre_or_a_number_of_epochs() {
        assert_eq!("centre".parse(), Ok(Fast::Centre));
        assert_eq!("4".parse(), Ok(Fast::Epochs(4)));
        for wrong in ["0", "-1", "", "crops"] {
            assert!(wrong.parse::<Fast>().is_err(), "{wrong:?}");
        }
    }
}
