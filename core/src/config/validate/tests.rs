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
    ("train.bucket_mib", |c| c.train.bucket_mib = 0.0),
    ("train.timeout_seconds", |c| c.train.timeout_seconds = 0),
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
    ("loss.group = 1 must divide", |c| c.loss.group = 1),
    ("loss.group = 100 must divide", |c| c.loss.group = 100),
    ("loss.group = 512 must divide", |c| c.loss.group = 512),
    ("queue.length = 255 cannot hold", |c| c.queue.length = 255),
    ("optim.lr", |c| c.optim.lr = f64::INFINITY),
    ("monitor.samples", |c| c.monitor.samples = 1),
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
    ("train.accumulate = 2; use one", |c| {
        c.train.recompute = true;
        c.train.accumulate = 2;
    }),
    ("model.views_apart", |c| {
        c.train.recompute = true;
        c.model.views_apart = true;
    }),
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

#[test]
fn what_ranks_cannot_do_is_listed_with_the_rest() {
    let mut config = Config::default();
    config.loss.eps = 0.0;
    config.loss.group = 64;
    config.train.syncbn_group_size = 5;
    config.validate_for_ranks(1).expect_err("eps");
    let Err(Error::Config(problems)) = config.validate_for_ranks(12) else {
        panic!("accepted");
    };
    let said = ["loss.eps", "loss.group = 64 cuts", "syncbn_group_size = 5"];
    assert_eq!(problems.len(), said.len(), "{problems:#?}");
    for (problem, said) in problems.iter().zip(said) {
        assert!(problem.contains(said), "{problem}");
    }
    config.loss.eps = 1e-12;
    config.train.syncbn_group_size = 0;
    for ranks in [1, 2, 4, 8, 16, 128] {
        config.validate_for_ranks(ranks).expect("possible");
    }
    let message = config.validate_for_ranks(512).expect_err("512 of 256");
    assert!(message.to_string().contains("every rank needs one"));
}

/// One image among the ranks that share statistics is normalised to nothing; without batch normalisation it may be
/// alone.
#[test]
fn batch_statistics_need_two_images() {
    let mut config = Config::default();
    config.train.batch_size = 8;
    config.train.accumulate = 2;
    let after = |config: &Config, ranks, sharing| {
        let mut config = config.clone();
        config.train.syncbn_group_size = sharing;
        config.validate_for_ranks(ranks)
    };
    after(&config, 4, 0).expect("all four together");
    after(&config, 4, 2).expect("two and two");
    after(&config, 2, 1).expect("two each");
    for (ranks, sharing) in [(4, 1), (3, 1)] {
        let message = after(&config, ranks, sharing).expect_err("one image");
        let message = message.to_string();
        let said = ["one image", "train.syncbn_group_size = 0"];
        assert!(said.iter().all(|said| message.contains(said)), "{message}");
    }
    config.model.backbone = Arch::VitTiny;
    after(&config, 4, 1).expect_err("the head normalises");
    config.model.head_bn = false;
    after(&config, 4, 1).expect("nothing does");
    config.train.accumulate = 8;
    config.validate().expect("every image by itself");
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
