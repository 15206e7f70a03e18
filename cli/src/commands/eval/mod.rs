//! `eval`: how good the classes and the embeddings are. One file per measure.

mod clusters;
mod compare;
mod embed;
mod kmeans;
mod knn;
mod linear;
mod pictures;
mod table;
mod target;
mod usage;

use super::export::HeadChoice;
use crate::error::Result;
use crate::progress::Progress;
use crate::subject::Subject;
use clap::{Args, Subcommand};
use selfcls_core::data::Source;
use selfcls_core::eval::features::Precision;
use selfcls_core::eval::{Advice, Extracted, Gallery, Keep, Pick};
use selfcls_core::picture::{GridStyle, cluster_grid, write_png};
use std::path::Path;
use std::sync::Arc;

/// Evaluate a run, a checkpoint, an exported model or raw pixels
#[derive(Debug, Args)]
pub(crate) struct EvalArgs {
    /// What to measure
    #[command(subcommand)]
    pub(crate) measure: Measure,
}

/// What can be measured.
#[derive(Debug, Subcommand)]
pub(crate) enum Measure {
    Clusters(Box<clusters::ClustersArgs>),
    Knn(Box<knn::KnnArgs>),
    Linear(Box<linear::LinearArgs>),
    Kmeans(Box<kmeans::KMeansArgs>),
    Usage(Box<usage::UsageArgs>),
    Embed(Box<embed::EmbedArgs>),
    Compare(Box<compare::CompareArgs>),
}

pub(crate) fn run(args: &EvalArgs, progress: Progress) -> Result<()> {
    match &args.measure {
        Measure::Clusters(args) => clusters::run(args, progress),
        Measure::Knn(args) => knn::run(args, progress),
        Measure::Linear(args) => linear::run(args, progress),
        Measure::Kmeans(args) => kmeans::run(args, progress),
        Measure::Usage(args) => usage::run(args, progress),
        Measure::Embed(args) => embed::run(args, progress),
        Measure::Compare(args) => compare::run(args, progress),
    }
}

/// Writes a picture of a head's clusters, each with the images that it is most sure of.
pub(crate) fn draw_classes(
    path: &Path,
    source: &dyn Source,
    extracted: &Extracted,
    head: usize,
) -> Result<()> {
    let gallery = Gallery::new(source, extracted, head)?;
    let style = GridStyle::default();
    let rows = gallery.rows(&gallery.clusters(), style.columns, Pick::Surest, false)?;
    Ok(write_png(path, &cluster_grid(&rows, &style)?)?)
}

/// Which head of a trained model to take, and why, as `eval usage` advises: from what all heads make of the images of
/// `source`, not from labels.
pub(crate) fn advise_head(
    subject: &mut Subject,
    source: &Arc<dyn Source>,
    progress: Progress,
) -> Result<Advice> {
    let heads = target::heads(subject, HeadChoice::All)?;
    let keep = Keep::Memory(Precision::Single);
    let extracted = subject.extract(source, "comparing heads", keep, progress)?;
    Ok(usage::Comparison::new(&extracted, &heads, source.len(), 0)?.advice)
}
