//! The sections of the configuration, except the model's.
//!
//! "Paper" is arXiv 2103.10994v3; "authors' code" is their training script at its last commit.

use super::section::section;
use serde::{Deserialize, Serialize};

section! {
    /// Where the images come from and how they are read.
    "data" => DataConfig {
        /// The training images: a folder, `cifar10:FOLDER`, `cifar100:FOLDER`, `cifar20:FOLDER` (binary versions), `idx:FOLDER` (MNIST's format), tar files (`FILE.tar`, `tar:FOLDER`, `name-{000..146}.tar`), or `shapes[:COUNT]` for the built-in procedural set. The command line's --data sets it. Default "" (must be given).
        source: String = String::new(),
        /// Use only the first N images of each class, in the source's order (a folder's is sorted); 0 uses all. Without labels: the first N images. Default 0.
        limit_per_class: usize = 0,
        /// A text file that names the classes (class folders) to use, one per line: the first word (the rest is a comment, as in the authors' imagenet_subsets), or the whole line where a name has spaces. Their order numbers the labels. Default "" (all classes; the authors' --subset-file).
        classes_file: String = String::new(),
        /// Threads that decode images and make views; 0 uses all cores, beside a GPU all but one. The result does not depend on it. Default 0.
        workers: usize = 0,
        /// Keep decoded images in memory while they fit into this many MiB; 0 decodes anew each epoch. Default 1024.
        cache_mib: usize = 1024,
    }
}

/// How pixels are resampled. Both filters are antialiased, as Pillow's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interpolation {
    /// Triangle filter.
    Bilinear,
    /// Catmull-Rom-like cubic with a = -0.5.
    Bicubic,
}

section! {
    /// The random views of a training image: 2 global and any number of local crops (the recipe is DINO's multi-crop, as in the authors' code).
    "views" => ViewsConfig {
        /// Side of a global view in pixels. Default 224 (authors' code).
        global_size: usize = 224,
        /// Area of a global crop relative to the image, [smallest, largest]. Default [0.4, 1.0] (authors' code).
        global_scale: [f64; 2] = [0.4, 1.0],
        /// Number of local views; 0 disables multi-crop. Default 6 (authors' code).
        local_count: usize = 6,
        /// Side of a local view in pixels. Default 96 (authors' code).
        local_size: usize = 96,
        /// Area of a local crop relative to the image, [smallest, largest]. Default [0.05, 0.4] (authors' code).
        local_scale: [f64; 2] = [0.05, 0.4],
        /// Aspect ratio (width / height) of a crop, [smallest, largest], drawn log-uniformly. Default [0.75, 1.3333333333333333] (torchvision).
        ratio: [f64; 2] = [3.0 / 4.0, 4.0 / 3.0],
        /// Filter of the crop's resize: bilinear or bicubic. Default bicubic (authors' code).
        interpolation: Interpolation = Interpolation::Bicubic,
        /// Probability of a horizontal flip. Default 0.5 (authors' code).
        flip: f64 = 0.5,
        /// Probability of colour jitter. Default 0.8 (authors' code).
        jitter: f64 = 0.8,
        /// Brightness factor is drawn from [1 - x, 1 + x]. Default 0.4 (authors' code).
        brightness: f64 = 0.4,
        /// Contrast factor is drawn from [1 - x, 1 + x]. Default 0.4 (authors' code).
        contrast: f64 = 0.4,
        /// Saturation factor is drawn from [1 - x, 1 + x]. Default 0.2 (authors' code).
        saturation: f64 = 0.2,
        /// Hue shift is drawn from [-x, x], in turns of the colour circle; at most 0.5. Default 0.1 (authors' code).
        hue: f64 = 0.1,
        /// Probability of turning grey. Default 0.2 (authors' code).
        grey: f64 = 0.2,
        /// Probability of Gaussian blur in the first and the second global view. Default [0.1, 1.0] (authors' code).
        global_blur: [f64; 2] = [0.1, 1.0],
        /// Probability of Gaussian blur in a local view. Default 0.5 (authors' code).
        local_blur: f64 = 0.5,
        /// Standard deviation of the blur in pixels, [smallest, largest]. Default [0.1, 2.0] (authors' code).
        blur_radius: [f64; 2] = [0.1, 2.0],
        /// Probability of solarisation (values from 128 up are inverted) in the first and the second global view. Default [0.0, 0.2] (authors' code).
        global_solarise: [f64; 2] = [0.0, 0.2],
        /// Mean of the RGB channels in [0, 1], subtracted from the input. Default [0.485, 0.456, 0.406] (ImageNet).
        mean: [f64; 3] = [0.485, 0.456, 0.406],
        /// Standard deviation of the RGB channels in [0, 1], the input is divided by it. Default [0.229, 0.224, 0.225] (ImageNet).
        std: [f64; 3] = [0.229, 0.224, 0.225],
    }
}

