//! The method against the numbers of the authors' code, on every backend of this build.
//!
//! Each case is written once, as a function of a device; the runner instantiates it per backend. What
//! a backend must be spared stands in the runner, not in the cases. A backend whose device this
//! machine lacks is reported as `NOT RUN`, never silently passed.

#![allow(clippy::expect_used, reason = "a failed expectation is a failed test")]

mod agreement;
mod authors;
mod backbones;
mod classifier;
mod devices;
mod fixture;
mod head;
mod linear;
mod loss;
mod model;
mod optimizer;
#[cfg(feature = "tch")]
mod precision;
mod queue;
mod runner;
mod schedule;
mod training;
mod vit;

use runner::on_backends;

on_backends! {
    every {
        agreement::product_exponential_sum,
        loss::loss_and_gradients,
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
        vit::drop_path_repeats_itself,
        classifier::weights_survive_a_round_trip,
        authors::checkpoint_in_evaluation,
        authors::training_resumed_from_the_checkpoint,
        training::a_step_moves_every_parameter,
        training::fixed_classifiers_stay,
        training::drop_path_follows_the_step,
        training::parts_of_a_batch_give_its_gradients,
        training::the_first_version,
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
        model::resnet18_multi_view_step,
    }
}
