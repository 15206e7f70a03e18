//! Optimisers and the learning-rate schedule.
//!
//! [`Optimizer`] follows PyTorch's SGD and AdamW and NVIDIA apex's LARC around either, with the
//! authors' parameter groups and both ways of clipping. A step's order is theirs: clip, scale by LARC
//! (which takes over the weight decay), then the inner rule.
//!
//! [`Kernels::update`](crate::kernels::Kernels::update) gets all parameters at once: in burn's operations
//! ([`rule`]), or in a backend's own.
//!
//! # Cost
//! On flex a step of a ResNet-18 (two cores, 32 images of 2 x 64 pixels): 0.09 s of 6.0 s for LARC, 0.10 s
//! of 6.1 s for AdamW, 1.5 and 1.7 %. It does not grow with the batch. On libtorch every tensor is passed over
//! once, and once more for LARC's norms: for the 25.6 M parameters of a ResNet-50 28 ms on one core, where
//! PyTorch's eager loop takes 68 ms.
//!
//! Of a ResNet-50's step with LARC (8 images of 2 x 224 and 6 x 96 pixels; processor time of all threads,
//! `train_step --processor-time`, 2026-11-29) it takes 32 ms of 3.6 s on libtorch, 0.9 %, and 62 ms of 10.8 s on
//! flex, 0.6 %. GPUs were not measured.

mod exchange;
mod gradients;
mod optimizer;
pub mod rule;
mod schedule;

pub use exchange::{Arrival, Exchange};
pub use gradients::ParamGradients;
pub use optimizer::Optimizer;
pub use schedule::LrSchedule;
