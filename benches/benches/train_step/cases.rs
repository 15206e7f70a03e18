//! What is measured: shapes of training steps, and which backends are up to them.

use crate::Args;
use selfcls_backends::Backend;
use selfcls_core::Config;

/// The shape of a training step.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// The name of the backbone, ours and torchvision's.
    arch: &'static str,
    /// Of the ResNets: `model.stem`.
    stem: &'static str,
    pub(crate) batch: usize,
    pub(crate) global_size: usize,
    pub(crate) locals: usize,
    pub(crate) local_size: usize,
    /// The slowest kind of backend that is measured on it unless asked.
    pub(crate) least: Speed,
}

#[derive(PartialEq, PartialOrd)]
pub(crate) enum Speed {
    /// A second opinion, or a graphics driver that may run on a CPU.
    Slow,
    /// At home on a laptop.
    Middling,
    /// What large trainings run on.
    Fast,
    /// None: measured where it is asked for, on GPUs.
    Asked,
}

pub(crate) const CASES: [Case; 8] = [
    case("resnet18 2x32 b8", "resnet18", 8, (32, 0, 0), Speed::Slow),
    case(
        "resnet18 2x32 b64",
        "resnet18",
        64,
        (32, 0, 0),
        Speed::Middling,
    ),
    case(
        "resnet18 2x32+6x16 b64",
        "resnet18",
        64,
        (32, 6, 16),
        Speed::Middling,
    ),
    case(
        "resnet50 2x224+6x96 b8",
        "resnet50",
        8,
        (224, 6, 96),
        Speed::Fast,
    ),
    case("vit_tiny 2x224 b8", "vit_tiny", 8, (224, 0, 0), Speed::Fast),
    // The step of the preset cifar10, in larger batches, with AdamW where that is asked for.
    Case {
        stem: "cifar",
        ..case(
            "resnet18 cifar 2x32 b512",
            "resnet18",
            512,
            (32, 0, 0),
            Speed::Asked,
        )
    },
    case(
        "resnet50 2x224+6x96 b64",
        "resnet50",
        64,
        (224, 6, 96),
        Speed::Asked,
    ),
    case(
        "vit_tiny 2x224 b64",
        "vit_tiny",
        64,
        (224, 0, 0),
        Speed::Asked,
    ),
];

/// Of `batch` samples with two global views and `(global size, local views, local size)`.
const fn case(
    name: &'static str,
    arch: &'static str,
    batch: usize,
    (global_size, locals, local_size): (usize, usize, usize),
    least: Speed,
) -> Case {
    Case {
        name,
        arch,
        stem: "image-net",
        batch,
        global_size,
        locals,
        local_size,
        least,
    }
}

const HEADS: [usize; 4] = [10, 20, 40, 80];
const HIDDEN: usize = 512;
pub(crate) const DIM: usize = 128;
pub(crate) const QUEUE: usize = 16_384;
pub(crate) const GLOBALS: usize = 2;

impl Case {
    /// The configuration of this case.
    ///
    /// # Errors
    /// If this build does not know the backbone, the precision or the optimiser.
    pub(crate) fn config(&self, args: &Args) -> Result<Config, String> {
        let text = format!(
            "[model]\nbackbone = \"{}\"\nstem = \"{}\"\n[train]\nprecision = \"{}\"\nrecompute = {}\n[optim]\nkind = \"{}\"\n",
            self.arch, self.stem, args.precision, args.recompute, args.optimizer
        );
        let mut config = Config::from_toml(&text)?;
        config.model.hidden_dim = HIDDEN;
        config.model.dim = DIM;
        config.model.heads = HEADS.to_vec();
        config.queue.length = QUEUE;
        Ok(config)
    }

    pub(crate) fn peer_args(&self, optimizer: &str) -> Vec<String> {
        let mut args = Vec::new();
        for (name, value) in [
            ("--arch", self.arch),
            ("--stem", self.stem),
            ("--optimizer", optimizer),
        ] {
            args.extend([name.to_owned(), value.to_owned()]);
        }
        args.push("--heads".to_owned());
        args.extend(HEADS.map(|classes| classes.to_string()));
        for (name, value) in [
            ("--batch", self.batch),
            ("--global-size", self.global_size),
            ("--locals", self.locals),
            ("--local-size", self.local_size),
            ("--hidden", HIDDEN),
            ("--dim", DIM),
            ("--queue", QUEUE),
        ] {
            args.extend([name.to_owned(), value.to_string()]);
        }
        args
    }
}

/// What kind a backend is of.
pub(crate) fn speed(backend: Backend) -> Speed {
    match backend {
        Backend::NdArray | Backend::Wgpu => Speed::Slow,
        Backend::Flex => Speed::Middling,
        Backend::Tch => Speed::Fast,
    }
}
