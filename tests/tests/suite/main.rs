//! The method against the numbers of the authors' code, on every backend of this build.
//!
//! Each case is written once, as a function of a device; the runner instantiates it per backend. What
//! a backend must be spared stands in the runner, not in the cases. A backend whose device this
//! machine lacks is reported as `NOT RUN`, never silently passed.
//!
//! The suite has a `main` of its own, so that it can end with the parity table. Therefore a test here is
//! a function named in `trials!`; one that only carries `#[test]` would never run, and is refused.

#![allow(clippy::expect_used, reason = "a failed expectation is a failed test")]

mod agreement;
mod authors;
mod backbones;
mod classifier;
mod devices;
mod exchange;
mod fixture;
mod golden;
mod head;
mod linear;
mod loss;
mod metrics;
mod model;
mod optimizer;
mod parity;
#[cfg(feature = "tch")]
mod precision;
mod queue;
mod ranks;
mod runner;
mod schedule;
#[cfg(feature = "flex")]
mod trainer;
mod training;
mod vit;
mod vit_small;

use runner::trials;
use std::path::Path;
use std::process::ExitCode;

trials! {
    every {
        agreement::product_exponential_sum,
        loss::loss_and_gradients,
        loss::the_gradient_written_out,
        loss::several_heads_are_averaged,
        loss::extreme_logits_stay_finite,
        queue::contents_and_neighbours,
        queue::a_batch_longer_than_the_queue,
        queue::the_block_size_changes_nothing,
        optimizer::sgd,
        optimizer::larc,
        optimizer::larc_with_clip,
        optimizer::larc_without_bias_decay,
        optimizer::adamw,
        optimizer::larc_around_adamw,
        optimizer::gradient_clipping,
        model::tiny_resnet_in_evaluation,
        model::tiny_resnet_in_training,
        model::tiny_resnet_multi_view_step,
        model::tiny_resnet50_in_evaluation,
        backbones::grouped_convolution,
        head::every_form,
        linear::three_epochs,
        linear::fine_tuning,
        linear::separable_features,
        vit::positions_at_other_sizes,
        vit::small_images_in_evaluation,
        vit_small::evaluation,
        vit_small::multi_view_step,
        vit::drop_path_repeats_itself,
        vit::each_block_drops_its_share,
        classifier::weights_survive_a_round_trip,
        authors::checkpoint_in_evaluation,
        authors::training_resumed_from_the_checkpoint,
        authors::adamw_in_groups_resumed,
        authors::larc_in_groups_resumed,
        training::a_step_moves_every_parameter,
        training::a_copy_is_not_changed_by_a_step,
        training::neighbours_of_the_same_label_are_counted,
        training::fixed_classifiers_stay,
        training::drop_path_follows_the_step,
        training::parts_of_a_batch_give_its_gradients,
        training::recomputed_activations_give_the_same_gradients,
        training::local_views_of_the_global_size,
        training::the_first_version,
        ranks::shares_give_the_loss_of_the_batch,
        ranks::groups_give_the_mean_of_their_losses,
        ranks::two_workers_of_the_authors,
        exchange::gradients_are_of_the_same_parameters_in_each_step,
        training::views_apart,
    }
    // Full networks, and deep ones backwards, would take minutes on a software GPU driver and on ndarray;
    // the tiny ones and the single layers cover the same operations there.
    flex_and_tch {
        backbones::parameter_counts,
        backbones::initial_weights,
        model::tiny_resnet50_multi_view_step,
        model::resnext_in_evaluation,
        vit::large_images_in_evaluation,
        vit::multi_view_step,
        model::resnet18_in_evaluation,
        model::resnet18_in_training,
        model::resnet18_multi_view_step,
        training::parts_skip_the_same_branches_twice,
        ranks::steps_are_those_of_one_process,
        ranks::groups_are_those_of_one_process,
    }
    tch {
        precision::losses_follow_f32,
        precision::gradients_follow_f32,
        precision::resolutions_share_casts,
        precision::extreme_logits_stay_finite,
        precision::logits_of_half_precision_are_compared_in_f32,
        precision::an_overflow_skips_the_step,
    }
    once {
        devices::every_selection_opens_or_explains,
        devices::indices_beyond_the_machine_are_refused,
        devices::what_is_listed_opens,
        devices::the_binary_finds_its_libraries,
        schedule::equals_the_authors,
        schedule::once_per_epoch,
        metrics::clusters,
        metrics::neighbours,
        #[cfg(feature = "flex")]
        trainer::a_queue_longer_than_the_data_is_warned_about,
        #[cfg(feature = "flex")]
        trainer::neighbours_are_counted_where_labels_exist,
        #[cfg(feature = "flex")]
        optimizer::parameter_groups,
        #[cfg(all(feature = "tch", feature = "flex"))]
        precision::other_backends_refuse,
    }
}

fn main() -> ExitCode {
    let arguments = libtest_mimic::Arguments::from_args();
    let mut trials = trials();
    trials.push(runner::trial("every_test_is_listed".into(), || {
        refuse_unlisted(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite"));
    }));
    let conclusion = libtest_mimic::run(&arguments, trials);
    #[expect(clippy::print_stdout, reason = "as the harness prints its results")]
    {
        print!("\n{}", parity::table());
    }
    conclusion.exit_code()
}

/// Refuses tests that only the usual harness would find.
fn refuse_unlisted(folder: &Path) {
    for entry in std::fs::read_dir(folder).expect("the suite's own sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            refuse_unlisted(&path);
            continue;
        }
        let source = std::fs::read_to_string(&path).expect("text");
        let marked = source.lines().any(|line| line.trim() == "#[test]");
        assert!(!marked, "{}: name its #[test]s in trials!", path.display());
    }
}
