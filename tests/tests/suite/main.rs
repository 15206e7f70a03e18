//! The method against the numbers of the authors' code, on every backend of this build.
//!
//! Each case is written once, as a function of a device; the runner instantiates it per backend. What
//! a backend must be spared stands in the runner, not in the cases. A backend whose device this
//! machine lacks is reported as `NOT RUN`, never silently passed.

#![allow(clippy::expect_used, reason = "a failed expectation is a failed test")]

mod agreement;
mod authors;
mod classifier;
mod devices;
mod fixture;
mod loss;
mod model;
mod optimizer;
mod queue;
mod runner;
mod schedule;
mod training;

use runner::on_backends;

on_backends! {
    every {
        agreement::product_exponential_sum,
        loss::loss_and_gradients,
        loss::several_heads_are_averaged,
        queue::contents_and_neighbours,
        queue::a_batch_longer_than_the_queue,
        optimizer::sgd,
        optimizer::larc,
        optimizer::larc_with_clip,
        optimizer::larc_without_bias_decay,
        optimizer::adamw,
        optimizer::gradient_clipping,
        model::tiny_resnet_in_evaluation,
        model::tiny_resnet_in_training,
        model::tiny_resnet_multi_view_step,
        classifier::weights_survive_a_round_trip,
        authors::checkpoint_in_evaluation,
        authors::training_resumed_from_the_checkpoint,
        training::a_step_moves_every_parameter,
    }
    // A full ResNet-18 would take minutes on a software GPU driver and on ndarray; the tiny one covers
    // the same layers there.
    flex_and_tch {
        model::resnet18_in_evaluation,
        model::resnet18_multi_view_step,
    }
}
