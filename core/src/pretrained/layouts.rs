//! The one table of whose checkpoints are read, and how their names become ours.

/// How the checkpoints of a project are laid out.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// The project.
    pub project: &'static str,
    /// Where the state dict is: keys of the file's dictionary, "" for the file itself. The first that
    /// has `marks` is taken.
    pub containers: &'static [&'static str],
    /// Recognised by a name that begins with one of these.
    pub marks: &'static [&'static str],
    /// What becomes of each name; the first rule whose prefix fits decides, and a name that no rule
    /// fits is refused.
    pub rules: &'static [Rule],
}

/// What becomes of names with a prefix.
#[derive(Debug, Clone, Copy)]
pub enum Rule {
    /// The prefix is replaced, and the tensor kept.
    Keep {
        /// The prefix in the file.
        from: &'static str,
        /// What we have in its place.
        to: &'static str,
    },
    /// Classifiers numbered after the prefix that are bare directions, `[classes, dim]`, made unit vectors
    /// where they are used: they get the name `weight_v`, and a gain of ones beside them.
    Directions {
        /// What comes before the number, in the file as with us.
        prefix: &'static str,
    },
    /// The tensor is knowingly left out.
    Drop {
        /// The prefix in the file.
        prefix: &'static str,
        /// What it is.
        what: &'static str,
    },
}

const fn keep(from: &'static str, to: &'static str) -> Rule {
    Rule::Keep { from, to }
}

const fn leave(prefix: &'static str, what: &'static str) -> Rule {
    Rule::Drop { prefix, what }
}

/// Prefixes that wrappers put before every name, removed where all names have them.
pub(super) const WRAPPERS: [&str; 2] = [
    // DataParallel and DistributedDataParallel.
    "module.",
    // torch.compile.
    "_orig_mod.",
];

/// Counts of batch normalisation that only its momentum-free mode uses; left out everywhere.
pub(super) const COUNTER: &str = "num_batches_tracked";

/// Other names for the same parts of a backbone.
pub(super) const SYNONYMS: [(&str, &str); 1] = [
    // SCAN's ResNet-18 for CIFAR.
    (".shortcut.", ".downsample."),
];

/// Every known layout, the more specific before the more general. Prefixes are given without those that
/// `DataParallel` and `torch.compile` put before every name, which are removed first.
pub const LAYOUTS: &[Layout] = &[
    // The authors' model_last.pth.tar, model_best.pth.tar, model_<epoch>.pth.tar; our own safetensors.
    Layout {
        project: "Self-Classifier",
        containers: &["", "state_dict"],
        marks: &["mlp_head.", "cls_0."],
        rules: &[
            keep("backbone.", "backbone."),
            keep("mlp_head.mlp.", "mlp_head.mlp."),
            keep("cls_", "cls_"),
        ],
    },
    // The same files of the first arXiv version; CIFAR's backbone has `shortcut` for `downsample`.
    Layout {
        project: "Self-Classifier v1",
        containers: &["state_dict", ""],
        marks: &["cls_0"],
        rules: &[
            keep("backbone.fc.", "mlp_head.mlp."),
            keep("backbone.", "backbone."),
            Rule::Directions { prefix: "cls_" },
        ],
    },
    // moco_v2_800ep_pretrain.pth.tar.
    Layout {
        project: "MoCo v2",
        containers: &["state_dict", ""],
        marks: &["encoder_q."],
        rules: &[
            leave("encoder_q.fc.", "projection head"),
            keep("encoder_q.", "backbone."),
            leave("encoder_k.", "momentum encoder"),
            leave("queue", "queue of negatives"),
        ],
    },
    // checkpoint_0099.pth.tar of 100-epoch pre-training.
    Layout {
        project: "SimSiam",
        containers: &["state_dict", ""],
        marks: &["encoder.layer1."],
        rules: &[
            leave("encoder.fc.", "projection head"),
            keep("encoder.", "backbone."),
            leave("predictor.", "prediction head"),
        ],
    },
    // swav_800ep_pretrain.pth.tar; DeepCluster-v2 of the same repository.
    Layout {
        project: "SwAV",
        containers: &["", "state_dict"],
        marks: &["prototypes.", "projection_head."],
        rules: &[
            leave("projection_head.", "projection head"),
            leave("prototypes.", "prototypes"),
            keep("conv1.", "backbone.conv1."),
            keep("bn1.", "backbone.bn1."),
            keep("layer", "backbone.layer"),
        ],
    },
    // checkpoint.pth of its training; the published resnet50.pth is a plain ResNet.
    Layout {
        project: "Barlow Twins",
        containers: &["model"],
        marks: &["projector."],
        rules: &[
            keep("backbone.", "backbone."),
            leave("projector.", "projection head"),
            leave("bn.", "normalisation of the projections"),
        ],
    },
    // dino_*_pretrain_full_checkpoint.pth; the published backbones are plain.
    Layout {
        project: "DINO",
        containers: &["teacher"],
        marks: &["backbone."],
        rules: &[
            keep("backbone.", "backbone."),
            leave("head.", "projection head"),
        ],
    },
    // tochvision_resnet50_student_*.pth.tar (sic).
    Layout {
        project: "OBoW",
        containers: &["network"],
        marks: &["layer1."],
        rules: &[
            leave("fc.", "linear classifier"),
            keep("conv1.", "backbone.conv1."),
            keep("bn1.", "backbone.bn1."),
            keep("layer", "backbone.layer"),
        ],
    },
    // The pretext, clustering ("model", beside the number of the best head) and self-labelling stages.
    Layout {
        project: "SCAN",
        containers: &["", "model"],
        marks: &["cluster_head.", "contrastive_head."],
        rules: &[
            keep("backbone.", "backbone."),
            leave("cluster_head.", "clustering head"),
            leave("contrastive_head.", "contrastive head"),
        ],
    },
    // torchvision; the published backbones of Barlow Twins and DINO.
    Layout {
        project: "plain ResNet",
        containers: &["", "state_dict", "model"],
        marks: &["layer1."],
        rules: &[
            leave("fc.", "linear classifier"),
            keep("conv1.", "backbone.conv1."),
            keep("bn1.", "backbone.bn1."),
            keep("layer", "backbone.layer"),
        ],
    },
    // The published backbones of DINO; DeiT ("model"); timm.
    Layout {
        project: "plain ViT",
        containers: &["", "model", "state_dict"],
        marks: &["patch_embed."],
        rules: &[
            leave("head.", "linear classifier"),
            keep("cls_token", "backbone.cls_token"),
            keep("pos_embed", "backbone.pos_embed"),
            keep("patch_embed.", "backbone.patch_embed."),
            keep("blocks.", "backbone.blocks."),
            keep("norm.", "backbone.norm."),
        ],
    },
    // What `convert --part backbone` writes.
    Layout {
        project: "backbone alone",
        containers: &["", "state_dict"],
        marks: &["backbone."],
        rules: &[keep("backbone.", "backbone.")],
    },
];
