//! Random views of an image for training (paper section 4.1), pixel for pixel what Pillow and
//! torchvision would make of the same choices.
//!
//! A [`Recipe`] draws a [`Plan`] from the random stream of (seed, epoch, sample, view) and carries it
//! out: crop and resize in one step from the decoded image, then everything else on [`Planes`] of the
//! view's size. All operations on bytes equal Pillow's to the bit (tests compare them with its output),
//! so what is known about training with torchvision's recipe holds here.
//!
//! Parallelism is across samples: the views of one are made on one thread, which splits and turns the
//! image's pixels once for all of them.

mod blur;
mod colour;
mod crop;
mod hue;
mod planes;
mod recipe;
pub(crate) mod resample;
mod simd;
mod transpose;

pub use crop::CropBox;
pub use planes::Planes;
pub use recipe::{ColourOp, GLOBAL_VIEWS, Plan, Recipe, resized_crop};
