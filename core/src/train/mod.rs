//! Training: the step, the loop over epochs, and a run's life on disk.
//!
//! [`Trainer`] knows no screen and no file format: it emits [`Event`]s and hands out
//! [`Snapshot`](crate::checkpoint::Snapshot)s. [`run`] puts it into a run directory: configuration,
//! records, checkpoints, automatic resume.
//!
//! # A step
//! The loss normalises over the batch, so it needs the logits of all samples at once, while memory may
//! hold the activations of few. A step is therefore cut at the embeddings E, which are small:
//!
//! 1. Embed the batch, part by part. With one part its graph is kept; with several (`train.accumulate`)
//!    nothing is recorded.
//! 2. On the whole batch, `[views, batch, dim]`: replace view 0 by its neighbours, push it into the
//!    queue, and for each head in turn compute logits, the loss L, and its gradients with respect to the
//!    classifier and to E.
//! 3. Part by part, follow `sum(E * dL/dE)` back through head and backbone (not for a view 0 that was
//!    replaced), embedding the part anew where 1 kept no graph, and add up the parameters' gradients.
//!
//! Loss, queue and gradients are those of the whole batch, however many parts there are, not an average
//! over small batches: without batch normalisation equal to a step in one part up to float rounding.
//! Batch normalisation sees one part at a time, in 1 and 3 alike (as on several devices without
//! synchronisation), and its running statistics take up each part once, in 3. Several parts cost a
//! second forward pass of backbone and head, about a third more time; the views of the whole batch stay
//! on the device.
//!
//! `loss.group` couples fewer samples than the batch; in 2 the loss is then the mean over groups.
//!
//! `train.recompute` cuts a step in one part further, at every block of the backbone: 1 keeps what flows
//! between the blocks, and 3 computes the rest again. The numbers are those of the plain step, batch
//! statistics included.
//!
//! # Several processes
//! Each rank takes a share of every part through 1 and 3. Ranks meet in between, in 2, where they exchange
//! the rows for the queue and, per head, sums over the batch
//! ([`Loss::value_and_gradient_across`](crate::loss::Loss::value_and_gradient_across)); during 3, where the
//! parameters' gradients are added up while the pass goes on
//! ([`Exchange`](crate::optim::Exchange)); and in batch normalisation
//! ([`Kernels::synchronised`](crate::kernels::Kernels::synchronised)). So `N` ranks make the steps of one
//! process with the same total batch, up to float rounding. `docs/distributed.md` has the details.

mod compatibility;
mod event;
mod monitor;
mod processors;
mod ranks;
mod recompute;
mod records;
mod run;
mod start;
mod step;
mod survey;
mod trainer;
mod transfer;
mod wishes;

pub use event::{EpochEvent, Event, HeadMeasures, MonitorEvent, StepEvent};
pub use processors::cores_of_rank;
pub use run::{Outcome, run};
pub use step::{Batch, Learner, StepOutput};
pub use trainer::Trainer;
pub use wishes::AskedBy;
