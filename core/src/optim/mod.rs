//! Optimisers and the learning-rate schedule.

mod optimizer;
mod rule;
mod schedule;

pub use optimizer::Optimizer;
pub use schedule::LrSchedule;