section! {
    /// The loss: cross-entropy between views under a uniform prior over classes.
    "loss" => LossConfig {
        /// Temperature of the softmax over classes (rows of the batch x class matrix). Default 0.1 (authors' scripts).
        row_temperature: f64 = 0.1,
        /// Temperature of the softmax over the batch (columns). Default 0.05 (authors' scripts).
        col_temperature: f64 = 0.05,
        /// Guards divisions and the logarithm. Default 1e-12 (authors' code).
        eps: f64 = 1e-12,
        /// Divide each sample's targets by their sum over the classes. Default true (authors' code; false in the first arXiv version's ImageNet training).
        normalise_targets: bool = true,
        /// Divide predictions by their sum over the batch and multiply them by batch / classes, the uniform prior. Default true (authors' code; false in the first arXiv version).
        normalise_predictions: bool = true,
        /// Images of a step whose loss is coupled: the softmax over the batch, and the sums over it, are taken over so many consecutive ones, and the loss is the mean over these groups. They lie within the share of one rank, or are the shares of several; 0 couples the whole batch, over all ranks. Must divide train.batch_size. Default 0 (authors' code; a rank's own 256 in the first arXiv version's ImageNet training).
        group: usize = 0,
    }
}

section! {
    /// The queue of past embeddings that gives view 0 its nearest neighbour.
    "queue" => QueueConfig {
        /// Number of embeddings kept; 0 disables the queue and the nearest-neighbour view. Default 262144 (authors' code).
        length: usize = 262_144,
        /// Replace view 0 by its neighbour; false keeps the queue for monitoring only. Default true (authors' code).
        replace: bool = true,
    }
}

/// The optimiser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OptimKind {
    /// PyTorch's SGD with momentum, without dampening.
    #[serde(rename = "sgd")]
    Sgd,
    /// SGD with layer-wise adaptive rate scaling (LARC, as NVIDIA apex).
    #[serde(rename = "larc")]
    Larc,
    /// AdamW, as PyTorch's.
    #[serde(rename = "adamw")]
    AdamW,
    /// AdamW on gradients that LARC has scaled; the weight decay is LARC's, hence no longer decoupled.
    #[serde(rename = "larc-adamw")]
    LarcAdamW,
}

impl OptimKind {
    /// Whether LARC scales the gradients, and takes over the weight decay.
    pub fn is_larc(self) -> bool {
        matches!(self, Self::Larc | Self::LarcAdamW)
    }

    /// Whether the inner rule is AdamW's; otherwise it is SGD's.
    pub fn is_adamw(self) -> bool {
        matches!(self, Self::AdamW | Self::LarcAdamW)
    }
}

/// The learning rate over the steps after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// Half a cosine from `lr` down to `final_lr`, a new value every step.
    Cosine,
    /// The same cosine, a new value every epoch.
    CosineEpochs,
    /// `lr` throughout.
    Constant,
}

section! {
    /// Optimiser and learning-rate schedule.
    "optim" => OptimConfig {
        /// sgd, larc (around sgd), adamw or larc-adamw. Default larc (authors' scripts: --sgd --lars).
        kind: OptimKind = OptimKind::Larc,
        /// Learning rate after the warm-up. Default 4.8 (authors' code, for a total batch of 4096).
        lr: f64 = 4.8,
        /// Learning rate at the first step of the warm-up. Default 0.3 (authors' code).
        start_lr: f64 = 0.3,
        /// Learning rate towards which the cosine falls. Default 0.0048 (authors' scripts).
        final_lr: f64 = 0.0048,
        /// cosine (per step), cosine-epochs (per epoch, as the first arXiv version on CIFAR) or constant. Default cosine (authors' scripts: --cos).
        schedule: Schedule = Schedule::Cosine,
        /// Epochs of linear warm-up. Default 10 (authors' code).
        warmup_epochs: usize = 10,
        /// Momentum of sgd and larc. Default 0.9 (authors' code).
        momentum: f64 = 0.9,
        /// Weight decay: added to the gradient by sgd and larc, decoupled in adamw. Default 1e-6 (authors' code).
        weight_decay: f64 = 1e-6,
        /// Weight decay of the backbone's parameters; -1 uses weight_decay. Default -1 (authors' code: --bbone-wd).
        backbone_weight_decay: f64 = -1.0,
        /// Exempt biases and all one-dimensional parameters from weight decay. Default false (authors' code).
        no_bias_weight_decay: bool = false,
        /// LARC's trust coefficient. Default 0.001 (authors' code).
        trust: f64 = 0.001,
        /// Let LARC only ever lower the learning rate (clip mode of NVIDIA apex). Default false (authors' code).
        larc_clip: bool = false,
        /// Largest gradient norm of each parameter tensor on its own; 0 disables it. Default 0 (authors' code: --clip-grad).
        clip_grad: f64 = 0.0,
        /// Largest norm of all gradients together, as PyTorch's clip_grad_norm_; 0 disables it. Default 0.
        clip_grad_global: f64 = 0.0,
        /// AdamW's decay rates of the first and second moment. Default [0.9, 0.999] (PyTorch).
        betas: [f64; 2] = [0.9, 0.999],
    }
}

