//! Weights of other programs, in and out.
//!
//! [`read()`] takes the `.pth`, `.pth.tar` and `.safetensors` files of the projects in [`LAYOUTS`] and
//! gives them our names, which are torchvision's behind `backbone.` and the authors' for the rest;
//! [`authors_checkpoint`] also takes the optimiser's history and the queue, so that their training can
//! go on here; [`open()`] takes our own runs and checkpoints as well. [`architecture()`] tells from the shapes which model the weights are of. The other way,
//! [`torchvision`], [`safetensors()`] and [`detectron2`] write files for PyTorch and others.
//!
//! Nothing in a file is ever executed: pickles are read as plain data.

mod architecture;
mod authors;
mod convert;
mod file;
mod layouts;
mod open;
mod pickle;
mod read;
mod snapshot;
mod torch;

pub use architecture::architecture;
pub use authors::{AuthorsCheckpoint, AuthorsOptimizer, authors_checkpoint};
pub use convert::{Part, detectron2, safetensors, torchvision};
pub use layouts::{LAYOUTS, Layout, Rule};
pub use open::{Weights, open, select, with_backbone};
pub use read::{Pretrained, read};
pub use snapshot::{evaluable, resumable, snapshot};

#[cfg(test)]
mod tests;
