//! `metrics`: how predictions in a file agree with labels in a file.

use crate::error::{CliError, Result};
use crate::output;
use clap::Args;
use selfcls_core::metrics::labels::read_labels;
use selfcls_core::metrics::{ClusterReport, SuperclassMap};
use serde::Serialize;
use std::path::PathBuf;

/// Compare cluster ids with class ids from text files: NMI, AMI, ARI and accuracy
///
/// Files hold one integer per line. The accuracy matches clusters and classes one to one so that most samples are right;
/// if there are more clusters than classes, each cluster left over counts as its most frequent class.
#[derive(Debug, Args)]
pub(crate) struct MetricsArgs {
    /// Class of each sample, one integer per line
    #[arg(long, value_name = "FILE")]
    targets: PathBuf,
    /// Cluster of each sample, one integer per line, in the same order
    #[arg(long, value_name = "FILE")]
    predictions: PathBuf,
    /// Count the accuracy over superclasses: line i of FILE is the superclass of class i (from 0), or each line is a
    /// class and its superclass
    #[arg(long, value_name = "FILE")]
    superclasses: Option<PathBuf>,
    /// Print one JSON object, fractions in full precision
    #[arg(long)]
    json: bool,
}

/// The measures of a [`ClusterReport`] as they are printed, here and by `eval clusters`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ClusterSummary {
    pub(crate) nmi: f64,
    pub(crate) ami: f64,
    pub(crate) ari: f64,
    pub(crate) acc: f64,
    pub(crate) samples: u64,
    pub(crate) classes: usize,
    pub(crate) clusters: usize,
}

impl From<&ClusterReport> for ClusterSummary {
    fn from(report: &ClusterReport) -> Self {
        Self {
            nmi: report.nmi,
            ami: report.ami,
            ari: report.ari,
            acc: report.acc,
            samples: report.samples,
            classes: report.classes,
            clusters: report.clusters,
        }
    }
}

impl ClusterSummary {
    /// A name and a value per line.
    pub(crate) fn lines(&self) -> String {
        format!(
            "nmi      {:.6}\nami      {:.6}\nari      {:.6}\nacc      {:.6}\nsamples  {}\nclasses  {}\nclusters {}\n",
            self.nmi, self.ami, self.ari, self.acc, self.samples, self.classes, self.clusters
        )
    }
}

pub(crate) fn run(args: &MetricsArgs) -> Result<()> {
    let targets = read_labels(&args.targets)?;
    let predictions = read_labels(&args.predictions)?;
    if targets.len() != predictions.len() {
        return Err(CliError::failure(format!(
            "{} has {} labels and {} has {}",
            args.targets.display(),
            targets.len(),
            args.predictions.display(),
            predictions.len()
        ))
        .hint("both files need one line per sample, in the same order"));
    }
    let report = match &args.superclasses {
        Some(path) => {
            ClusterReport::with_superclasses(&targets, &predictions, &SuperclassMap::read(path)?)?
        }
        None => ClusterReport::new(&targets, &predictions)?,
    };
    let summary = ClusterSummary::from(&report);
    if args.json {
        output::json(&summary)
    } else {
        output::text(&summary.lines())
    }
}