/// What convolutions and linear layers are computed in. Weights, statistics and the loss are f32 always.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floating point.
    F32,
    /// bfloat16: the range of f32 with 8 bits of precision.
    Bf16,
    /// IEEE half precision: 11 bits, and a range so small that the loss must be scaled.
    Fp16,
}

section! {
    /// Epochs, batch size, seed, precision.
    "train" => TrainConfig {
        /// Passes over the data. Default 100 (authors' train_100ep).
        epochs: usize = 100,
        /// Images per step, over all ranks. The last incomplete batch of an epoch is dropped. Default 256 (authors' code).
        batch_size: usize = 256,
        /// Micro-batches that a step is split into, to train with a large batch in little memory. The loss still compares the whole batch (exactly: two passes, one forward pass more); batch normalisation sees micro-batches. Must divide batch_size. Default 1.
        accumulate: usize = 1,
        /// Ranks that share the statistics of batch normalisation: groups of this many, in the order of their numbers; 0, and more than there are, means all. 1 keeps each rank's to itself. Default 0 (authors' code: --syncbn_process_group_size).
        syncbn_group_size: usize = 0,
        /// Gradients in MiB that ranks add up in one message, which leaves as soon as the backward pass has filled it. Default 25 (PyTorch's DistributedDataParallel).
        bucket_mib: f64 = 25.0,
        /// Seconds after which a rank that has not answered is given up, and training over several processes ends with an error. Writing a checkpoint must be faster. Default 600 (PyTorch's for NCCL).
        timeout_seconds: u64 = 600,
        /// Keep only what flows between the backbone's blocks for the backward pass and compute the rest again there: less memory for one forward pass more. Default false.
        recompute: bool = false,
        /// Seed of weights, shuffles and views. Default 0.
        seed: u64 = 0,
        /// What convolutions and linear layers are computed in: f32, bf16 or fp16; the last two need --backend tch. Default f32 (authors' scripts).
        precision: Precision = Precision::F32,
        /// Steps between two lines of metrics. Default 16 (authors' code).
        log_every: usize = 16,
    }
}

section! {
    /// When checkpoints are written and which are kept.
    "checkpoint" => CheckpointConfig {
        /// Also write a checkpoint every N steps inside an epoch; 0 writes at the end of epochs only. Default 0.
        every_steps: usize = 0,
        /// Keep a milestone every N epochs; 0 keeps none. Default 25 (authors' code).
        milestone_epochs: usize = 25,
    }
}

section! {
    /// Preprocessing outside training: evaluation and the exported file.
    "eval" => EvalConfig {
        /// Length in pixels to which the short side is resized before the crop. 0: 8/7 of the crop (256 for 224), the crop itself below 64 pixels. Default 0.
        resize: usize = 0,
        /// Side of the centre crop in pixels; 0: `views.global_size`. Default 0.
        crop: usize = 0,
        /// Filter of the resize. Default bilinear (torchvision's evaluation default).
        interpolation: Interpolation = Interpolation::Bilinear,
        /// Images per forward pass. Default 256.
        batch_size: usize = 256,
    }
}

section! {
    /// What is measured after epochs: NMI, AMI, ARI and ACC of each head and k-NN accuracy where labels exist, usage and agreement of the heads in any case. It changes nothing of the training, and costs a forward pass of its images: by default, a thousand images after each epoch, about 1 % of the time of an epoch over 10,000 with two global and six local views.
    "monitor" => MonitorConfig {
        /// Measure after every N epochs; 0 never. Default 1.
        every_epochs: usize = 1,
        /// Images to measure on, written as `data.source`; those that the training does not see show more. Default "" (images of the training set, as evaluation sees them).
        data: String = String::new(),
        /// Measure on so many of them, drawn by train.seed, or on all if there are fewer. Default 1000.
        samples: usize = 1000,
        /// Neighbours of the k-NN accuracy, among the same images; 0 leaves it out. Default 20 (authors' choice in training).
        knn: usize = 20,
    }
}
